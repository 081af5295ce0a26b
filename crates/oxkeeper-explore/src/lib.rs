//! Every short run of an ensemble of three servers, one after the other.
//!
//! The servers are production cores ([`oxkeeper_zab::Zab`]). Everything between them is one value, a
//! [`world::World`]: what can happen next is listed ([`step::Step`]), each of it is tried, and after each
//! the rules are checked ([`rules::Rule`]). States that were met before are known by their hash. So all
//! interleavings of messages, disk operations, crashes, restarts, timeouts and elections are tried within
//! the bounds of a scope ([`scopes::Scope`]), and the first run that breaks a rule is a shortest one.
//!
//! Not in it: observers, sessions, pings, syncs, periodic snapshots, disks that lose what was durable.
//! `oxkeeper-sim` has these, in long runs from seeds.
#![allow(clippy::expect_used, reason = "a model that cannot be built is a bug of this crate")]

pub mod disk;
pub mod driver;
pub mod election;
pub mod link;
pub mod rules;
pub mod scopes;
pub mod search;
pub mod server;
pub mod step;
pub mod stuck;
pub mod turn;
pub mod words;
pub mod world;
