//! What is in a mailbox, and who works: the receiver, a sender in its stead, or nobody.
//!
//! ```text
//!            no items, it waits                  little work
//!   Awake ------------------------> Asleep ----------------------> Represented
//!     ^                               | ^     nothing is left          |
//!     |       much work, deadline     | +------------------------------+
//!     +-------------------------------+                                |
//!     |   items are left, the deadline came closer, or has passed      |
//!     +----------------------------------------------------------------+
//! ```
//!
//! Whoever makes it awake wakes the receiver, which is the only one to leave that state. So work is done
//! by one at a time, and whatever is in the slot has somebody who will look at it.

/// The content of a mailbox and the state of its receiver. `D`: a point in time.
#[derive(Debug)]
pub struct Slot<T, D> {
    items: Vec<T>,
    receiver: Receiver<D>,
}

/// What the receiving thread does; no sender makes a system call unless it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver<D> {
    /// It runs, or has been told to.
    Awake,
    /// It sleeps until it is woken or the deadline passes.
    Asleep { deadline: Option<D> },
    /// It sleeps, and a sender does its work. `late`: the deadline has passed meanwhile.
    Represented { deadline: Option<D>, late: bool },
}

/// What a sender does once it has added items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing: somebody is at work, and will see them.
    Leave,
    /// Wake the receiver.
    Wake,
    /// Do the receiver's work: [`Slot::collect`], work, [`Slot::stood_in`].
    StandIn,
}

impl<T, D> Default for Slot<T, D> {
    fn default() -> Self {
        Slot { items: Vec::new(), receiver: Receiver::Awake }
    }
}

impl<T, D: Copy + Ord> Slot<T, D> {
    /// What nobody has collected yet.
    pub fn items(&mut self) -> &mut Vec<T> {
        &mut self.items
    }

    /// A sender has added items. `may`: is this work that it may do itself?
    pub fn added(&mut self, may: impl FnOnce(&[T]) -> bool) -> Then {
        let Receiver::Asleep { deadline } = self.receiver else { return Then::Leave };
        if may(&self.items) {
            self.receiver = Receiver::Represented { deadline, late: false };
            Then::StandIn
        } else {
            self.receiver = Receiver::Awake;
            Then::Wake
        }
    }

    /// Swaps the items into `into`, which must be empty. For the receiver, and for a sender in its stead.
    pub fn collect(&mut self, into: &mut Vec<T>) {
        assert!(!matches!(self.receiver, Receiver::Asleep { .. }), "a sleeper does no work");
        debug_assert!(into.is_empty());
        std::mem::swap(&mut self.items, into);
    }

    /// A sender gives the work back: to nobody, unless there is some that the receiver must do.
    /// `new_deadline`: when the receiver must wake by itself from now on. True: wake it.
    #[must_use]
    pub fn stood_in(&mut self, new_deadline: Option<D>) -> bool {
        let Receiver::Represented { deadline, late } = self.receiver else {
            panic!("only a sender that stands in gives the work back");
        };
        let sooner = match (new_deadline, deadline) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(old)) => new < old,
        };
        let wake = !self.items.is_empty() || sooner || late;
        self.receiver = if wake { Receiver::Awake } else { Receiver::Asleep { deadline } };
        wake
    }

    /// The receiver has nothing else to do: it sleeps, unless there are items.
    pub fn wait(&mut self, deadline: Option<D>) {
        assert!(matches!(self.receiver, Receiver::Awake), "there is one receiver");
        if self.items.is_empty() {
            self.receiver = Receiver::Asleep { deadline };
        }
    }

    /// May the receiver run?
    pub fn is_awake(&self) -> bool {
        matches!(self.receiver, Receiver::Awake)
    }

    /// When the receiver must wake by itself. Not before it is woken, if a sender knows that it is late.
    pub fn deadline(&self) -> Option<D> {
        match self.receiver {
            Receiver::Asleep { deadline } | Receiver::Represented { deadline, late: false } => {
                deadline
            }
            Receiver::Represented { late: true, .. } | Receiver::Awake => None,
        }
    }

    /// The receiver's deadline has passed.
    pub fn passed(&mut self) {
        match &mut self.receiver {
            Receiver::Asleep { .. } => self.receiver = Receiver::Awake,
            // What there is to do is known only when the sender has finished.
            Receiver::Represented { late, .. } => *late = true,
            Receiver::Awake => {}
        }
    }
}
