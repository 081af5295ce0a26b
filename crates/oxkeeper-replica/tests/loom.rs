//! The wake-ups of a connection under every order in which its threads can run: `loom` tries them one by
//! one. A connection's task, the replica's thread and a client are played here in as few lines as they
//! can be; who wakes whom is decided by the same [`Wake`] as in the server.
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
use loom::thread;
use oxkeeper_replica::Written;
use oxkeeper_replica::client::wake::Wake;

/// Something that threads wait for.
struct Waited<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Waited<T> {
    fn new(value: T) -> Waited<T> {
        Waited { value: Mutex::new(value), changed: Condvar::new() }
    }

    fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until `take` finds what it looks for.
    fn wait<R>(&self, mut take: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut value = self.value.lock().unwrap();
        loop {
            if let Some(found) = take(&mut value) {
                return found;
            }
            value = self.changed.wait(value).unwrap();
        }
    }
}

/// How the connection ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The client has all its replies.
    Client,
    /// The last request was a closeSession.
    Session,
    /// The server shuts down, at any time.
    Server,
}

#[derive(Clone, Copy)]
struct Course {
    /// Requests that the client sends at once.
    requests: u32,
    /// Requests that may be in flight; the task pauses then.
    in_flight: u32,
    /// Replies that the socket takes before the client reads.
    room: u32,
    end: End,
    /// Does the replica write replies itself?
    direct: bool,
}

/// What the client's lock guards.
#[derive(Default)]
struct Inner {
    wake: Wake,
    out: u32,
    pending: u32,
    closing: bool,
}

#[derive(Default)]
struct Writer {
    output: u32,
    room: u32,
    closing: bool,
}

/// What the task sleeps on: a wake-up, which is not lost if it comes before the sleep, or the input's end.
#[derive(Default)]
struct Alarm {
    woken: bool,
    end_of_input: bool,
}

#[derive(Default)]
struct Requests {
    arrived: u32,
    disconnected: bool,
}

struct Connection {
    course: Course,
    inner: Mutex<Inner>,
    writer: Mutex<Writer>,
    alarm: Waited<Alarm>,
    /// To the replica.
    requests: Waited<Requests>,
    /// To the client.
    replies: Waited<u32>,
}

