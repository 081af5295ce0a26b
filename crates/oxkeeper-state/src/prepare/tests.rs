//! Requests prepared and applied: the traps of `docs/spec/client-protocol.md` 21 that belong to writes,
//! and random requests against a naive model.

mod model;
mod random;
mod traps;
mod world;
