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
//! | [`disk`] | disks that fail, lie and rot; what a start must find |
//! | [`net`] | connections, delays, partitions, resets |
//! | [`quorum_port`], [`election_port`], [`clients::port`] | what arrives on the three ports |
//! | [`shape`] | which ensemble, with which settings |
//! | [`clock`] | clocks that drift, stand and jump |
//! | [`plan`] | what the seed decides before the run begins |
//! | [`faults`] | what goes wrong: processes, network, disks |
//! | [`clients`] | what they send, what they may see |
//! | [`check`], [`violation`] | what must hold, by name |
//! | [`overheard`] | servers that accuse each other |
//! | [`trace`], [`tell`], [`dice`] | record, its words, and randomness |
//! | [`run`], [`shrink`] | one seed; a failing one made smaller |

pub mod check;
pub mod clients;
pub mod clock;
pub mod dice;
pub mod disk;
pub mod election_port;
pub mod faults;
pub mod net;
pub mod overheard;
pub mod plan;
pub mod quorum_port;
pub mod run;
pub mod server;
pub mod shape;
pub mod shrink;
pub mod store;
pub mod tell;
pub mod trace;
pub mod violation;
pub mod world;

pub use plan::Wishes;
pub use run::{Failure, Summary, run_seed};
pub use violation::{Rule, Violation};
