//! stub

pub mod election_links;
pub mod listen;
pub mod names;
mod outbox;
pub mod quorum_links;
