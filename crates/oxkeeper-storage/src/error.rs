//! What can be wrong with a data directory. Every message says which file, where in it, what was
//! found, and what an operator can do.

use oxkeeper_proto::{DecodeError, Epoch, Zxid};

use crate::disk::DiskError;
use crate::lost_tail::LostTail;

/// Why a record of a log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogProblem {
    /// Shorter than the 16-byte header.
    #[error("the file has only {len} bytes, a log header has 16")]
    ShortHeader {
        /// Length of the file.
        len: u64,
    },
    /// The first four bytes are not "ZKLG".
    #[error("the magic number is {found:#010x}, a log has 0x5a4b4c47 (\"ZKLG\")")]
    Magic {
        /// What stands there.
        found: u32,
    },
    /// A record length that no writer made: no whole record of that length stands there.
    #[error("a record claims a length of {found} bytes (limit {limit}), and none so long is there")]
    Length {
        /// The length field.
        found: i32,
        /// What is accepted (jute.maxbuffer and its slack).
        limit: usize,
    },
    /// A whole record, longer than this server accepts.
    #[error(
        "a whole record of {len} bytes stands there, and jute.maxbuffer with its slack allows \
         {limit} on this server"
    )]
    TooLong {
        /// The length of the payload.
        len: usize,
        /// What is accepted (jute.maxbuffer and its slack).
        limit: usize,
    },
    /// The record is complete but its bytes are not those that were written.
    #[error("the record's checksum is {stored:#x}, its bytes have {computed:#010x}")]
    Checksum {
        /// The checksum field.
        stored: u64,
        /// Adler-32 of the payload.
        computed: u32,
    },
    /// A check outside of a multi: no server can replay it (see `check` in the message).
    #[error("a transaction of type 13 (check) stands outside of a multi")]
    LoneCheck,
    /// The payload is not a transaction.
    #[error("the record does not decode: {0}")]
    Record(DecodeError),
    /// The state refused the transaction.
    #[error("the transaction cannot be applied: {0}")]
    Apply(String),
}

impl LogProblem {
    fn advice(&self) -> String {
        let advice = match self {
            LogProblem::TooLong { len, .. } => return raise_the_limit(*len),
            LogProblem::ShortHeader { .. } => {
                "The file holds no transaction: if it is the newest log, move it away and start again."
            }
            LogProblem::LoneCheck => {
                "Apache ZooKeeper 3.8 wrote it for a check that a client sent alone. It changes \
                 nothing; start once with the rescue setting -Doxkeeper.skipLoneChecks=true, which \
                 skips such records, or restore the directory from another member."
            }
            _ => {
                "In an ensemble: move this member's version-2 directories away and let it copy the \
                 data from the others. A single server: restore a backup, or cut the log there and \
                 lose what follows."
            }
        };
        advice.to_owned()
    }
}

/// What helps when something whole is too long. The slack is as large as `jute.maxbuffer` by default.
fn raise_the_limit(len: usize) -> String {
    format!(
        "Nothing is damaged: start with the process property jute.maxbuffer={} or more \
         (-Djute.maxbuffer=...), on all members",
        len.div_ceil(2)
    )
}

/// Why one snapshot file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotProblem {
    /// The first bytes are not a snapshot header.
    #[error("the header is not a snapshot's (magic {magic:#010x}, version {version})")]
    Header {
        /// First int; "ZKSN" expected.
        magic: u32,
        /// Second int; 2 expected.
        version: i32,
    },
    /// The file ends inside the body or a section.
    #[error("the file is cut short")]
    Cut,
    /// A seal's checksum or end mark is wrong.
    #[error("the checksum is {stored:#x}, the bytes before it have {computed:#010x}")]
    Checksum {
        /// The checksum field.
        stored: u64,
        /// Adler-32 of everything before.
        computed: u32,
    },
    /// A seal's end mark is wrong, or the sections have no known length.
    #[error("{len} bytes after the nodes are no known set of sections")]
    Sections {
        /// Bytes after the first seal.
        len: usize,
    },
    /// The body does not decode.
    #[error("the body does not decode: {0}")]
    Body(DecodeError),
    /// The file is whole, but something in it is longer than this server accepts.
    #[error(
        "a string or buffer of {len} bytes stands there, and jute.maxbuffer with its slack allows \
         {limit} on this server. {}", raise_the_limit(*.len)
    )]
    TooLong {
        /// Its length.
        len: usize,
        /// What is accepted (jute.maxbuffer and its slack).
        limit: usize,
    },
    /// The state refused the whole.
    #[error("{0}")]
    State(String),
    /// The state refused a node.
    #[error("a node is wrong: {0}")]
    Node(String),
    /// The compressed stream is damaged.
    #[error("the compressed stream is damaged: {0}")]
    Compressed(String),
}

/// What is wrong with an epoch file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochProblem {
    /// Not a decimal number.
    #[error("it holds {found:?}, a decimal number was expected")]
    NotANumber {
        /// First line, shortened.
        found: String,
    },
    /// The history reaches into an epoch that this server has not entered.
    #[error(
        "it says {current}, but the history ends with {last} of epoch {}", .last.epoch()
    )]
    BehindHistory {
        /// currentEpoch.
        current: Epoch,
        /// Last zxid of the loaded history.
        last: Zxid,
    },
    /// acceptedEpoch below currentEpoch.
    #[error("it says {accepted}, but currentEpoch says {current}, which cannot be greater")]
    AcceptedBehindCurrent {
        /// acceptedEpoch.
        accepted: Epoch,
        /// currentEpoch.
        current: Epoch,
    },
}

