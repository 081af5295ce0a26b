//! What a server keeps on disk: transaction log, snapshots, epoch files, in the layout and bytes of
//! Apache ZooKeeper 3.8 and 3.9.
//!
//! Everything works over the small [`Disk`] trait: [`RealDisk`] is a directory pair, [`MemDisk`] is
//! a deterministic disk that can crash. All calls block.
//!
//! | module | what it holds | `docs/spec/storage-formats.md` |
//! |---|---|---|
//! | [`disk`], [`real_disk`], [`mem_disk`] | files and directories | 1 |
//! | [`names`] | which file is what | 1 |
//! | [`log_writer`], [`roll`] | appending, syncing, rolling | 2, 5 |
//! | [`log_file`], [`log_reader`] | reading one log file, and all of them | 4 |
//! | [`log_cut`] | TRUNC | 5.3 |
//! | `adoption` | a leader's snapshot replaces the history | 10.6 |
//! | [`acknowledged`], [`seams`] | what the log itself cannot say of its end and its seams | 10.4, 10.5 |
//! | [`log_range`] | old proposals for a DIFF | quorum-protocol 10.4 |
//! | [`snapshot_writer`], [`snapshot_reader`], [`container`] | snapshots | 6 |
//! | [`epochs`] | acceptedEpoch, currentEpoch | 10.1 |
//! | [`load`](mod@load), `replay` | start-up: newest valid snapshot, then the log | 7 |
//! | [`lost_tail`], `tail` | acknowledged transactions that are gone | 7.1 |
//! | [`purge`](mod@purge) | removing what is no longer needed | 11 |
//!
//! Invariants of absence: nothing here retries a failed write or sync, starts to write before it is
//! asked, or knows what a znode is.

pub mod acknowledged;
mod adoption;
pub mod container;
mod direct_file;
pub mod disk;
pub mod epochs;
pub mod error;
pub mod load;
pub mod log_cut;
pub mod log_file;
pub mod log_range;
pub mod log_reader;
pub mod log_writer;
pub mod lost_tail;
pub mod mem_disk;
pub mod names;
mod own_file;
pub mod purge;
pub mod real_disk;
mod replay;
pub mod roll;
pub mod seams;
pub mod snapshot_reader;
pub mod snapshot_writer;
mod tail;

pub use acknowledged::MarkSync;
pub use container::Compression;
pub use disk::{Disk, DiskError, DiskFile, Place};
pub use epochs::EpochFiles;
pub use error::StorageError;
pub use load::{Database, LoadOptions, Loaded, LoggedTxn, OnLostTail, load};
pub use log_cut::Truncated;
pub use log_range::{LogSpan, log_diff_allowed, read_range};
pub use log_reader::{LogReader, LogRecord};
pub use log_writer::{LogOptions, Synced, TxnLog};
pub use lost_tail::LostTail;
pub use mem_disk::MemDisk;
pub use purge::{Purged, purge};
pub use real_disk::RealDisk;
pub use roll::{Roll, RollPolicy};
pub use snapshot_reader::{SnapshotDigest, SnapshotInfo, read_snapshot};
pub use snapshot_writer::{CompleteSnapshot, Sections, SnapshotWriter};
