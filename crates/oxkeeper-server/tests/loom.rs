//! The mailbox under every order in which its threads can run: `loom` tries them one by one.
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use std::ops::{Deref, DerefMut};

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
use loom::thread;
use oxkeeper_server::mailbox::slot::Slot;
use oxkeeper_server::mailbox::{Mailbox, Room, StandIn};

/// A point in time.
type Time = usize;

/// Too much for a sender, as in the server.
const STOP: [u32; 8] = [u32::MAX; 8];

/// The room of loom's threads, and a clock that stands still until the test says so.
struct Model {
    slot: Mutex<Slot<u32, Time>>,
    changed: Condvar,
    now: AtomicUsize,
}

struct Guard<'a>(Option<MutexGuard<'a, Slot<u32, Time>>>);

impl Deref for Guard<'_> {
    type Target = Slot<u32, Time>;
    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("locked")
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0.as_mut().expect("locked")
    }
}

impl Room<u32> for Model {
    type Deadline = Time;
    type Guard<'a> = Guard<'a>;

    fn lock(&self) -> Guard<'_> {
        Guard(Some(self.slot.lock().unwrap()))
    }

    fn wake(&self) {
        self.changed.notify_one();
    }

    fn sleep(&self, guard: &mut Guard<'_>, deadline: Option<Time>) -> bool {
        let is_past = || deadline.is_some_and(|at| at <= self.now.load(Ordering::SeqCst));
        if is_past() {
            return true;
        }
        let locked = guard.0.take().expect("locked");
        guard.0 = Some(self.changed.wait(locked).unwrap());
        is_past()
    }
}

impl Model {
    fn new() -> Model {
        let (slot, changed) = (Mutex::new(Slot::default()), Condvar::new());
        Model { slot, changed, now: AtomicUsize::new(0) }
    }

    /// It is `now`; whoever waits for that sees it.
    fn pass(&self, now: Time) {
        self.now.store(now, Ordering::SeqCst);
        drop(self.slot.lock().unwrap());
        self.changed.notify_all();
    }
}

/// The work of a receiver, whoever does it.
struct Work {
    busy: AtomicBool,
    done: Mutex<usize>,
    more_done: Condvar,
    /// When the receiver must wake next, as a step of the replica would say.
    deadline: Option<Time>,
    /// Items that a sender does at most.
    few: usize,
}

impl Work {
    fn new(few: usize, deadline: Option<Time>) -> Arc<Work> {
        let (done, more_done) = (Mutex::new(0), Condvar::new());
        Arc::new(Work { busy: AtomicBool::new(false), done, more_done, deadline, few })
    }

    fn step(&self, items: &mut Vec<u32>) {
        assert!(!self.busy.swap(true, Ordering::SeqCst), "two work at the same time");
        *self.done.lock().unwrap() += items.drain(..).count();
        self.busy.store(false, Ordering::SeqCst);
        self.more_done.notify_one();
    }

    fn wait_for(&self, items: usize) {
        let mut done = self.done.lock().unwrap();
        while *done < items {
            done = self.more_done.wait(done).unwrap();
        }
    }
}

struct Representative(Arc<Work>);

impl StandIn<u32, Time> for Representative {
    fn may(&self, items: &[u32]) -> bool {
        items.len() <= self.0.few
    }

    fn run(&self, items: &mut Vec<u32>) -> Option<Time> {
        self.0.step(items);
        self.0.deadline
    }
}

fn mailbox(work: &Arc<Work>) -> Arc<Mailbox<u32, Model>> {
    let mailbox = Arc::new(Mailbox::new(Model::new()));
    mailbox.represent(Box::new(Representative(work.clone())));
    mailbox
}

/// Two senders, and a receiver that works until it is told to stop. If something stayed behind, all would
/// wait for ever: loom calls that a deadlock.
fn everything_is_done(few: usize) {
    loom::model(move || {
        let work = Work::new(few, None);
        let mailbox = mailbox(&work);
        let receiver = {
            let (mailbox, work) = (mailbox.clone(), work.clone());
            thread::spawn(move || {
                let mut items = Vec::new();
                loop {
                    mailbox.take(&mut items, None);
                    let before = items.len();
                    items.retain(|item| *item != STOP[0]);
                    let stop = items.len() < before;
                    work.step(&mut items);
                    if stop {
                        return;
                    }
                }
            })
        };
        let sender = {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.extend([1, 2]))
        };
        mailbox.push(3);
        sender.join().unwrap();
        work.wait_for(3);
        mailbox.extend(STOP);
        receiver.join().unwrap();
    });
}

#[test]
fn nothing_stays_behind_and_one_works_at_a_time_whoever_does_it() {
    everything_is_done(3);
}

#[test]
fn what_is_too_much_for_a_sender_is_left_to_the_receiver() {
    everything_is_done(1);
}

#[test]
fn without_a_stand_in_the_receiver_is_woken() {
    everything_is_done(0);
}

/// A receiver that sleeps until 2 while a sender stands in; time stands still but for `pass`.
fn the_receiver_wakes(new_deadline: Time, pass: Option<Time>) {
    loom::model(move || {
        let work = Work::new(7, Some(new_deadline));
        let mailbox = mailbox(&work);
        let receiver = {
            let (mailbox, work) = (mailbox.clone(), work.clone());
            thread::spawn(move || {
                let mut items = Vec::new();
                mailbox.take(&mut items, Some(2));
                work.step(&mut items);
            })
        };
        let clock = pass.map(|now| {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.room().pass(now))
        });
        mailbox.push(1);
        clock.into_iter().for_each(|clock| clock.join().unwrap());
        receiver.join().unwrap();
    });
}

#[test]
fn a_deadline_that_comes_closer_wakes_the_receiver() {
    the_receiver_wakes(1, None);
}

#[test]
fn a_deadline_that_passes_while_a_sender_stands_in_wakes_the_receiver() {
    the_receiver_wakes(9, Some(2));
}
