//! Rules of znodes, sessions and watches.

use super::{Mutation, Test, edit};

const APPLY: &str = "crates/oxkeeper-state/src/apply.rs";
const WALK: &str = "crates/oxkeeper-state/src/walk.rs";
const ATTEMPT: &str = "crates/oxkeeper-state/src/prepare/attempt.rs";
const CREATE: &str = "crates/oxkeeper-state/src/prepare/create.rs";
const NOTIFY: &str = "crates/oxkeeper-state/src/watch/notify.rs";
const SET_WATCHES: &str = "crates/oxkeeper-state/src/serve/set_watches.rs";

const fn replay(name: &'static str) -> Test {
    Test("state", "replay", name)
}

const fn walk(name: &'static str) -> Test {
    Test("state", "walk", name)
}

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "replayed-delete-leaves-the-parent",
        bugs: &[3125],
        rule: "A replayed delete of a node that is gone still raises its parent's pzxid.",
        edits: &[edit(
            APPLY,
            "        if self.tree.persisted(parent).pzxid < zxid.0 {\n",
            "        if self.tree.child(parent, name).is_some() && self.tree.persisted(parent).pzxid < zxid.0 {\n",
        )],
        blind: &[],
        test: replay("deleting_a_missing_node_raises_its_parents_pzxid"),
        expected: "Digest",
    },
    Mutation {
        name: "replayed-create-lowers-a-counter",
        bugs: &[3249],
        rule: "A replay never takes a parent's cversion and pzxid back.",
        edits: &[edit(
            APPLY,
            "        if cversion > stored {\n",
            "        if cversion != stored {\n",
        )],
        blind: &[],
        test: replay("a_counter_never_goes_back"),
        expected: "Digest",
    },
    Mutation {
        name: "replayed-create-leaves-the-acl",
        bugs: &[3306],
        rule: "A replayed create of a node that is there sets its ACL.",
        edits: &[edit(
            APPLY,
            "        if plain || self.acls.get(self.tree.acl(node)).is_none() {\n",
            "        if !plain && self.acls.get(self.tree.acl(node)).is_none() {\n",
        )],
        blind: &[],
        test: replay("creating_an_existing_node_sets_its_acl_for_type_1_or_if_it_is_unknown"),
        expected: "Digest",
    },
    Mutation {
        name: "unknown-acl-is-never-repaired",
        bugs: &[4689],
        rule: "A node whose ACL the snapshot's table lacks gets it from the replay, whatever created it.",
        edits: &[edit(
            APPLY,
            "        if plain || self.acls.get(self.tree.acl(node)).is_none() {\n",
            "        if plain {\n",
        )],
        blind: &[],
        test: replay("creating_an_existing_node_sets_its_acl_for_type_1_or_if_it_is_unknown"),
        // Our own snapshots have no such node.
        expected: "",
    },
    Mutation {
        name: "snapshot-names-an-acl-it-lacks",
        bugs: &[4846],
        rule: "No node of a snapshot names an ACL that its table lacks.",
        edits: &[edit(
            WALK,
            "        if newer { OPEN_ACL_ID } else { id }\n",
            "        if newer { id.max(OPEN_ACL_ID) } else { id }\n",
        )],
        blind: &[],
        test: walk("a_snapshot_taken_amid_transactions_replays_to_the_live_state"),
        expected: "Digest",
    },
    Mutation {
        name: "replayed-session-end-leaves-the-parent",
        bugs: &[3145],
        rule: "A replayed closeSession raises the pzxid of the parents of all its ephemerals, also of those that \
               are gone.",
        edits: &[edit(
            APPLY,
            "        for path in paths {\n            self.delete(context.zxid, path.as_ref(), context.changes);\n        }\n",
            "        let _ = paths;\n",
        )],
        blind: &[],
        test: replay("a_sessions_end_raises_the_pzxid_of_parents_whose_ephemeral_is_gone"),
        expected: "Digest",
    },
    Mutation {
        name: "multi-has-its-zxid-before-its-effects",
        bugs: &[3127],
        rule: "The zxid of a multi is the state's only when all of the multi is.",
        edits: &[edit(
            APPLY,
            "        let outcome = self.apply_txn(&payload.txn, &mut context);\n",
            "        self.last_zxid = self.last_zxid.max(zxid);\n        \
             let outcome = self.apply_txn(&payload.txn, &mut context);\n",
        )],
        blind: &[],
        test: walk("a_snapshot_begun_amid_a_multi_is_named_by_the_zxid_before_it"),
        // The state is locked for as long as a transaction takes.
        expected: "",
    },
    Mutation {
        name: "snapshot-is-named-by-what-it-may-lack",
        bugs: &[3144],
        rule: "A snapshot has the sessions of all transactions up to the zxid in its name.",
        edits: &[edit(
            WALK,
            "            zxid: state.last_zxid(),\n            sessions: state.sessions().collect(),\n",
            "            zxid: Zxid(state.last_zxid().0 + 1),\n            sessions: state.sessions().collect(),\n",
        )],
        blind: &[],
        test: walk("a_session_that_opens_while_a_snapshot_is_taken_is_there_after_the_replay"),
        expected: "Storage, Digest",
    },
    Mutation {
        name: "failed-multi-is-applied",
        bugs: &[],
        rule: "A multi that failed changes nothing.",
        edits: &[edit(
            APPLY,
            "        if txns.iter().any(|txn| matches!(txn, Txn::Error(_))) {\n",
            "        if txns.iter().all(|txn| matches!(txn, Txn::Error(_))) {\n",
        )],
        blind: &[],
        test: replay("a_failed_multi_changes_nothing_but_the_zxid"),
        expected: "Semantics, Digest",
    },
    Mutation {
        name: "failed-multi-leaves-traces",
        bugs: &[],
        rule: "Requests behind a multi that failed are checked as if it had never been.",
        edits: &[edit(
            ATTEMPT,
            "            Some(_) => self.overlay.roll_back(),\n",
            "            Some(_) => self.overlay.commit(),\n",
        )],
        blind: &[],
        test: Test(
            "state",
            "lib",
            "prepare::tests::traps::trap_02_a_failed_multi_keeps_its_type_and_leaves_nothing",
        ),
        expected: "Digest",
    },
    Mutation {
        name: "sequence-number-goes-back",
        bugs: &[],
        rule: "Sequence numbers count every create, and never go back.",
        edits: &[edit(CREATE, "parent.stat.cversion)),\n", "parent.children)),\n")],
        blind: &[],
        test: Test(
            "state",
            "lib",
            "prepare::tests::traps::trap_06_sequence_numbers_count_every_create_and_never_go_back",
        ),
        expected: "Semantics",
    },
    Mutation {
        name: "version-is-not-compared",
        bugs: &[],
        rule: "A write that names a version succeeds only on that version.",
        edits: &[edit(
            ATTEMPT,
            "    if expected == -1 || expected == stored { Ok(()) } else { Err(ErrorCode::BadVersion) }\n",
            "    if expected <= stored { Ok(()) } else { Err(ErrorCode::BadVersion) }\n",
        )],
        blind: &[],
        test: Test(
            "state",
            "lib",
            "prepare::tests::traps::a_write_that_names_an_older_version_fails",
        ),
        expected: "Semantics, Linearizability",
    },
    Mutation {
        name: "delete-without-permission",
        bugs: &[],
        rule: "Who may not delete children of a node deletes none.",
        edits: &[edit(
            ATTEMPT,
            "        self.permit(&parent, perms::DELETE)?;\n",
            "        let _ = perms::DELETE;\n",
        )],
        blind: &[],
        test: Test(
            "state",
            "lib",
            "prepare::tests::traps::trap_09_delete_checks_the_parents_permission_before_existence",
        ),
        expected: "",
    },
    Mutation {
        name: "ephemerals-outlive-their-session",
        bugs: &[],
        rule: "A session's ephemerals go with it.",
        edits: &[
            edit(
                APPLY,
                "        if self.ephemerals.contains_key(&session) {\n",
                "        if self.ephemerals.contains_key(&session) && session == 0 {\n",
            ),
            edit(
                ATTEMPT,
                "            paths.push(Cow::Owned(path));\n",
                "            drop(path);\n",
            ),
        ],
        blind: &[],
        test: replay("a_sessions_end_deletes_the_listed_nodes_and_all_others_it_owns"),
        expected: "Ephemerals",
    },
    Mutation {
        name: "watch-is-lost",
        bugs: &[],
        rule: "A watch is used up only when its change is told.",
        edits: &[edit(
            NOTIFY,
            "            if !told && permits(settings, step.acl, perms::READ, &who.ids) {\n",
            "            if !told && permits(settings, step.acl, perms::READ, &who.ids) && watch % 16 != 7 {\n",
        )],
        blind: &[],
        test: Test("state", "lib", "watch::tests::random_watches_fire_as_in_a_naive_model"),
        expected: "Watches",
    },
    Mutation {
        name: "watch-fires-twice",
        bugs: &[],
        rule: "A one-shot watch fires once.",
        edits: &[edit(
            NOTIFY,
            "            if modes.intersects(step.one_shot) {\n",
            "            if modes.intersects(step.one_shot) && told {\n",
        )],
        blind: &[],
        test: Test(
            "state",
            "lib",
            "watch::tests::one_shot_watches_fire_once_and_setting_one_twice_changes_nothing",
        ),
        expected: "Watches",
    },
    Mutation {
        name: "set-watches-forgets-what-was-missed",
        bugs: &[],
        rule: "setWatches tells at once what has changed since the zxid that the client has seen.",
        edits: &[edit(
            SET_WATCHES,
            "            (List::Data, Some(stat)) if stat.mzxid > seen => Some(EventKind::NodeDataChanged),\n",
            "            (List::Data, Some(stat)) if stat.mzxid < 0 => Some(EventKind::NodeDataChanged),\n",
        )],
        blind: &[],
        test: Test(
            "state",
            "lib",
            "serve::tests::trap_12_set_watches_tells_a_deletion_once_per_list",
        ),
        expected: "Watches",
    },
];
