//! One server as a value: the Zab state machine, the replicated state, and the order of its clients'
//! requests. Sockets, files, clocks and threads belong to the driver (the server, or the simulator).
//!
//! Two entry points share a [`Shared`] part:
//!
//! - a connection task gives bytes to its [`Client`]: reads are answered on the spot under the state's
//!   read lock, everything else becomes an [`Input`] for the replica thread;
//! - the replica thread gives inputs to the [`Replica`], performs its [`Output`]s, and lets it apply
//!   what has been committed, in batches, under the state's write lock.
//!
//! Lock order: state, then one client, then watches. (The replica, alone under the state's write lock,
//! takes watches before clients.) A notification is queued on its connection while the write lock is
//! held, so no reader sees a change before its watchers are told.
//!
//! | module | what it holds |
//! |---|---|
//! | [`client`] | one connection: handshake, request order, output |
//! | [`shared`] | what connections and the replica both see |
//! | [`replica`] | inputs, outputs, roles, application of commits |
//! | [`session`] | who owns a session and when it expires |
//! | [`solo`] | the sequencer of a standalone server |
//! | [`limits`] | throttles of the client port |
//! | [`meters`], [`summary`] | counters and distributions for operators |

pub mod client;
pub mod limits;
pub mod meters;
pub mod replica;
pub mod session;
pub mod shared;
pub mod solo;
pub mod summary;

pub use client::wake::Written;
pub use client::{Client, Connection, Progress};
pub use meters::Meters;
pub use replica::{Input, Now, Output, Replica, ReplicaConfig};
pub use shared::{ClientPortSettings, Shared, StateId};
pub use summary::Summary;

/// A map whose order does not depend on the machine or the run.
pub type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
