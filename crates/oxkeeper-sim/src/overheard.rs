//! What the cores say to their operators. All servers of a run keep the protocol, so one that accuses
//! another of breaking it has found a bug, although it only closes the connection and goes on.

use std::cell::RefCell;
use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Beginnings of accusations (`oxkeeper_zab::error::Misbehaved`). Not among them: silence, slowness, and
/// what elections sort out (another epoch, a newer history, a newer configuration).
const ACCUSATIONS: [&str; 9] = [
    "unexpected ",
    "cannot be read",
    "does not follow",
    "proposes transaction",
    "is beyond the leader's epoch",
    "ACKEPOCH of epoch",
    "commit of ",
    "ACK of ",
    "a check outside",
];

thread_local! {
    static ACCUSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Listens to the cores of this thread.
#[derive(Debug)]
pub struct Listener;

/// The first accusation since the last call.
pub fn take() -> Option<String> {
    ACCUSED.take()
}

/// Is this reason for the end of a role or link an accusation?
pub fn is_accusation(reason: &str) -> bool {
    ACCUSATIONS.iter().any(|accusation| reason.contains(accusation))
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field} {value:?} "));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        if *event.metadata().level() < Level::INFO || is_accusation(&text.0) {
            ACCUSED.with_borrow_mut(|accused| _ = accused.get_or_insert(text.0));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use oxkeeper_proto::Zxid;
    use oxkeeper_zab::Misbehaved;

    use super::*;

    #[test]
    fn breaking_the_protocol_is_an_accusation_and_silence_is_none() {
        let (previous, got) = (Zxid(1), Zxid(3));
        for error in [
            Misbehaved::Unexpected { phase: "synchronizing", got: "SNAP".to_owned() },
            Misbehaved::Gap { previous, got },
            Misbehaved::CommitOutOfOrder { oldest: Some(previous), got },
            Misbehaved::AckOfUnproposed { proposed: previous, got },
            Misbehaved::TopLevelCheck(got),
        ] {
            assert!(is_accusation(&format!("learner 2: {error}")), "{error}");
        }
        for error in [
            Misbehaved::Silent(500),
            Misbehaved::Slow(500),
            Misbehaved::OldEpoch { accepted: 3, got: 2 },
            Misbehaved::NewerThanLeader { server: 1, theirs: (1, got), ours: (1, previous) },
        ] {
            assert!(!is_accusation(&error.to_string()), "{error}");
        }
    }
}
