//! The owner field of a znode: whose, or what kind it is.
//!
//! Source: `docs/spec/client-protocol.md` 7.4, `docs/spec/storage-formats.md` 6.2.

use oxkeeper_proto::snapshot::StatPersisted;
use oxkeeper_proto::txn::CreateMode;
use oxkeeper_proto::{SessionId, Stat};

/// Owner field of a container.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// Largest time to live of a node, in ms.
pub const MAX_TTL_MS: i64 = (1 << 40) - 1;
/// Top byte of the owner field of a TTL node.
const EXTENDED: u64 = 0xff << 56;

/// What an owner field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// A plain node.
    None,
    /// Reaped once its last child is gone.
    Container,
    /// Reaped when it has no children and was not modified for so long.
    Ttl {
        /// In ms.
        ttl_ms: i64,
    },
    /// Dies with its session.
    Ephemeral(SessionId),
}

/// How owner fields are read; must be alike on all members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerRules {
    /// `extendedTypesEnabled`: without it a TTL node is an ephemeral of an unknown session.
    pub extended_types: bool,
    /// `emulate353TTLNodes`: any negative owner but a container's is a TTL, as 3.5.3 wrote it.
    pub emulate_353_ttl: bool,
}

impl Default for OwnerRules {
    fn default() -> Self {
        OwnerRules { extended_types: true, emulate_353_ttl: false }
    }
}

impl OwnerRules {
    /// What `owner` means.
    pub fn kind(self, owner: i64) -> OwnerKind {
        match owner {
            0 => OwnerKind::None,
            CONTAINER_OWNER => OwnerKind::Container,
            _ if self.extended_types && self.emulate_353_ttl && owner < 0 => {
                OwnerKind::Ttl { ttl_ms: owner & i64::MAX }
            }
            _ if self.extended_types && owner as u64 & EXTENDED == EXTENDED => {
                // Bits 40 to 55 name a feature; no other than 0 exists. A node with another one
                // is kept as a plain node rather than lost.
                let low = owner & !(EXTENDED as i64);
                if low <= MAX_TTL_MS { OwnerKind::Ttl { ttl_ms: low } } else { OwnerKind::None }
            }
            session => OwnerKind::Ephemeral(session),
        }
    }

    /// The owner field of a node created by `session`.
    pub fn owner(self, mode: CreateMode, session: SessionId) -> i64 {
        match mode {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => session,
            CreateMode::Container => CONTAINER_OWNER,
            CreateMode::Ttl { ttl_ms } if self.emulate_353_ttl => ttl_ms | i64::MIN,
            CreateMode::Ttl { ttl_ms } => EXTENDED as i64 | (ttl_ms & MAX_TTL_MS),
        }
    }

    /// What clients see of a stored stat (`docs/spec/client-protocol.md` 7.2).
    pub fn client_stat(self, stat: &StatPersisted, data_length: usize, children: u32) -> Stat {
        let ephemeral_owner = match self.kind(stat.ephemeral_owner) {
            OwnerKind::Ephemeral(session) => session,
            _ => 0,
        };
        Stat {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            ctime: stat.ctime,
            mtime: stat.mtime,
            version: stat.version,
            cversion: stat.cversion.wrapping_mul(2).wrapping_sub(children as i32),
            aversion: stat.aversion,
            ephemeral_owner,
            data_length: data_length as i32,
            num_children: children as i32,
            pzxid: stat.pzxid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_survives_its_owner_field() {
        let rules = OwnerRules::default();
        let session = 0x0100_0001_641f_0000;
        assert_eq!(rules.kind(rules.owner(CreateMode::Persistent, session)), OwnerKind::None);
        assert_eq!(
            rules.kind(rules.owner(CreateMode::Ephemeral, session)),
            OwnerKind::Ephemeral(session)
        );
        assert_eq!(rules.kind(rules.owner(CreateMode::Container, session)), OwnerKind::Container);
        for ttl_ms in [1, 1000, MAX_TTL_MS] {
            let mode = CreateMode::Ttl { ttl_ms };
            assert_eq!(rules.kind(rules.owner(mode, session)), OwnerKind::Ttl { ttl_ms });
        }
        assert_eq!(rules.owner(CreateMode::Ttl { ttl_ms: 5 }, 0), -72_057_594_037_927_931);
    }

    #[test]
    fn without_extended_types_a_ttl_node_is_an_ephemeral() {
        let rules = OwnerRules { extended_types: false, emulate_353_ttl: false };
        let owner = OwnerRules::default().owner(CreateMode::Ttl { ttl_ms: 5 }, 0);
        assert_eq!(rules.kind(owner), OwnerKind::Ephemeral(owner));
    }

    #[test]
    fn the_353_form_is_read_when_asked_for() {
        let rules = OwnerRules { extended_types: true, emulate_353_ttl: true };
        let owner = rules.owner(CreateMode::Ttl { ttl_ms: 77 }, 0);
        assert_eq!(owner, i64::MIN + 77);
        assert_eq!(rules.kind(owner), OwnerKind::Ttl { ttl_ms: 77 });
        assert_eq!(rules.kind(CONTAINER_OWNER), OwnerKind::Container);
    }
}
