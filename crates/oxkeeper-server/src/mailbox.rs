//! A queue that is emptied in one go: many senders, one receiving thread.
//!
//! A receiver may have a [`StandIn`]: then a sender that finds the thread asleep does the thread's work
//! itself, if it is little, and spares the two the hand-over. A lone request saves a context switch at
//! each step that way; under load the thread is awake, and senders only queue.

use std::sync::OnceLock;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Does what the receiving thread would do, while that sleeps.
pub trait StandIn<T>: Send + Sync {
    /// Is this little work, that nobody but the sender waits for?
    fn may(&self, items: &[T]) -> bool;
    /// Does it, leaving `items` empty. Returns when the thread must wake by itself.
    fn run(&self, items: &mut Vec<T>) -> Option<Instant>;
}

/// Times in a row that a sender stands in before it wakes the thread.
const MAX_ROUNDS: usize = 4;

/// Collects items until the receiver takes all of them.
pub struct Mailbox<T> {
    slot: Mutex<Slot<T>>,
    changed: Condvar,
    stand_in: OnceLock<Box<dyn StandIn<T>>>,
}

struct Slot<T> {
    items: Vec<T>,
    receiver: Receiver,
    /// The receiver's deadline while it sleeps.
    deadline: Option<Instant>,
    /// The deadline has passed while a sender stood in.
    late: bool,
}

/// What the receiving thread does; no sender makes a system call unless it sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiver {
    /// It runs, or has been told to.
    Awake,
    Asleep,
    /// It sleeps, and a sender does its work.
    Represented,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let receiver = Receiver::Awake;
        Mailbox {
            slot: Mutex::new(Slot { items: Vec::new(), receiver, deadline: None, late: false }),
            changed: Condvar::new(),
            stand_in: OnceLock::new(),
        }
    }
}

impl<T> std::fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl<T> Mailbox<T> {
    /// Lets senders do the receiver's work. At most once.
    pub fn represent(&self, stand_in: Box<dyn StandIn<T>>) {
        assert!(self.stand_in.set(stand_in).is_ok(), "a mailbox has one receiver");
    }

    /// Adds one item.
    pub fn push(&self, item: T) {
        self.with(|items| items.push(item));
    }

    /// Adds all of `batch`, in order, leaving it empty.
    pub fn append(&self, batch: &mut Vec<T>) {
        if !batch.is_empty() {
            self.with(|items| items.append(batch));
        }
    }

    /// Adds all items of an iterator, in order.
    pub fn extend(&self, items: impl IntoIterator<Item = T>) {
        self.with(|all| all.extend(items));
    }

    fn with(&self, add: impl FnOnce(&mut Vec<T>)) {
        let mut slot = self.slot.lock();
        add(&mut slot.items);
        if slot.receiver != Receiver::Asleep {
            return;
        }
        match self.stand_in.get() {
            Some(stand_in) if stand_in.may(&slot.items) => {
                slot.receiver = Receiver::Represented;
                let mut items = std::mem::take(&mut slot.items);
                let mut rounds = 1;
                loop {
                    drop(slot);
                    let deadline = stand_in.run(&mut items);
                    slot = self.slot.lock();
                    // What came meanwhile, most often another answer to what was sent before. But the
                    // sender has work of its own.
                    let more = !slot.items.is_empty() && stand_in.may(&slot.items);
                    if rounds == MAX_ROUNDS || !more {
                        return self.stood_in(slot, items, deadline);
                    }
                    std::mem::swap(&mut items, &mut slot.items);
                    rounds += 1;
                }
            }
            _ => {
                slot.receiver = Receiver::Awake;
                drop(slot);
                self.changed.notify_one();
            }
        }
    }

