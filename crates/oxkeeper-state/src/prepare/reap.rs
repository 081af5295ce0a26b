//! Containers without children, and nodes whose time to live is over.
//!
//! Source: `docs/spec/client-protocol.md` 7.4.

use oxkeeper_proto::snapshot::StatPersisted;

use crate::{NodeId, OwnerKind, State};

/// Is a childless node to be reaped? A container that never had a child is, when it is older than
/// `never_used_ms` (0: never).
pub(super) fn is_due(
    kind: OwnerKind,
    stat: &StatPersisted,
    now_ms: i64,
    never_used_ms: i64,
) -> bool {
    let age_ms = now_ms.saturating_sub(stat.mtime);
    match kind {
        OwnerKind::Container => stat.cversion > 0 || (never_used_ms > 0 && age_ms > never_used_ms),
        OwnerKind::Ttl { ttl_ms } => ttl_ms > 0 && age_ms > ttl_ms,
        OwnerKind::None | OwnerKind::Ephemeral(_) => false,
    }
}

/// Paths that the leader should delete by deleteContainer, sorted. `now_ms` is its wall clock;
/// `never_used_ms` as in [`super::PrepareSettings::reap_never_used_ms`]; nodes with a time to live are
/// looked at only with `extended_types`.
pub fn containers_to_reap(
    state: &State,
    now_ms: i64,
    never_used_ms: i64,
    extended_types: bool,
) -> Vec<String> {
    let tree = &state.tree;
    let due = |node: &NodeId| {
        tree.child_count(*node) == 0
            && is_due(tree.owner_kind(*node), &tree.persisted(*node), now_ms, never_used_ms)
    };
    let ttl_nodes = extended_types.then(|| state.ttl_nodes()).into_iter().flatten();
    let mut paths: Vec<String> =
        state.containers().chain(ttl_nodes).filter(due).map(|node| tree.path(node)).collect();
    paths.sort_unstable();
    paths
}
