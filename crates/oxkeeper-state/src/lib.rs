//! The replicated state of a server, and the two functions on it: request to transaction
//! ([`prepare`]), transaction to effects ([`State::apply`]).
//!
//! Pure: time, identities and zxids are arguments. Reads take `&State` and may run on many threads;
//! a watch set by a read is kept behind a small lock of its own, so reads never need `&mut State`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tree`] | znodes, compactly |
//! | [`acl`] | the ACL table, permission checks, expansion |
//! | [`auth`] | identities and schemes |
//! | [`apply`] | transaction to effects, replay rules |
//! | [`digest`] | node and tree digests |
//! | [`load`], [`database`] | a snapshot, a data directory to a state |
//! | [`walk`] | the state as a snapshot, step by step, while it changes |
//! | [`watch`] | who is told what |
//! | [`prepare`] | request to transaction, against all that is proposed but not yet applied |
//! | [`serve`] | reads |
//! | [`reply`] | bodies of replies to writes |
//! | [`quota`] | usage and limits |
//! | [`path`] | which paths are legal |

pub mod acl;
pub mod acl_table;
pub mod apply;
pub mod auth;
pub mod database;
pub mod digest;
pub mod load;
pub mod owner;
pub mod path;
pub mod prepare;
pub mod quota;
pub mod reply;
pub mod serve;
pub mod state;
pub mod tree;
pub mod walk;
pub mod watch;

pub use acl_table::{AclId, AclTable, OPEN_ACL};
pub use apply::{Change, Changes, Outcome};
pub use database::StateDatabase;
pub use load::StateLoader;
pub use owner::{OwnerKind, OwnerRules};
pub use state::{Options, State};
pub use tree::{NewNode, NodeId, Tree};
pub use walk::{Walk, WalkEnd};
