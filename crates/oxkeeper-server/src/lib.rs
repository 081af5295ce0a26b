//! The driver of a server: everything that touches sockets, files, clocks and threads.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | zoo.cfg and process properties |
//! | [`server`] | start-up, signals, shutdown |
//! | `logging`, [`termination`] | log lines, the last word |
//! | [`client_port`], [`words`], [`view`] | clients, four-letter words |
//! | [`http`] | health and metrics |
//! | [`election_links`], [`quorum_links`], [`peers`] | the other servers |
//! | [`driver`] | the replica thread |
//! | [`disk`] | the log thread, snapshots, old proposals |

pub mod client_port;
pub mod clock;
pub mod config;
pub mod disk;
pub mod driver;
pub mod election_links;
pub mod http;
pub mod listen;
mod logging;
pub mod mailbox;
pub mod names;
mod outbox;
pub mod peers;
pub mod quorum_links;
pub mod server;
mod signals;
pub mod termination;
pub mod view;
pub mod words;

pub use logging::LogFormat;
pub use server::main;

/// A random number from the operating system, for thresholds and seeds.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Wall clock in seconds since 1970.
pub fn wall_seconds() -> i64 {
    clock::Clock::start().now().wall_ms / 1000
}
