//! Proposals, their ACKs and commits, syncs, and what may wait.

use super::{LEADER, LEARNER, LINK, WATERMARKS, regression};
use crate::mutations::{Mutation, Test, edit};

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "zxids-go-on-behind-the-counters-end",
        bugs: &[],
        rule: "A leader whose epoch has no zxid left steps down.",
        edits: &[edit(
            LEADER,
            "        next.filter(|_| self.serving())\n",
            "        next.or(Some(Zxid(self.proposed.0 + 1))).filter(|_| self.serving())\n",
        )],
        blind: &[],
        test: Test("zab", "rules", "an_epoch_has_no_zxid_behind_the_counters_end"),
        expected: "",
    },
    Mutation {
        name: "learner-that-acknowledges-nothing-is-kept",
        bugs: &[2201],
        rule: "A learner that takes proposals and acknowledges none is given up after syncLimit.",
        edits: &[edit(
            LINK,
            "            self.unacked_since_ms.get_or_insert(now_ms);\n",
            "            let _ = now_ms;\n",
        )],
        blind: &[],
        test: regression("a_learner_that_acknowledges_nothing_is_given_up"),
        expected: "Liveness",
    },
    Mutation {
        name: "follower-acknowledges-before-its-flush",
        bugs: &[],
        rule: "A follower acknowledges a proposal when its log has it durably.",
        edits: &[edit(
            LEARNER,
            "        self.pending.push_back(proposal.clone());\n        core.append(proposal, out);\n",
            "        let zxid = proposal.zxid;\n        self.pending.push_back(proposal.clone());\n        \
             core.append(proposal, out);\n        if self.unacked.pop_back().is_some() {\n            \
             out.push(Output::to_leader(Packet::bare(PacketKind::Ack, zxid)));\n        }\n",
        )],
        blind: &[],
        test: regression("a_proposal_is_acknowledged_only_after_its_flush"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "leader-counts-itself-before-its-flush",
        bugs: &[],
        rule: "A leader counts its own log when it is durable.",
        edits: &[edit(
            LEADER,
            "        core.append(proposal, out);\n        let bytes = self.outstanding.bytes();\n",
            "        core.append(proposal, out);\n        \
             self.acked.insert(core.config.me, self.proposed);\n        \
             let bytes = self.outstanding.bytes();\n",
        )],
        blind: &[],
        test: regression("a_leader_counts_its_own_log_only_after_its_flush"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "commit-without-a-majority",
        bugs: &[],
        rule: "A proposal is committed when a majority of the voters has logged it.",
        edits: &[edit(
            LEADER,
            "            if !core.config.ensemble.is_quorum(logged) {\n",
            "            let voters: Vec<ServerId> = core.config.ensemble.voters().collect();\n            \
             if 2 * voters.iter().filter(|id| logged(**id)).count() + 1 < voters.len() {\n",
        )],
        blind: &[],
        test: regression("a_leader_counts_its_own_log_only_after_its_flush"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "commit-out-of-order",
        bugs: &[],
        rule: "Proposals are committed in the order of their zxids.",
        edits: &[
            edit(
                LEADER,
                "        while let Some(head) = self.outstanding.front() {\n",
                "        while let Some(head) = self.outstanding.back() {\n",
            ),
            edit(
                LEADER,
                "            let Some(proposal) = self.outstanding.pop_front() else { break };\n",
                "            let Some(proposal) = self.outstanding.pop_back() else { break };\n",
            ),
            edit(
                "crates/oxkeeper-zab/src/queue.rs",
                "    pub fn pop_front(&mut self) -> Option<Proposal> {\n",
                "    pub fn pop_back(&mut self) -> Option<Proposal> {\n        \
             let proposal = self.proposals.pop_back()?;\n        self.bytes -= cost(&proposal);\n        \
             Some(proposal)\n    }\n\n    pub fn pop_front(&mut self) -> Option<Proposal> {\n",
            ),
        ],
        blind: &[
            edit(
                LEADER,
                r#"        assert!(self.committed < zxid && zxid <= self.proposed, "commits leave in zxid order");"#,
                "",
            ),
            edit(
                WATERMARKS,
                "        assert!(self.applied < zxid, \"each transaction is applied once: {zxid} after {self:?}\");\n        \
                 self.applied = zxid;\n",
                "        self.applied = self.applied.max(zxid);\n",
            ),
        ],
        test: Test("zab", "rules", "commits_leave_in_the_order_of_the_zxids"),
        expected: "TotalOrder, LocalPrimaryOrder",
    },
    Mutation {
        name: "follower-commits-what-is-not-its-oldest",
        bugs: &[],
        rule: "A follower applies the oldest pending proposal, and only when the leader names it.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/queue.rs",
            "        if self.front()?.zxid == zxid { self.pop_front() } else { None }\n",
            "        if self.front()?.zxid <= zxid { self.pop_front() } else { None }\n",
        )],
        blind: &[],
        test: Test("zab", "rules", "a_commit_that_skips_a_proposal_ends_the_role"),
        // No leader of ours skips one.
        expected: "",
    },
    Mutation {
        name: "sync-answered-early",
        bugs: &[],
        rule: "A sync is answered behind the commits of all that was proposed before it.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/leader/requests.rs",
            "            if self.committed < after || !self.followed_by_quorum(core, since_ms, who) {\n",
            "            if self.committed < Zxid(after.0.min(0))\n                || !self.followed_by_quorum(core, since_ms, who)\n            {\n",
        )],
        blind: &[],
        test: regression("a_sync_is_answered_behind_the_commit_of_what_was_outstanding"),
        expected: "Linearizability",
    },
    Mutation {
        name: "deposed-leader-answers-syncs",
        bugs: &[],
        rule: "A sync is answered when a quorum is known to follow, not when the leader believes to lead.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/leader/requests.rs",
            "            if self.committed < after || !self.followed_by_quorum(core, since_ms, who) {\n",
            "            if self.committed < after || since_ms == u64::MAX {\n",
        )],
        blind: &[],
        test: Test("zab", "syncs", "a_deposed_leader_answers_no_sync"),
        expected: "Linearizability",
    },
    Mutation {
        name: "leader-with-a-hung-disk-stays",
        bugs: &[],
        rule: "A leader whose disk hangs for longer than syncLimit steps down.",
        edits: &[edit(LEADER, "        core.check_disk_time()?;\n", "")],
        blind: &[],
        test: Test("zab", "queues", "a_leader_whose_disk_hangs_steps_down_after_sync_limit"),
        expected: "",
    },
    Mutation {
        name: "queue-of-a-leader-without-bound",
        bugs: &[],
        rule: "A leader steps down when more waits for its disk or its quorum than may.",
        edits: &[edit(
            LEADER,
            "        if core.config.limits.queued_bytes < bytes {\n            return \
                 Err(Lost::QuorumTooSlow { bytes });\n        }\n        core.check_disk_bytes()\n",
            "        let _ = bytes;\n        Ok(())\n",
        )],
        blind: &[],
        test: Test("zab", "queues", "a_leader_steps_down_when_512_mib_wait_for_its_quorum"),
        expected: "",
    },
    Mutation {
        name: "queue-of-a-learner-without-bound",
        bugs: &[],
        rule: "A learner leaves a leader that proposes and never commits.",
        edits: &[edit(
            LEARNER,
            "        if bytes <= core.config.limits.queued_bytes {\n",
            "        if bytes < usize::MAX {\n",
        )],
        blind: &[],
        test: Test("zab", "queues", "a_learner_leaves_a_leader_that_proposes_and_never_commits"),
        expected: "",
    },
    Mutation {
        name: "unreadable-proposal-is-logged",
        bugs: &[],
        rule: "A transaction that cannot be read is never logged, whatever carries it.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/proposal.rs",
            "        Payload::decode(&payload).map_err(malformed)?;\n",
            "        let _ = Payload::decode(&payload).map_err(malformed);\n",
        )],
        blind: &[],
        test: Test(
            "zab",
            "wire",
            "a_transaction_that_cannot_be_read_is_never_logged_whatever_carries_it",
        ),
        expected: "",
    },
    Mutation {
        name: "leader-without-a-quorum-stays",
        bugs: &[],
        rule: "A leader that has no quorum of live learners stops serving.",
        edits: &[edit(
            LEADER,
            "        if core.config.ensemble.is_quorum(alive) { Ok(()) } else { Err(Lost::NoQuorum) }\n",
            "        if core.config.ensemble.is_quorum(alive) || self.serving() { Ok(()) } else { \
             Err(Lost::NoQuorum) }\n",
        )],
        blind: &[],
        test: regression("a_silent_learner_is_given_up_and_the_leader_without_quorum_stops"),
        expected: "Liveness",
    },
];