    /// Gives the work back: to nobody, unless there is some that the thread must do.
    fn stood_in(
        &self,
        mut slot: MutexGuard<'_, Slot<T>>,
        scratch: Vec<T>,
        deadline: Option<Instant>,
    ) {
        let sooner = match (deadline, slot.deadline) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(old)) => new < old,
        };
        if slot.items.is_empty() {
            slot.items = scratch;
        }
        if slot.items.is_empty() && !sooner && !slot.late {
            slot.receiver = Receiver::Asleep;
            return;
        }
        slot.receiver = Receiver::Awake;
        drop(slot);
        self.changed.notify_one();
    }

    /// Waits for items, or until `deadline`, and swaps them into `into` (which must be empty). May
    /// return nothing before the deadline if that has changed.
    pub fn take(&self, into: &mut Vec<T>, deadline: Option<Instant>) {
        debug_assert!(into.is_empty());
        let mut slot = self.slot.lock();
        if slot.items.is_empty() {
            slot.receiver = Receiver::Asleep;
            (slot.deadline, slot.late) = (deadline, false);
        }
        while slot.receiver != Receiver::Awake {
            match deadline.filter(|_| !slot.late) {
                None => self.changed.wait(&mut slot),
                Some(deadline) => {
                    if self.changed.wait_until(&mut slot, deadline).timed_out() {
                        match slot.receiver {
                            Receiver::Asleep => slot.receiver = Receiver::Awake,
                            // It knows what there is to do only when that is finished.
                            Receiver::Represented => slot.late = true,
                            Receiver::Awake => {}
                        }
                    }
                }
            }
        }
        std::mem::swap(&mut slot.items, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn a_sleeping_receiver_gets_everything_sent_meanwhile_in_order() {
        let mailbox = Arc::new(Mailbox::default());
        let sender = mailbox.clone();
        let thread = std::thread::spawn(move || {
            for i in 0..1000 {
                sender.push(i);
            }
        });
        let (mut all, mut batch) = (Vec::new(), Vec::new());
        while all.len() < 1000 {
            mailbox.take(&mut batch, Some(Instant::now() + Duration::from_secs(10)));
            assert!(!batch.is_empty(), "timed out");
            all.append(&mut batch);
        }
        thread.join().unwrap();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let mailbox = Mailbox::<u8>::default();
        let mut batch = Vec::new();
        mailbox.take(&mut batch, Some(Instant::now() + Duration::from_millis(5)));
        assert!(batch.is_empty());
    }

    /// Adds up what it gets; never two at a time.
    #[derive(Clone, Default)]
    struct Adder {
        busy: Arc<AtomicBool>,
        sum: Arc<AtomicU64>,
    }

    impl Adder {
        fn add(&self, items: &mut Vec<u64>) {
            assert!(!self.busy.swap(true, Ordering::SeqCst), "two work at the same time");
            self.sum.fetch_add(items.drain(..).sum::<u64>(), Ordering::SeqCst);
            self.busy.store(false, Ordering::SeqCst);
        }
    }

    impl StandIn<u64> for Adder {
        fn may(&self, items: &[u64]) -> bool {
            items.len() <= 2
        }

        fn run(&self, items: &mut Vec<u64>) -> Option<Instant> {
            self.add(items);
            None
        }
    }

    #[test]
    fn senders_and_receiver_never_work_at_the_same_time_and_nothing_stays_behind() {
        let adder = Adder::default();
        let mailbox = Arc::new(Mailbox::default());
        mailbox.represent(Box::new(adder.clone()));
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let mailbox = mailbox.clone();
                std::thread::spawn(move || {
                    for i in 0..5000_u64 {
                        mailbox.push(1);
                        if i % 64 == sender {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                })
            })
            .collect();
        let end = Instant::now() + Duration::from_secs(20);
        let (mut batch, mut received) = (Vec::new(), 0);
        while adder.sum.load(Ordering::SeqCst) < 20_000 {
            assert!(Instant::now() < end, "something stayed behind");
            mailbox.take(&mut batch, Some(Instant::now() + Duration::from_millis(1)));
            received += batch.len();
            adder.add(&mut batch);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(adder.sum.load(Ordering::SeqCst), 20_000);
        assert!(received < 20_000, "no sender ever stood in");
    }

    #[test]
    fn a_deadline_that_comes_closer_while_a_sender_stands_in_wakes_the_receiver() {
        struct Sooner;
        impl StandIn<u64> for Sooner {
            fn may(&self, _: &[u64]) -> bool {
                true
            }
            fn run(&self, items: &mut Vec<u64>) -> Option<Instant> {
                items.clear();
                Some(Instant::now() + Duration::from_millis(1))
            }
        }
        let mailbox = Arc::new(Mailbox::default());
        mailbox.represent(Box::new(Sooner));
        let receiver = mailbox.clone();
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            receiver.take(&mut Vec::new(), Some(start + Duration::from_secs(60)));
            start.elapsed()
        });
        // Until the receiver sleeps, a push only queues; then one is stood in for.
        while !thread.is_finished() {
            mailbox.push(1);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(thread.join().unwrap() < Duration::from_secs(30));
    }
}
