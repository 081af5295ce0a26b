//! Rules of elections and of the Zab roles.

use super::{Edit, Mutation, Test, edit};

const ZAB: &str = "crates/oxkeeper-zab/src/zab.rs";
const ELECTION: &str = "crates/oxkeeper-zab/src/election.rs";
const LEARNER: &str = "crates/oxkeeper-zab/src/learner.rs";
const SYNC: &str = "crates/oxkeeper-zab/src/learner/synchronization.rs";
const LEADER: &str = "crates/oxkeeper-zab/src/leader.rs";
const DISCOVERY: &str = "crates/oxkeeper-zab/src/leader/discovery.rs";
const LEADER_SYNC: &str = "crates/oxkeeper-zab/src/leader/synchronization.rs";
const LINK: &str = "crates/oxkeeper-zab/src/leader/link.rs";
const ENSEMBLE: &str = "crates/oxkeeper-proto/src/ensemble.rs";
const WATERMARKS: &str = "crates/oxkeeper-zab/src/watermarks.rs";
const LOG_WRITER: &str = "crates/oxkeeper-storage/src/log_writer.rs";

const fn regression(name: &'static str) -> Test {
    Test("zab", "regressions", name)
}

/// The log takes what it has already, or what is older.
const APPENDS_IN_ANY_ORDER: Edit = edit(
    WATERMARKS,
    r#"        assert!(self.appended < zxid, "the log grows in zxid order: {zxid} after {self:?}");"#,
    "",
);
const EPOCH_SERVED_BEFORE_DURABLE: Edit = edit(
    LEARNER,
    r#"        assert_eq!(core.current, epoch, "currentEpoch is durable before the epoch is served");"#,
    "",
);
const ADOPTED_SERVED_BEFORE_DURABLE: Edit =
    edit(LEARNER, r#"        assert!(!core.adopted_unsaved, "so is the history");"#, "");
const EPOCH_BEGINS_WITH_ANY_LOG: Edit = edit(
    WATERMARKS,
    r#"        assert!(self.all_flushed() && self.appended <= start, "nothing was proposed: {self:?}");"#,
    "",
);

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "vote-without-the-uncommitted-tail",
        bugs: &[2845],
        rule: "A vote counts all that the log has, committed or not.",
        edits: &[edit(
            ZAB,
            "        for proposal in pending {\n            self.core.apply(proposal, out);\n        }\n",
            "        drop(pending);\n",
        )],
        blind: &[APPENDS_IN_ANY_ORDER, EPOCH_BEGINS_WITH_ANY_LOG],
        test: regression("a_vote_counts_the_uncommitted_tail_of_the_log"),
        expected: "Digest, CommittedHistory",
    },
    Mutation {
        name: "current-epoch-before-history",
        bugs: &[4643],
        rule: "currentEpoch is written when the history of the epoch is durable, not before.",
        edits: &[edit(
            SYNC,
            "                self.step = Step::SavingHistory { epoch, snapshot: false };\n",
            "                self.step = Step::SavingHistory { epoch, snapshot: false };\n                \
             core.disk(DiskRequest::SaveCurrentEpoch(epoch), out);\n",
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
        name: "vote-before-the-disk-is-idle",
        bugs: &[4712],
        rule: "No election begins before the disk has done all that it was asked.",
        edits: &[edit(
            ZAB,
            "        if !matches!(self.role, Role::Stopping) || !self.core.disk_idle() {\n",
            "        if !matches!(self.role, Role::Stopping) {\n",
        )],
        blind: &[APPENDS_IN_ANY_ORDER, EPOCH_BEGINS_WITH_ANY_LOG],
        test: regression("no_vote_before_everything_appended_is_durable_and_applied"),
        expected: "CommittedHistory, Durability",
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
        name: "joiner-compares-whole-votes",
        bugs: &[1818],
        rule: "A joiner compares only leader and epoch of servers that have a leader.",
        edits: &[edit(
            ELECTION,
            "                other.vote.leader == vote.leader && other.vote.peer_epoch == vote.peer_epoch\n",
            "                other.vote == vote\n",
        )],
        blind: &[],
        test: regression("a_joiner_compares_only_leader_and_epoch_of_servers_that_have_a_leader"),
        expected: "Liveness",
    },
    Mutation {
        name: "half-is-a-quorum",
        bugs: &[],
        rule: "A quorum is more than half of the voters.",
        edits: &[edit(
            ENSEMBLE,
            "            return acked > all / 2;\n",
            "            return acked >= all / 2;\n",
        )],
        blind: &[],
        test: Test("proto", "lib", "ensemble::tests::a_majority_is_more_than_half_of_the_voters"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "weights-are-ignored",
        bugs: &[],
        rule: "In a group, weights count and not heads.",
        edits: &[edit(
            ENSEMBLE,
            "            let weight = |id| i128::from(self.weight(id));\n",
            "            let weight = |id| i128::from(self.weight(id).min(1));\n",
        )],
        blind: &[],
        test: Test(
            "proto",
            "lib",
            "ensemble::tests::a_hierarchical_quorum_wins_most_groups_by_weight",
        ),
        expected: "",
    },
    Mutation {
        name: "zxids-go-on-behind-the-counters-end",
        bugs: &[],
        rule: "A leader whose epoch has no zxid left steps down.",
        edits: &[edit(
            LEADER,
            "        if self.serving() { self.proposed.next() } else { None }\n",
            "        if self.serving() { Some(Zxid(self.proposed.0 + 1)) } else { None }\n",
        )],
        blind: &[],
        test: Test("zab", "scenarios", "every_recorded_conversation_happens_again"),
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
        name: "role-ends-and-the-link-stays",
        bugs: &[3240],
        rule: "A learner whose role ends closes its link to the leader, whatever the reason.",
        edits: &[edit(
            ZAB,
            "                out.push(Output::Port(PortRequest::CloseLeader));\n",
            "",
        )],
        blind: &[],
        test: regression("a_learner_whose_role_ends_closes_its_link_whatever_the_reason"),
        expected: "",
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
        name: "epoch-promised-before-it-is-saved",
        bugs: &[],
        rule: "An epoch is promised to a leader when acceptedEpoch says so durably.",
        edits: &[edit(
            LEARNER,
            "            core.disk(DiskRequest::SaveAcceptedEpoch(epoch), out);\n",
            "            core.disk(DiskRequest::SaveAcceptedEpoch(epoch), out);\n            \
             self.ack_epoch(core, epoch, current, out)?;\n",
        )],
        blind: &[],
        test: Test("zab", "rules", "an_epoch_is_promised_only_when_it_is_saved"),
        expected: "Leadership",
    },
    Mutation {
        name: "epoch-promised-before-counts",
        bugs: &[],
        rule: "An epoch that a follower has promised before does not count toward a leader's quorum.",
        edits: &[edit(
            LEARNER,
            "            self.ack_epoch(core, epoch, None, out)?;\n",
            "            self.ack_epoch(core, epoch, Some(core.current), out)?;\n",
        )],
        blind: &[],
        test: regression("an_epoch_promised_before_does_not_count_toward_the_quorum"),
        expected: "Leadership",
    },
    Mutation {
        name: "older-epoch-is-followed",
        bugs: &[],
        rule: "A leader of an older epoch than the promised one is left.",
        edits: &[edit(
            LEARNER,
            "        if epoch < core.accepted {\n",
            "        if epoch < core.current {\n",
        )],
        blind: &[],
        test: regression("a_leader_of_an_older_epoch_is_left"),
        expected: "Leadership",
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
        name: "newer-history-is-cut",
        bugs: &[],
        rule: "A leader whose epoch is not acknowledged by a quorum yet refuses a newer history.",
        edits: &[edit(
            DISCOVERY,
            "            if self.summary < theirs {\n",
            "            if self.summary < theirs && theirs.epoch < 0 {\n",
        )],
        blind: &[],
        test: regression("a_newer_learner_is_refused_until_a_quorum_has_acknowledged_the_epoch"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "older-history-wins",
        bugs: &[],
        rule: "The vote for the newer history wins: by epoch, then by zxid, then by id.",
        edits: &[edit(
            ELECTION,
            "            && (self.peer_epoch, self.zxid, self.leader)\n                > (other.peer_epoch, \
             other.zxid, other.leader)\n",
            "            && (self.zxid, self.leader) > (other.zxid, other.leader)\n",
        )],
        blind: &[],
        test: Test("zab", "rules", "a_newer_epoch_beats_a_longer_log"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "sync-answered-early",
        bugs: &[],
        rule: "A sync is answered behind the commits of all that was proposed before it.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/leader/requests.rs",
            "            if self.committed < *after || !self.heard_quorum(core, *heard_ms) {\n",
            "            if self.committed < Zxid(after.0.min(0)) || !self.heard_quorum(core, *heard_ms) {\n",
        )],
        blind: &[],
        test: regression("a_sync_is_answered_behind_the_commit_of_what_was_outstanding"),
        expected: "Linearizability",
    },
    Mutation {
        name: "deposed-leader-answers-syncs",
        bugs: &[],
        rule: "A sync is answered when a quorum has been heard, not when the leader believes to lead.",
        edits: &[edit(
            "crates/oxkeeper-zab/src/leader/requests.rs",
            "            if self.committed < *after || !self.heard_quorum(core, *heard_ms) {\n",
            "            if self.committed < *after || *heard_ms == u64::MAX {\n",
        )],
        blind: &[],
        test: Test("zab", "syncs", "a_deposed_leader_answers_no_sync"),
        expected: "Linearizability",
    },
    Mutation {
        name: "lost-tail-votes",
        bugs: &[],
        rule: "A member that has lost what it acknowledged has no vote until it is brought up to date.",
        edits: &[
            edit(
                ELECTION,
                "        self.ensemble.is_voter(self.me) && !self.abstains\n",
                "        self.ensemble.is_voter(self.me)\n",
            ),
            edit(
                LEARNER,
                "            let current = core.lost_tail.is_none().then_some(core.current);\n",
                "            let current = Some(core.current);\n",
            ),
        ],
        blind: &[edit(
            ZAB,
            r#"            assert!(self.core.lost_tail.is_none(), "who lacks what it acknowledged does not lead");"#,
            "",
        )],
        test: Test("zab", "lost_tail", "it_asks_for_a_leader_and_proposes_none"),
        expected: "CommittedHistory, Durability",
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
            "        if core.queue_limit < bytes {\n            return \
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
            "        if bytes <= core.queue_limit {\n",
            "        if bytes < usize::MAX {\n",
        )],
        blind: &[],
        test: Test("zab", "queues", "a_learner_leaves_a_leader_that_proposes_and_never_commits"),
        expected: "",
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
];

const HOLES_ARE_FOLLOWED: Edit =
    edit(SYNC, "        if !got.may_follow(previous) {\n", "        if got <= previous {\n");
const HOLES_ARE_LOGGED: Edit = edit(
    LOG_WRITER,
    "        if !zxid.may_follow(self.appended) {\n",
    "        if zxid <= self.appended {\n",
);
