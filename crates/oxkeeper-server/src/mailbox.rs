//! A queue that is emptied in one go: many senders, one receiving thread.
//!
//! A receiver may have a [`StandIn`]: then a sender that finds the thread asleep does the thread's work
//! itself, if it is little, and spares the two the hand-over. A lone request saves a context switch at
//! each step that way; under load the thread is awake, and senders only queue.
//!
//! Who works when is for the [`Slot`] to say; how threads exclude and wake each other, for a [`Room`].

pub mod slot;

use std::ops::DerefMut;
use std::sync::OnceLock;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use slot::{Slot, Then};

/// Does what the receiving thread would do, while that sleeps.
pub trait StandIn<T, D = Instant>: Send + Sync {
    /// Is this little work, that nobody but the sender waits for?
    fn may(&self, items: &[T]) -> bool;
    /// Does it, leaving `items` empty. Returns when the thread must wake by itself.
    fn run(&self, items: &mut Vec<T>) -> Option<D>;
}

/// A lock around a slot, and a place for the receiver to sleep.
pub trait Room<T> {
    /// A point in time.
    type Deadline: Copy + Ord;
    /// Holds the lock.
    type Guard<'a>: DerefMut<Target = Slot<T, Self::Deadline>>
    where
        Self: 'a;

    /// Locks the slot.
    fn lock(&self) -> Self::Guard<'_>;
    /// Ends the receiver's sleep.
    fn wake(&self);
    /// Unlocks the slot, sleeps until woken or until `deadline`, and locks it again. True: the deadline
    /// has passed.
    fn sleep(&self, guard: &mut Self::Guard<'_>, deadline: Option<Self::Deadline>) -> bool;
}

/// Times in a row that a sender stands in before it wakes the thread.
const MAX_ROUNDS: usize = 4;

/// Collects items until the receiver takes all of them.
pub struct Mailbox<T, R: Room<T> = Threads<T>> {
    room: R,
    stand_in: OnceLock<Box<dyn StandIn<T, R::Deadline>>>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox::new(Threads::default())
    }
}

impl<T, R: Room<T>> std::fmt::Debug for Mailbox<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl<T, R: Room<T>> Mailbox<T, R> {
    /// An empty mailbox in this room.
    pub fn new(room: R) -> Self {
        Mailbox { room, stand_in: OnceLock::new() }
    }

    /// The room it is in.
    pub fn room(&self) -> &R {
        &self.room
    }

    /// Lets senders do the receiver's work. At most once.
    pub fn represent(&self, stand_in: Box<dyn StandIn<T, R::Deadline>>) {
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
        let mut slot = self.room.lock();
        add(slot.items());
        let stand_in = self.stand_in.get();
        match (slot.added(|items| stand_in.is_some_and(|it| it.may(items))), stand_in) {
            (Then::StandIn, Some(stand_in)) => self.stand_in(slot, &**stand_in),
            (Then::StandIn | Then::Leave, _) => {}
            (Then::Wake, _) => {
                drop(slot);
                self.room.wake();
            }
        }
    }

    /// Does the receiver's work, and what has come meanwhile: most often another answer to what was sent
    /// before. But the sender has work of its own.
    fn stand_in<'a>(&'a self, mut slot: R::Guard<'a>, stand_in: &dyn StandIn<T, R::Deadline>) {
        let mut items = Vec::new();
        for round in 1.. {
            slot.collect(&mut items);
            drop(slot);
            let deadline = stand_in.run(&mut items);
            slot = self.room.lock();
            let more = !slot.items().is_empty() && stand_in.may(slot.items());
            if more && round < MAX_ROUNDS {
                continue;
            }
            if slot.items().is_empty() {
                // Its capacity is of use.
                *slot.items() = items;
            }
            let wake = slot.stood_in(deadline);
            drop(slot);
            if wake {
                self.room.wake();
            }
            return;
        }
    }

    /// Waits for items, or until `deadline`, and swaps them into `into` (which must be empty). May
    /// return nothing before the deadline if that has changed.
    pub fn take(&self, into: &mut Vec<T>, deadline: Option<R::Deadline>) {
        let mut slot = self.room.lock();
        slot.wait(deadline);
        while !slot.is_awake() {
            let deadline = slot.deadline();
            if self.room.sleep(&mut slot, deadline) {
                slot.passed();
            }
        }
        slot.collect(into);
    }
}

/// The room of threads.
#[derive(Debug)]
pub struct Threads<T> {
    slot: Mutex<Slot<T, Instant>>,
    changed: Condvar,
}

impl<T> Default for Threads<T> {
    fn default() -> Self {
        Threads { slot: Mutex::default(), changed: Condvar::new() }
    }
}

impl<T> Room<T> for Threads<T> {
    type Deadline = Instant;
    type Guard<'a>
        = MutexGuard<'a, Slot<T, Instant>>
    where
        T: 'a;

    fn lock(&self) -> MutexGuard<'_, Slot<T, Instant>> {
        self.slot.lock()
    }

    fn wake(&self) {
        self.changed.notify_one();
    }

    fn sleep(
        &self,
        slot: &mut MutexGuard<'_, Slot<T, Instant>>,
        deadline: Option<Instant>,
    ) -> bool {
        match deadline {
            None => {
                self.changed.wait(slot);
                false
            }
            Some(deadline) => self.changed.wait_until(slot, deadline).timed_out(),
        }
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
