//! A whole ensemble in one thread from one seed: the production cores under a virtual clock, a virtual
//! network and disks that lose power, watched by checkers.
//!
//! A run is a queue of events ordered by virtual time. Everything random comes from [`dice::Dice`], so
//! the same seed gives the same run. What a driver owes to the cores is done here as the server does
//! it: outputs in order, one disk queue, packets of a link in order, stale events dropped.
//!
//! | module | what it holds |
//! |---|---|
//! | [`world`] | the event queue and the run |
//! | [`server`] | one server process: mailbox, replica, outputs |
//! | [`store`] | its disk queue, periodic snapshots |
//! | [`fuse`] | a disk that loses power after any operation |
//! | [`net`] | connections, delays, partitions, resets |
//! | [`quorum_port`], [`election_port`], [`client_port`] | what arrives on the three ports |
//! | [`workload`], [`session`] | clients: what they send, what they may see |
//! | [`faults`] | crashes, partitions, pauses |
//! | [`check`] | what must hold for all servers |
//! | [`overheard`] | servers that accuse each other |
//! | [`trace`], [`dice`] | record and randomness |

pub mod check;
pub mod client_port;
pub mod dice;
pub mod election_port;
pub mod faults;
pub mod fuse;
pub mod net;
pub mod overheard;
pub mod quorum_port;
pub mod run;
pub mod server;
pub mod session;
pub mod store;
pub mod trace;
pub mod workload;
pub mod world;

pub use run::{Failure, Summary, run_seed};
