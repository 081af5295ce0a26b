//! Who looks after a connection next: its own task, or whoever has something for it.
//!
//! The task of a connection sleeps until input arrives or it is woken. One thread at a time (the
//! replica's) changes a connection from outside: it adds output, it finishes requests. Then either
//!
//! - it wakes the task ([`Wake::woken`]), which writes the output and goes on with its input, or
//! - it writes the output itself ([`Wake::written`]), which spares the hand-over. The task must be
//!   woken all the same if there is more to do than to write: it has paused, the socket did not take
//!   everything, or the connection ends.
//!
//! The order matters in one place: whether the task has paused is asked after the output was taken. A
//! task that pauses later than that has seen everything that was done before, and pauses for something
//! that is still to come. `tests/loom.rs` tries every order.

/// What was left by somebody who has written a connection's output from outside its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing: the socket has all there was.
    All,
    /// Something: the socket is full or lost, or the task was writing at the same time.
    NotAll,
}

/// The part of the protocol that is guarded by the client's lock.
#[derive(Debug, Default)]
pub struct Wake {
    /// Somebody is going to wake the task or to write the output, at the end of the batch.
    due: bool,
    /// The task does not take input until it is woken.
    paused: bool,
}

impl Wake {
    /// Something was done to the connection from outside. True: nobody is going to look after it yet,
    /// so the caller must.
    #[must_use]
    pub fn claim(&mut self) -> bool {
        !std::mem::replace(&mut self.due, true)
    }

    /// The task is about to be woken. What is done from now on needs another look.
    pub fn woken(&mut self) {
        self.due = false;
    }

    /// The task has taken what input it could. `paused`: it waits to be woken before it takes more.
    pub fn looked(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// The output was written from outside, before this call. `closing`: the connection ends once its
    /// output is written. True: the task must be woken.
    #[must_use]
    pub fn written(&mut self, written: Written, closing: bool) -> bool {
        self.due = false;
        self.paused || closing || written == Written::NotAll
    }
}