/// Any failure of this crate.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Writing a snapshot failed.
    #[error("the snapshot could not be written: {0}")]
    SnapshotWrite(DiskError),
    /// A directory cannot be used at all.
    #[error("{path}: {reason}")]
    Directory {
        /// The directory or file.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A log file cannot be read further.
    #[error("{file}, byte {offset}: {problem}. {}", .problem.advice())]
    Log {
        /// Path of the file.
        file: String,
        /// Where the record (or header) starts.
        offset: u64,
        /// What was found.
        problem: LogProblem,
    },
    /// A transaction is missing between two records.
    #[error(
        "{file}, byte {offset}: the log goes from {previous} to {found}; {} (a log file was removed \
         or damaged). In an ensemble: move this member's \
         version-2 directories away and let it copy the data from the others. A single server: \
         put the missing file back, or restore a backup",
        missing(*.known)
    )]
    Hole {
        /// Path of the file with the record after the hole.
        file: String,
        /// Where that record starts.
        offset: u64,
        /// Its zxid.
        found: Zxid,
        /// The zxid before the hole: of the last record, or of the snapshot.
        previous: Zxid,
        /// A transaction that is known to have been between them, or in the place of `previous`.
        known: Option<Zxid>,
    },
    /// The newest snapshots cannot be used, and the log does not reach from an older one to them.
    #[error(
        "{snapshot} cannot be used: {why}. The log does not make up for it: from {base}, where the \
         newest usable state ends, it reaches {reached}; {}. To go back to {reached} would forget \
         what this server has acknowledged. Restore that file from a backup. In an ensemble whose \
         other members are up, this member can copy the data from them instead: give it empty \
         version-2 directories and keep the present ones until it has", gap(*.reached, *.next, *.zxid)
    )]
    Unbridged {
        /// Path of the newest snapshot that cannot be used.
        snapshot: String,
        /// Why not.
        why: String,
        /// The zxid in its name.
        zxid: Zxid,
        /// Where the replay began: the older snapshot, or 0.
        base: Zxid,
        /// The last zxid up to which nothing is missing for sure.
        reached: Zxid,
        /// The record that comes next, if one does.
        next: Option<Zxid>,
    },
    /// Acknowledged transactions are gone from the end of the history.
    #[error(
        "{0}. A log file was removed, cut or damaged: put it back, or restore a backup. If there is \
         none, start once with oxkeeper.acceptLostTail=true: the server goes on without these \
         transactions, and what is left of them is kept beside the log"
    )]
    LostTail(LostTail),
    /// One snapshot is not usable.
    #[error("{file}, byte {offset} of the stream: {problem}")]
    Snapshot {
        /// Path of the file.
        file: String,
        /// Offset in the uncompressed stream.
        offset: u64,
        /// What was found.
        problem: SnapshotProblem,
    },
    /// There were snapshots, none is usable.
    #[error(
        "none of the {} snapshots in {directory} is valid; the newest: {}. Restore one from \
         another member or a backup; without a snapshot the log alone is not trusted",
        .problems.len(), .problems.first().map(String::as_str).unwrap_or("failed its check")
    )]
    AllSnapshotsBad {
        /// The snapshot directory.
        directory: String,
        /// Newest first, one message each.
        problems: Vec<String>,
    },
    /// Transactions but no snapshot.
    #[error(
        "no valid snapshot found in {directory}, but {log} has transactions: a snapshot is missing. \
         Put it back. If this directory comes from a version that wrote no first snapshot, start \
         once with snapshot.trust.empty=true"
    )]
    NoSnapshot {
        /// The snapshot directory.
        directory: String,
        /// The oldest log file with a record.
        log: String,
    },
    /// An epoch file contradicts the history.
    #[error(
        "{file}: {problem}. The epoch files of another directory, or an older copy? Do not edit \
         them by guess: move this member's version-2 directories away and let it copy the data"
    )]
    Epoch {
        /// Path of the file.
        file: String,
        /// What was found.
        problem: EpochProblem,
    },
    /// A record was offered to the log out of order.
    #[error("refused to log {offered} after {previous}: the log would have a hole or go backwards")]
    OutOfOrder {
        /// The zxid offered.
        offered: Zxid,
        /// Last appended.
        previous: Zxid,
    },
    /// A record was offered that no reader could read.
    #[error("refused to log {zxid}: {reason}")]
    BadRecord {
        /// The zxid offered.
        zxid: Zxid,
        /// What is wrong with the payload.
        reason: String,
    },
    /// The history cannot be cut where the leader says.
    #[error(
        "cannot cut the history at {zxid}: {reason}. Move this member's version-2 directories away \
         and let it copy the data from the leader"
    )]
    CannotTruncate {
        /// Where to cut.
        zxid: Zxid,
        /// Why not.
        reason: String,
    },
}

fn missing(known: Option<Zxid>) -> String {
    match known {
        None => "the transactions between are missing".to_owned(),
        Some(known) => format!("{known} is missing, which was there before it"),
    }
}

fn gap(reached: Zxid, next: Option<Zxid>, zxid: Zxid) -> String {
    match next {
        None if reached.epoch() == zxid.epoch() => {
            format!("{:#x} to {zxid} are missing", reached.0 + 1)
        }
        None => format!("what follows, up to {zxid}, is missing"),
        Some(next) => format!(
            "the next record there is {next}, and nothing shows that the two belong together"
        ),
    }
}

impl StorageError {
    /// The process exit code that operators know for this failure
    /// (`docs/spec/operations.md` 9.1).
    pub fn exit_code(&self) -> i32 {
        match self {
            StorageError::Directory { .. } => 3,
            StorageError::Disk(error) if error.op == "list" => 3,
            StorageError::SnapshotWrite(_) => 10,
            StorageError::CannotTruncate { .. } => 13,
            _ => 1,
        }
    }
}
