//! What a client has sent and what it may therefore see.

use std::collections::{BTreeMap, VecDeque};

use crate::violation::{Rule, Violation};

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Echoed in the reply.
    pub xid: i32,
    /// What it asks.
    pub op: Op,
    /// Largest zxid acknowledged to anyone when it was sent.
    pub acked_before: i64,
}

/// A request.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    /// One of the nodes that everyone uses.
    Setup {
        path: String,
    },
    /// The session's own register.
    CreateOwn,
    SetOwn {
        value: u64,
    },
    GetOwn,
    /// A register that everyone writes.
    SetShared {
        path: String,
        value: String,
    },
    GetShared {
        path: String,
        watch: bool,
    },
    /// Never deleted: must be there for ever once acknowledged.
    CreateSequential {
        value: String,
    },
    CreateEphemeral {
        path: String,
    },
    CreateTemporary {
        path: String,
    },
    DeleteTemporary {
        path: String,
    },
    /// Both or none.
    CreatePair {
        first: String,
        second: String,
    },
    Children {
        path: String,
    },
    Sync,
    Ping,
    Close,
}

impl Op {
    /// Does it change something?
    pub fn is_write(&self) -> bool {
        !matches!(
            self,
            Op::GetOwn | Op::GetShared { .. } | Op::Children { .. } | Op::Sync | Op::Ping
        )
    }
}

/// A session as its client sees it.
#[derive(Debug, Default)]
pub struct Session {
    /// 0: none.
    pub id: i64,
    /// Needed to resume it.
    pub password: [u8; 16],
    /// Largest zxid seen.
    pub last_zxid: i64,
    /// Next xid.
    pub xid: i32,
    /// Last value written into the own register that was acknowledged or seen; `None`: not created.
    pub own: Option<u64>,
    /// Values whose fate is unknown, oldest first.
    pub unknown: Vec<u64>,
    /// The creation of the register has an unknown fate.
    pub own_maybe: bool,
    /// Last value written.
    pub next_value: u64,
    /// Not answered yet.
    pub sent: VecDeque<Sent>,
    /// Data watches set on this connection: mzxid at that time.
    pub watches: BTreeMap<String, i64>,
}

impl Session {
    /// The own register's path.
    pub fn own_path(&self) -> String {
        format!("/own/s{:x}", self.id)
    }

    /// The connection is gone: nobody knows what became of the requests on their way.
    pub fn disconnected(&mut self) {
        self.watches.clear();
        for sent in std::mem::take(&mut self.sent) {
            match sent.op {
                Op::SetOwn { value } => self.unknown.push(value),
                Op::CreateOwn => self.own_maybe = true,
                _ => {}
            }
        }
    }

    /// The own register was written.
    pub fn own_written(&mut self, value: u64) {
        self.own = Some(value);
        self.unknown.clear();
    }

    /// The own register was read as `value`; an error says what is wrong with that.
    pub fn own_read(&mut self, value: u64) -> Result<(), Violation> {
        if self.own == Some(value) {
            return Ok(());
        }
        if let Some(at) = self.unknown.iter().position(|unknown| *unknown == value) {
            self.unknown.drain(..=at);
            self.own = Some(value);
            return Ok(());
        }
        if self.own.is_none() && self.own_maybe && value == 0 {
            self.own = Some(0);
            return Ok(());
        }
        Err(Rule::MonotonicRead.broken(format!(
            "session {:#x} read {value} from its own register; acknowledged is {:?}, possible {:?}",
            self.id, self.own, self.unknown
        )))
    }
}
