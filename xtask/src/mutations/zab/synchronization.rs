//! A leader's history becomes its learners'.

use super::{
    ADOPTED_SERVED_BEFORE_DURABLE, EARLY_ACK, EPOCH_SERVED_BEFORE_DURABLE, HOLES_ARE_FOLLOWED,
    HOLES_ARE_LOGGED, LEADER, LEADER_SYNC, LINK, SYNC, ZAB, regression,
};
use crate::mutations::{Mutation, Test, edit};

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "current-epoch-before-history",
        bugs: &[4643],
        rule: "currentEpoch is written when the history of the epoch is durable, not before.",
        edits: &[edit(
            SYNC,
            "                self.log_committed(core, out);\n                self.on_flushed(core, out);\n",
            "                if core.current < epoch && !self.commits.is_empty() {\n                    \
             core.disk(DiskRequest::SaveCurrentEpoch(epoch), out);\n                }\n                \
             self.log_committed(core, out);\n                self.on_flushed(core, out);\n",
        )],
        blind: &[],
        test: regression("current_epoch_is_written_only_after_the_history"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "history-of-a-diff-is-logged-at-up-to-date",
        bugs: &[3911],
        rule: "What a DIFF has brought is in the log before NEWLEADER is acknowledged.",
        edits: &[edit(
            SYNC,
            "                self.log_committed(core, out);\n                self.on_flushed(core, out);\n",
            "                self.on_flushed(core, out);\n",
        )],
        blind: &[],
        test: regression("current_epoch_is_written_only_after_the_history"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "new-leader-acknowledged-at-once",
        bugs: &[3023, 4646, 4785],
        rule: "NEWLEADER is acknowledged when history and epoch are durable, not when they are on their way.",
        edits: &[edit(
            SYNC,
            "                self.log_committed(core, out);\n                self.on_flushed(core, out);\n",
            "                self.log_committed(core, out);\n                \
             core.disk(DiskRequest::SaveCurrentEpoch(epoch), out);\n                \
             self.step = Step::SavingCurrent { epoch };\n                \
             self.on_current_saved(core, epoch, out);\n",
        )],
        blind: &[EPOCH_SERVED_BEFORE_DURABLE],
        test: regression("new_leader_is_acknowledged_only_after_history_and_epoch_are_durable"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "proposal-ack-ends-a-synchronization",
        bugs: &[4685],
        rule: "A leader bears ACKs of proposals before the ACK of NEWLEADER.",
        edits: &[edit(
            LEADER_SYNC,
            "        if zxid != Zxid::new(self.epoch, 0) {\n",
            "        if zxid != Zxid::new(self.epoch, 0) {\n            return \
             Err(Misbehaved::AckOfUnproposed { proposed: self.proposed, got: zxid });\n        }\n        \
             if zxid != Zxid::new(self.epoch, 0) {\n",
        )],
        blind: &[],
        test: regression("a_leader_bears_proposal_acks_around_the_ack_of_new_leader"),
        // No follower of ours says such a thing.
        expected: "",
    },
    Mutation {
        name: "commit-before-up-to-date",
        bugs: &[4394],
        rule: "A COMMIT between the ACK of NEWLEADER and UPTODATE ends nobody's role.",
        edits: &[
            edit(
                SYNC,
                "                if next == Some(packet.zxid) {\n",
                "                if new_leader.is_some() && next == Some(packet.zxid) {\n",
            ),
            edit(
                LEADER,
                "            } else if link.stage == Stage::UpToDate {\n",
                "            } else if link.stage != Stage::New {\n",
            ),
        ],
        blind: &[],
        test: regression("a_commit_between_the_ack_of_new_leader_and_up_to_date_is_kept"),
        expected: "Accusation",
    },
    Mutation {
        name: "unsaved-snapshot-stays-in-memory",
        bugs: &[3642],
        rule: "A tree that came by SNAP and was not saved is dropped before the next vote.",
        edits: &[edit(ZAB, "        if self.core.adopted_unsaved {\n", "        if false {\n")],
        blind: &[ADOPTED_SERVED_BEFORE_DURABLE],
        test: regression("an_adopted_snapshot_that_was_not_saved_is_dropped_before_the_vote"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "new-leader-acknowledged-before-the-snapshot",
        bugs: &[3104],
        rule: "After SNAP, NEWLEADER is acknowledged when the snapshot of all that came before it is durable.",
        edits: &[edit(
            SYNC,
            "                core.disk(DiskRequest::SaveSnapshot, out);\n",
            "                self.save_current(core, epoch, out);\n                \
             core.disk(DiskRequest::SaveSnapshot, out);\n",
        )],
        blind: &[ADOPTED_SERVED_BEFORE_DURABLE],
        test: regression("after_snap_new_leader_is_acknowledged_only_when_the_snapshot_is_saved"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "cut-that-misses-its-zxid-goes-on",
        bugs: &[3701],
        rule: "A cut that does not end exactly where the leader says ends the role.",
        edits: &[edit(
            SYNC,
            "            if core.marks.applied() != zxid {\n",
            "            if core.marks.applied() != zxid && zxid.0 < 0 {\n",
        )],
        blind: &[],
        test: regression("a_cut_that_misses_its_zxid_ends_the_role"),
        expected: "Digest",
    },
    Mutation {
        name: "synchronized-proposals-are-not-remembered",
        bugs: &[4925],
        rule: "What a follower got in its synchronization is passed on when it leads.",
        edits: &[edit(
            SYNC,
            "            core.append(proposal.clone(), out);\n            core.apply(proposal, out);\n",
            "            core.append(proposal.clone(), out);\n            \
             core.marks.apply(proposal.zxid);\n            \
             out.push(Output::Replica(crate::Effect::Apply(proposal)));\n",
        )],
        blind: &[HOLES_ARE_FOLLOWED, HOLES_ARE_LOGGED],
        test: regression("what_came_in_a_synchronization_is_passed_on_to_others"),
        expected: "Accusation; blind: Digest",
    },
    Mutation {
        name: "observer-counts-for-new-leader",
        bugs: &[],
        rule: "Observers count in no quorum.",
        edits: &[edit(
            LEADER_SYNC,
            "        let quorum = core.config.ensemble.is_quorum(|id| self.new_leader_acks.contains(&id));\n",
            "        let observed = self.links.values().any(|link| link.observer && link.stage == \
             Stage::Acknowledged);\n        let quorum = core.config.ensemble.is_quorum(|id| observed || \
             self.new_leader_acks.contains(&id));\n",
        )],
        blind: &[],
        test: Test("zab", "rules", "the_ack_of_an_observer_counts_in_no_quorum"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "up-to-date-before-a-quorum",
        bugs: &[],
        rule: "Nobody serves an epoch before a quorum has acknowledged NEWLEADER.",
        edits: &[edit(
            LEADER_SYNC,
            "        if self.wait != Wait::NewLeaderAcks || !quorum {\n",
            "        if self.wait != Wait::NewLeaderAcks {\n",
        )],
        blind: &[],
        test: Test(
            "zab",
            "rules",
            "a_leader_serves_only_when_a_quorum_has_acknowledged_new_leader",
        ),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "hole-is-followed",
        bugs: &[4925],
        rule: "A learner leaves a leader that skips a zxid.",
        edits: &[HOLES_ARE_FOLLOWED],
        blind: &[HOLES_ARE_LOGGED],
        test: regression("a_learner_leaves_a_leader_that_skips_a_zxid"),
        // No leader of ours skips one.
        expected: "",
    },
    Mutation {
        name: "phantom-is-not-cut",
        bugs: &[],
        rule: "A proposal that was never committed is cut from the log that has it.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/history.rs",
            "            Choice::Trunc(max, Vec::new())\n",
            "            Choice::Diff(max, Vec::new())\n",
        )],
        blind: &[],
        test: Test("zab", "lib", "history::tests::a_learner_ahead_is_cut_back"),
        expected: "Digest",
    },
    Mutation {
        name: "acks-outlive-a-cut",
        bugs: &[],
        rule: "What a server had acknowledged counts no more when its log is cut back.",
        edits: &[edit(
            LEADER_SYNC,
            "            self.acked.remove(&server);\n",
            "            let _ = server;\n",
        )],
        blind: &[],
        test: regression("acknowledgements_end_where_the_log_is_cut"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "snapshot-stream-is-no-sign-of-life",
        bugs: &[],
        rule: "A learner that takes in a long snapshot has more than initLimit, as long as it makes progress.",
        edits: &[edit(
            LINK,
            "            self.streamed = Some(Streamed { bytes, ended, at_ms: now_ms });\n",
            "            let at_ms = self.streamed.map_or(now_ms, |first| first.at_ms);\n            \
             self.streamed = Some(Streamed { bytes, ended, at_ms });\n",
        )],
        blind: &[],
        test: Test("zab", "slow_snapshots", "progress_of_the_stream_is_a_sign_of_life"),
        expected: "",
    },
    Mutation {
        name: "stream-alone-keeps-a-leader",
        bugs: &[],
        rule: "A learner that only gets a snapshot does not count as alive for the leader's quorum.",
        edits: &[edit(
            LINK,
            "        self.forwards() && (self.streamed.is_none() || now_ms < self.silent_ms())\n",
            "        self.forwards() && now_ms < u64::MAX\n",
        )],
        blind: &[],
        test: Test("zab", "slow_snapshots", "a_stream_alone_does_not_keep_a_leader"),
        expected: "",
    },
    Mutation {
        name: "epoch-is-not-announced",
        bugs: &[],
        rule: "An epoch is announced right before its first record, behind all history before it.",
        edits: &[edit(SYNC, "                core.prepare_current(announced, out);\n", "")],
        blind: &[],
        test: Test("zab", "histories", "an_epoch_is_announced_only_behind_all_history_before_it"),
        expected: "Storage",
    },
    Mutation {
        name: "zxid-beyond-the-epoch-is-taken",
        bugs: &[],
        rule: "No history reaches beyond the epoch that its leader has announced.",
        edits: &[edit(
            SYNC,
            "        if got.0 < 0 || self.epoch < got.epoch() {\n",
            "        if got.0 < 0 {\n",
        )],
        blind: &[],
        test: Test("zab", "wire", "a_zxid_beyond_the_leaders_epoch_ends_the_role"),
        expected: "",
    },
    Mutation {
        name: "inform-overtakes-a-proposal",
        bugs: &[],
        rule: "An INFORM does not overtake a proposal that waits for its commit.",
        edits: &[edit(
            SYNC,
            "                if self.commits.len() != self.remembered.len() {\n",
            "                if self.commits.len() > self.remembered.len() {\n",
        )],
        blind: &[],
        test: Test("zab", "wire", "an_inform_does_not_overtake_a_proposal_of_the_synchronization"),
        expected: "",
    },
    Mutation {
        name: "diff-with-a-gap-before-the-memory",
        bugs: &[],
        rule: "A DIFF from the log and the memory has no gap between the two.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/history.rs",
            "        if !reaches_back || !reaches_memory {\n",
            "        if !reaches_back || (logged.is_empty() && !reaches_memory) {\n",
        )],
        blind: &[HOLES_ARE_FOLLOWED, HOLES_ARE_LOGGED],
        test: Test("zab", "lib", "history::tests::the_log_on_disk_fills_in_only_without_a_gap"),
        expected: "Accusation; blind: Digest",
    },
    Mutation {
        name: "empty-memory-drops-the-last-proposal",
        bugs: &[],
        rule: "With an empty memory a DIFF from the log has the log's last proposal, too.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/history.rs",
            "        let only_logged = |zxid: Zxid| if empty { zxid <= max } else { zxid < min };\n",
            "        let only_logged = |zxid: Zxid| if empty { zxid < max } else { zxid < min };\n",
        )],
        blind: &[],
        test: Test(
            "zab",
            "lib",
            "history::tests::an_empty_memory_leaves_the_last_proposal_to_the_log",
        ),
        expected: "Digest, CommittedHistory",
    },
    Mutation {
        name: "failed-cut-is-forgotten-with-its-role",
        bugs: &[],
        rule: "A cut that fails after the end of its role is answered by a snapshot from the next leader.",
        edits: &[edit(
            ZAB,
            "        let answer = core.on_disk(input);\n",
            "        let answer = core.on_disk(input);\n        if let (Role::Stopping, \
             crate::core::DiskAnswer::CannotCut) = (&self.role, &answer) {\n            \
             core.needs_snapshot = false;\n        }\n",
        )],
        blind: &[],
        test: Test("zab", "rules", "a_cut_that_fails_after_the_end_of_its_role_is_remembered"),
        expected: "",
    },
    Mutation {
        name: "synchronized-history-is-not-in-the-tree",
        bugs: &[3023],
        rule: "What the leader has committed is in a follower's tree before the follower serves.",
        edits: &[edit(
            SYNC,
            "            core.append(proposal.clone(), out);\n            core.apply(proposal, out);\n",
            "            core.append(proposal.clone(), out);\n            self.pending.push_back(proposal);\n",
        )],
        blind: &[],
        test: regression("what_a_diff_has_committed_is_in_the_tree_before_the_epoch_is_served"),
        expected: "Digest; explorer: InitialHistory",
    },
    Mutation {
        name: "history-behind-the-ack-of-new-leader",
        bugs: &[4646],
        rule: "The history is durable before currentEpoch says so and NEWLEADER is acknowledged.",
        edits: &[edit(
            SYNC,
            "                self.log_committed(core, out);\n                self.on_flushed(core, out);\n",
            "                self.save_current(core, epoch, out);\n                self.log_committed(core, out);\n",
        )],
        blind: &[],
        test: regression("current_epoch_is_written_only_after_the_history"),
        expected: "AckedIsDurable, CommittedHistory",
    },
    Mutation {
        name: "known-epoch-is-acknowledged-before-the-history",
        bugs: &[4785],
        rule: "NEWLEADER waits for the log also where currentEpoch is written already.",
        edits: &[edit(
            SYNC,
            "            Step::SavingHistory { epoch, snapshot: false } if core.marks.all_flushed() => {\n",
            "            Step::SavingHistory { epoch, snapshot: false } => {\n",
        )],
        blind: &[],
        test: regression("new_leader_of_an_epoch_entered_before_waits_for_the_log_too"),
        expected: "AckedIsDurable, CommittedHistory",
    },
    Mutation {
        name: "proposal-is-acknowledged-before-new-leader",
        bugs: &[4685],
        rule: "A follower's first ACK is that of NEWLEADER.",
        edits: &[EARLY_ACK],
        blind: &[],
        test: regression("proposals_of_a_synchronization_are_acknowledged_after_up_to_date"),
        // A leader of ours bears it.
        expected: "explorer: OldPeers",
    },
    Mutation {
        name: "early-ack-ends-a-synchronization",
        bugs: &[4685],
        rule: "Neither does a follower acknowledge a proposal before NEWLEADER, nor does a leader give up at that.",
        edits: &[
            EARLY_ACK,
            edit(
                LEADER_SYNC,
                "            if !link.observer {\n                self.vouch(core, server, zxid)?;\n                \
                 self.commit_acknowledged(core, out);\n            }\n            return Ok(());\n",
                "            return Err(Misbehaved::AckOfUnproposed { proposed: self.proposed, got: zxid });\n",
            ),
        ],
        blind: &[],
        test: regression("a_leader_bears_proposal_acks_around_the_ack_of_new_leader"),
        expected: "Accusation; explorer: OldPeers, Peers",
    },
];