impl Connection {
    fn new(course: Course) -> Arc<Connection> {
        Arc::new(Connection {
            course,
            inner: Mutex::default(),
            writer: Mutex::new(Writer { room: course.room, ..Writer::default() }),
            alarm: Waited::new(Alarm::default()),
            requests: Waited::new(Requests::default()),
            replies: Waited::new(0),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn ring(&self) {
        self.alarm.change(|alarm| alarm.woken = true);
    }

    // ---- the replica's thread

    fn replica(&self) {
        for request in 1..=self.course.requests {
            let arrived = self.requests.wait(|requests| {
                let arrived = requests.arrived > 0;
                requests.arrived -= u32::from(arrived);
                (arrived || requests.disconnected).then_some(arrived)
            });
            if !arrived {
                return;
            }
            let mut inner = self.inner();
            inner.pending -= 1;
            inner.out += 1;
            let closes_session = self.course.end == End::Session;
            inner.closing |= closes_session && request == self.course.requests;
            let claimed = inner.wake.claim();
            drop(inner);
            assert!(claimed, "every batch of this replica has one reply");
            if self.course.direct { self.reply() } else { self.wake() }
        }
    }

    /// `Client::wake`.
    fn wake(&self) {
        self.inner().wake.woken();
        self.ring();
    }

    /// `Client::write`.
    fn reply(&self) {
        let written = match self.writer.try_lock() {
            Err(_) => Written::NotAll,
            Ok(mut writer) => {
                self.write_what_goes(&mut writer);
                if writer.output == 0 { Written::All } else { Written::NotAll }
            }
        };
        let mut inner = self.inner();
        let closing = inner.closing;
        let wake = inner.wake.written(written, closing);
        drop(inner);
        if wake {
            self.ring();
        }
    }

    /// Returns how many replies the socket took: what was left before goes first.
    fn write_what_goes(&self, writer: &mut Writer) -> u32 {
        let left = self.write_taken(writer);
        if writer.output > 0 {
            return left;
        }
        let mut inner = self.inner();
        writer.output = std::mem::take(&mut inner.out);
        writer.closing |= inner.closing;
        drop(inner);
        left + self.write_taken(writer)
    }

    fn write_taken(&self, writer: &mut Writer) -> u32 {
        let taken = writer.output.min(writer.room);
        writer.output -= taken;
        writer.room -= taken;
        if taken > 0 {
            self.replies.change(|replies| *replies += taken);
        }
        taken
    }

    // ---- the connection's task

    fn task(&self) {
        let mut input = self.course.requests;
        loop {
            let paused = self.on_input(&mut input);
            let (written, closing) = self.write();
            if closing {
                break;
            }
            if paused && written > 0 {
                continue;
            }
            let woken = self.alarm.wait(|alarm| {
                let woken = std::mem::take(&mut alarm.woken);
                // A paused task does not read, and so does not see the end.
                (woken || !paused && alarm.end_of_input).then_some(woken)
            });
            if !woken {
                break;
            }
        }
        self.requests.change(|requests| requests.disconnected = true);
    }

    /// True: paused.
    fn on_input(&self, input: &mut u32) -> bool {
        let mut inner = self.inner();
        if inner.closing {
            inner.wake.looked(false);
            return false;
        }
        let taken = (*input).min(self.course.in_flight - inner.pending);
        *input -= taken;
        inner.pending += taken;
        let paused = *input > 0;
        inner.wake.looked(paused);
        drop(inner);
        if taken > 0 {
            self.requests.change(|requests| requests.arrived += taken);
        }
        paused
    }

    /// Writes everything; the client reads as fast as that needs. True: the connection ends.
    fn write(&self) -> (u32, bool) {
        let mut written = 0;
        loop {
            let mut writer = self.writer.lock().unwrap();
            written += self.write_what_goes(&mut writer);
            if writer.output == 0 {
                return (written, writer.closing);
            }
            writer.room += 1;
        }
    }
}

/// After a lost wake-up the task would sleep for ever: loom calls that a deadlock.
fn run(course: Course) {
    let mut model = loom::model::Builder::new();
    // Threads are interrupted so often at most; every lost wake-up known here needs one or two.
    model.preemption_bound = Some(3);
    model.check(move || {
        let connection = Connection::new(course);
        let (task, replica) = (connection.clone(), connection.clone());
        let task = thread::spawn(move || task.task());
        let replica = thread::spawn(move || replica.replica());
        match course.end {
            End::Client => {
                connection.replies.wait(|replies| (*replies == course.requests).then_some(()));
                connection.alarm.change(|alarm| alarm.end_of_input = true);
            }
            End::Session => {}
            End::Server => {
                connection.inner().closing = true;
                connection.wake();
            }
        }
        task.join().unwrap();
        replica.join().unwrap();
        if course.end == End::Session {
            connection.replies.wait(|replies| (*replies == course.requests).then_some(()));
        }
    });
}

const DIRECT: Course =
    Course { requests: 2, in_flight: 1, room: u32::MAX, end: End::Client, direct: true };

#[test]
fn a_task_that_pauses_while_its_output_is_written_is_woken() {
    run(DIRECT);
}

#[test]
fn replies_that_nobody_waits_for_need_no_wake_up() {
    run(Course { in_flight: 2, ..DIRECT });
}

#[test]
fn what_the_socket_does_not_take_at_once_is_written_by_the_task() {
    run(Course { in_flight: 2, room: 0, ..DIRECT });
}

#[test]
fn a_connection_whose_socket_is_full_ends_all_the_same() {
    run(Course { in_flight: 2, room: 0, end: End::Session, ..DIRECT });
    run(Course { requests: 1, room: 0, end: End::Server, ..DIRECT });
}

#[test]
fn a_woken_task_writes_all_replies() {
    run(Course { direct: false, ..DIRECT });
}

#[test]
fn the_end_of_a_session_ends_its_connection_behind_the_last_reply() {
    run(Course { end: End::Session, ..DIRECT });
}

#[test]
fn a_server_that_shuts_down_ends_the_connection() {
    run(Course { requests: 1, end: End::Server, ..DIRECT });
}
