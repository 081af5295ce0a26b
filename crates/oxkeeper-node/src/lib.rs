//! One server between its cores and its surroundings. The production server and the simulator run this
//! same code: the one adds sockets, threads and clocks ([`Driver`]), the other faults, checks and a
//! workload.
//!
//! | module | what it holds |
//! |---|---|
//! | [`node`] | the replica, who gets its outputs, and in which order |
//! | [`port`] | the quorum port: which role an event belongs to, packets collected per link |
//! | [`store`] | the disk queue: log, epoch files, cuts, reloads, what is published and purged |
//! | [`snapshot`] | a snapshot of a tree that goes on changing, in steps |
//! | [`stream`] | the tree on its way to a learner, in steps |
//! | [`loading`] | a data directory to a state and a history |
//! | [`old_proposals`] | what a learner far behind lacks |
//! | [`start`](mod@start) | all of it, from a loaded directory |
//!
//! Nothing here knows a socket, a thread or a clock; files are those of a [`oxkeeper_storage::Disk`].

pub mod loading;
pub mod node;
pub mod old_proposals;
pub mod port;
pub mod snapshot;
pub mod start;
pub mod store;
pub mod stream;

pub use loading::{LoadSettings, LoadedState, Milestone, load_state};
pub use node::{Driver, Event, Node};
pub use old_proposals::OldProposals;
pub use port::{PortEvent, RoleId};
pub use snapshot::{SnapshotJob, SnapshotSettings, SnapshotStep, StepSize};
pub use start::{NodeSettings, Started, start};
pub use store::{Done, HistoryId, Op, Store, StoreSettings};
pub use stream::{StreamStep, TreeStream};
