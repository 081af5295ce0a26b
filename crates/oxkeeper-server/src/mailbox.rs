//! A queue that is emptied in one go: many senders, one receiving thread.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Collects items until the receiver takes all of them.
#[derive(Debug)]
pub struct Mailbox<T> {
    slot: Mutex<Slot<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Slot<T> {
    items: Vec<T>,
    /// The receiver sleeps; without it no sender makes a system call.
    waiting: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox {
            slot: Mutex::new(Slot { items: Vec::new(), waiting: false }),
            arrived: Condvar::new(),
        }
    }
}

impl<T> Mailbox<T> {
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
        let wake = std::mem::take(&mut slot.waiting);
        drop(slot);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Waits for items, or until `deadline`, and swaps them into `into` (which must be empty).
    pub fn take(&self, into: &mut Vec<T>, deadline: Option<Instant>) {
        debug_assert!(into.is_empty());
        let mut slot = self.slot.lock();
        while slot.items.is_empty() {
            slot.waiting = true;
            match deadline {
                None => self.arrived.wait(&mut slot),
                Some(deadline) => {
                    if self.arrived.wait_until(&mut slot, deadline).timed_out() {
                        slot.waiting = false;
                        break;
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
}
