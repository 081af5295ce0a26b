//! Rules of elections and of the Zab roles.

mod broadcast;
mod elections;
mod synchronization;

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
const HOLES_ARE_FOLLOWED: Edit =
    edit(SYNC, "        if !got.may_follow(previous) {\n", "        if got <= previous {\n");
const HOLES_ARE_LOGGED: Edit = edit(
    LOG_WRITER,
    "        if !zxid.may_follow(self.appended) {\n",
    "        if zxid <= self.appended {\n",
);
/// A follower acknowledges what the synchronization has brought as soon as it is durable.
const EARLY_ACK: Edit = edit(
    SYNC,
    "                self.save_current(core, epoch, out);\n            }\n            Step::Broadcast => {\n",
    "                if core.marks.flushed().counter() != 0 {\n                    \
     let ack = Packet::bare(PacketKind::Ack, core.marks.flushed());\n                    \
     out.push(Output::to_leader(ack));\n                }\n                \
     self.save_current(core, epoch, out);\n            }\n            Step::Broadcast => {\n",
);

/// Where the explorer comes upon a broken rule first; other scopes only take longer.
pub const SCOPES: [(&str, &str); 9] = [
    ("synchronized-history-is-not-in-the-tree", "sync"),
    ("history-of-a-diff-is-logged-at-up-to-date", "sync"),
    ("current-epoch-before-history", "sync"),
    ("history-behind-the-ack-of-new-leader", "sync"),
    ("known-epoch-is-acknowledged-before-the-history", "broadcast"),
    ("proposal-is-acknowledged-before-new-leader", "sync"),
    ("early-ack-ends-a-synchronization", "sync"),
    ("commit-before-up-to-date", "join"),
    ("vote-without-the-uncommitted-tail", "join"),
];

/// Elections, then what follows them.
pub const TABLES: [&[Mutation]; 3] =
    [elections::MUTATIONS, synchronization::MUTATIONS, broadcast::MUTATIONS];
