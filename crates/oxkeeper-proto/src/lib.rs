//! Bytes at the borders: everything a ZooKeeper client, peer or data directory reads or writes.
//!
//! This crate turns bytes into values and back, and knows nothing else: no sockets, files, clocks or
//! threads. Decoders borrow from their input, never panic, and never allocate more than the input
//! they were given can justify. A record that is cut short or has an absurd length is a
//! [`DecodeError`] that says where.
//!
//! | module | border | specification |
//! |---|---|---|
//! | [`jute`] | primitive encoding | `docs/spec/client-protocol.md` 1 |
//! | [`client`] | client port | `docs/spec/client-protocol.md` |
//! | [`txn`] | log payloads and proposals | `docs/spec/storage-formats.md` 3 |
//! | [`snapshot`] | snapshot body, on disk and in a SNAP sync | `docs/spec/storage-formats.md` 6 |
//! | [`quorum`] | election and quorum ports | `docs/spec/quorum-protocol.md` 5, 6, 8 |
//! | [`ensemble`] | membership text | `docs/spec/quorum-protocol.md` 3 |

pub mod client;
pub mod ensemble;
pub mod ids;
pub mod jute;
pub mod quorum;
pub mod snapshot;
pub mod txn;

pub use client::{Acl, ErrorCode, OpCode, Stat};
pub use ids::{Epoch, Epochs, ServerId, SessionId, Zxid};
pub use jute::{Decode, DecodeError, Encode, Reader};
