//! Who leads: votes, promises, quorums.

use super::{
    APPENDS_IN_ANY_ORDER, DISCOVERY, ELECTION, ENSEMBLE, EPOCH_BEGINS_WITH_ANY_LOG, LEARNER, ZAB,
    regression,
};
use crate::mutations::{Mutation, Test, edit};

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
        name: "newer-history-unseats-a-leader",
        bugs: &[],
        rule: "A leader that serves makes way for a newer promise, never for a newer history.",
        edits: &[edit(
            DISCOVERY,
            "            Some(theirs) if theirs <= ours => {\n",
            "            Some(theirs) if theirs <= ours || theirs.epoch >= 0 => {\n",
        )],
        blind: &[],
        test: Test("zab", "histories", "a_newer_history_does_not_unseat_a_leader_that_serves"),
        expected: "CommittedHistory, where a majority has lost its disks",
    },
    Mutation {
        name: "ack-of-a-broken-promise-counts",
        bugs: &[],
        rule: "A server that has promised a newer epoch does not count for an older one.",
        edits: &[edit(
            DISCOVERY,
            "        if self.epoch < link.promised {\n            return Err(Misbehaved::BrokenPromise",
            "        if u32::MAX == link.promised {\n            return Err(Misbehaved::BrokenPromise",
        )],
        blind: &[],
        test: Test("zab", "histories", "a_leader_takes_no_ack_of_an_epoch_older_than_the_promise"),
        // No follower of ours sends one.
        expected: "",
    },
    Mutation {
        name: "joiner-follows-hearsay",
        bugs: &[],
        rule: "A joiner follows only a leader that it has heard itself.",
        edits: &[edit(
            ELECTION,
            "        if self.ensemble.is_quorum(agrees) && known(&self.outside) {\n",
            "        if self.ensemble.is_quorum(agrees) {\n",
        )],
        blind: &[],
        test: regression("a_joiner_follows_only_a_leader_it_has_heard"),
        expected: "",
    },
    Mutation {
        name: "who-asked-in-vain-is-not-told",
        bugs: &[],
        rule: "Who asked without a vote during an election is told its result.",
        edits: &[edit(
            ELECTION,
            "        for asker in std::mem::take(&mut self.askers) {\n",
            "        for asker in std::mem::take(&mut self.askers).into_iter().take(0) {\n",
        )],
        blind: &[],
        test: regression("who_asked_without_a_vote_during_an_election_is_told_its_result"),
        expected: "Liveness",
    },
];
