//! What the cores say to their operators. In a run all servers keep the protocol, so a core that warns
//! of something has found a bug, although it goes on. What a disk has lost it must tell, and may.

use std::cell::RefCell;
use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// What disks are made to do is no server's fault.
const OF_DISKS: [&str; 3] =
    ["oxkeeper_node::store", "oxkeeper_node::loading", "oxkeeper_node::old_proposals"];

thread_local! {
    static WARNED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Listens to the cores of this thread.
#[derive(Debug)]
pub struct Listener;

/// The first warning since the last call.
pub fn take() -> Option<String> {
    WARNED.take()
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field} {value:?} "));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && !OF_DISKS.contains(&metadata.target())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        WARNED.with_borrow_mut(|warned| _ = warned.get_or_insert(text.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
