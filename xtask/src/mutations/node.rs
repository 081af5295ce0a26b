//! Rules of what servers and simulator have in common.

use super::{Mutation, Test, edit};

const STORE: &str = "crates/oxkeeper-node/src/store.rs";
const STREAM: &str = "crates/oxkeeper-node/src/stream.rs";
const PURGE: &str = "crates/oxkeeper-storage/src/purge.rs";
const SNAPSHOT: &str = "crates/oxkeeper-node/src/snapshot.rs";

const fn node(name: &'static str) -> Test {
    Test("node", "node", name)
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "purge-decides-long-before-it-removes",
        bugs: &[],
        rule: "A purge decides by what is there when its turn in the disk queue comes.",
        edits: &[
            edit(
                PURGE,
                "pub fn purge<D: Disk>(disk: &D, retain: usize) -> Result<Purged, StorageError> {\n",
                "pub fn purge<D: Disk>(disk: &D, retain: usize) -> Result<Purged, StorageError> {\n    \
                 purge_begun(disk, retain, &mut Some(oxkeeper_proto::Zxid(i64::MAX)))\n}\n\n\
                 /// As a thread of its own does, which is slow.\npub fn purge_begun<D: Disk>(\n    disk: &D,\n    \
                 retain: usize,\n    begun: &mut Option<oxkeeper_proto::Zxid>,\n\
                 ) -> Result<Purged, StorageError> {\n",
            ),
            edit(
                PURGE,
                "    let Some(oldest) = oldest else { return Ok(purged) };\n",
                "    let Some(oldest) = oldest else { return Ok(purged) };\n    \
                 let Some(oldest) = begun.replace(oldest) else { return Ok(purged) };\n",
            ),
            edit(
                "crates/oxkeeper-storage/src/lib.rs",
                "pub use purge::{Purged, purge};",
                "pub use purge::{Purged, purge, purge_begun};",
            ),
            edit(
                STORE,
                "    snapshot_running: bool,\n",
                "    snapshot_running: bool,\n    begun: Option<Zxid>,\n",
            ),
            edit(
                STORE,
                "            snapshot_running: false,\n",
                "            snapshot_running: false,\n            begun: None,\n",
            ),
            edit(
                STORE,
                "oxkeeper_storage::purge(&self.disk, retain)",
                "oxkeeper_storage::purge_begun(&self.disk, retain, &mut self.begun)",
            ),
        ],
        blind: &[],
        test: node("a_purge_decides_by_what_is_there_when_its_turn_comes"),
        expected: "Storage",
    },
    Mutation {
        name: "stream-goes-on-in-another-tree",
        bugs: &[],
        rule: "A stream whose tree is replaced under it never comes to its end.",
        edits: &[edit(
            STREAM,
            "        if self.shared.state_id() != self.of {\n",
            "        if self.shared.state_id() != self.of && bytes == 0 {\n",
        )],
        blind: &[],
        test: node("a_stream_whose_tree_is_replaced_under_it_never_comes_to_its_end"),
        expected: "Digest",
    },
    Mutation {
        name: "snapshot-of-two-trees",
        bugs: &[],
        rule: "A snapshot whose tree is replaced under it is given up.",
        edits: &[
            edit(
                SNAPSHOT,
                "            if self.shared.state_id() != begun.state {\n",
                "            if self.shared.state_id() != begun.state && size.nodes == 0 {\n",
            ),
            edit(
                SNAPSHOT,
                "            if self.shared.state_id() != began_in {\n",
                "            if self.shared.state_id() != began_in && walk.nodes() == 0 {\n",
            ),
        ],
        blind: &[],
        test: node("a_snapshot_whose_tree_is_replaced_under_it_is_given_up"),
        expected: "Digest",
    },
    Mutation {
        name: "snapshot-of-a-replaced-history",
        bugs: &[],
        rule: "A periodic snapshot of a history that was cut or replaced meanwhile gets no name.",
        edits: &[edit(
            STORE,
            "                match complete.filter(|_| history == self.history) {\n",
            "                match complete.filter(|_| history == self.history || !self.snapshot_running) {\n",
        )],
        blind: &[],
        test: node("a_snapshot_of_a_history_that_was_replaced_gets_no_name"),
        expected: "Digest",
    },
    Mutation {
        name: "disk-work-overtakes-appends",
        bugs: &[],
        rule: "What was appended is durable before anything behind it begins.",
        edits: &[edit(
            STORE,
            "                    if std::mem::take(&mut appended) {\n                        \
             self.sync(done)?;\n                    }\n",
            "",
        )],
        blind: &[],
        test: node("what_was_appended_is_durable_before_anything_behind_it_begins"),
        expected: "CommittedHistory, Durability",
    },
];
