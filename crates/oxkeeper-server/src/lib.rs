//! The driver of a server: everything that touches sockets, files, clocks and threads.
//!
//! | module | what it does |
//! |---|---|
//! | [`main`] (`server`) | start-up, signals, shutdown |
//! | `config` | zoo.cfg and process properties |
//! | `logging`, [`termination`] | log lines, the last word |
//! | `client_port`, `words`, `view` | clients, four-letter words |
//! | `http` | health and metrics |
//! | [`names`], `listen` | names to addresses, ports to listeners |
//! | `election_links`, `quorum_links`, `outbox`, `peers` | the other servers |
//! | `driver`, [`mailbox`] | the replica thread, and what wakes it |
//! | `disk` | the log thread, snapshots, old proposals |

mod client_port;
mod clock;
mod config;
mod disk;
mod driver;
mod election_links;
mod http;
mod listen;
mod logging;
pub mod mailbox;
pub mod names;
mod outbox;
mod peers;
mod quorum_links;
mod server;
mod signals;
pub mod termination;
mod view;
mod words;

pub use config::properties;
pub use logging::LogFormat;
pub use server::main;
pub use words::VERSION;

/// A random number from the operating system, for thresholds and seeds.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
