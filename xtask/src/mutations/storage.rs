//! Rules of the log, of snapshots and of the small files beside them.

use super::{Edit, Mutation, Test, edit};

const LOAD: &str = "crates/oxkeeper-storage/src/load.rs";
const ADOPTION: &str = "crates/oxkeeper-storage/src/adoption.rs";
const PURGE: &str = "crates/oxkeeper-storage/src/purge.rs";
const LOG_WRITER: &str = "crates/oxkeeper-storage/src/log_writer.rs";
const LOG_FILE: &str = "crates/oxkeeper-storage/src/log_file.rs";
const LOG_READER: &str = "crates/oxkeeper-storage/src/log_reader.rs";
const LOG_RANGE: &str = "crates/oxkeeper-storage/src/log_range.rs";
const LOG_CUT: &str = "crates/oxkeeper-storage/src/log_cut.rs";
const LOST_TAIL: &str = "crates/oxkeeper-storage/src/lost_tail.rs";
const EPOCHS: &str = "crates/oxkeeper-storage/src/epochs.rs";
const REPLAY: &str = "crates/oxkeeper-storage/src/replay.rs";
const SNAPSHOT_READER: &str = "crates/oxkeeper-storage/src/snapshot_reader.rs";
const SNAPSHOT_WRITER: &str = "crates/oxkeeper-storage/src/snapshot_writer.rs";

const fn rules(name: &'static str) -> Test {
    Test("storage", "rules", name)
}

/// An older snapshot is taken wherever the log ends.
const NO_BRIDGE: Edit =
    edit(LOAD, "    base.is_bridged(&replay, replayed)?;\n", "    replayed?;\n");

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "purge-takes-the-log-of-the-oldest-snapshot",
        bugs: &[2574],
        rule: "A purge keeps the log that has the records after the oldest snapshot it keeps.",
        edits: &[edit(
            PURGE,
            ".take_while(|(first, _)| *first <= oldest).count().saturating_sub(1);",
            ".take_while(|(first, _)| *first <= oldest).count();",
        )],
        blind: &[],
        test: rules("zookeeper_2574_purge_keeps_the_log_that_the_oldest_kept_snapshot_needs"),
        expected: "Storage",
    },
    Mutation {
        name: "purge-counts-broken-snapshots",
        bugs: &[3231],
        rule: "A purge counts only snapshots that can be read.",
        edits: &[edit(
            PURGE,
            "        if kept < retain.max(MIN_RETAIN) && looks_valid(disk, name)? {\n",
            "        if kept < retain.max(MIN_RETAIN) {\n",
        )],
        blind: &[],
        test: rules("zookeeper_3231_purge_counts_only_valid_snapshots"),
        expected: "Storage",
    },
    Mutation {
        name: "log-has-its-name-before-its-header",
        bugs: &[1621],
        rule: "No crash and no full disk leaves a log with half a header.",
        edits: &[edit(
            LOG_WRITER,
            "        let open = match self.spare.take() {\n            Some(open) => open,\n",
            "        self.disk.create(Place::Logs, &names::log(self.batch_first))?.write_at(&HEADER[..8], 0)?;\n        \
             let open = match self.spare.take() {\n            Some(open) => open,\n",
        )],
        blind: &[],
        test: rules("zookeeper_1621_a_full_disk_leaves_a_directory_that_starts"),
        expected: "Storage",
    },
    Mutation {
        name: "announced-epoch-is-ignored",
        bugs: &[4269],
        rule: "A crash between the first record of an epoch and currentEpoch leaves a directory that starts.",
        edits: &[edit(
            EPOCHS,
            "            Some(current) if current < of_history => self.take_over_temporary(current, last)?,\n",
            "            Some(current) if current < of_history => {\n                return \
             Err(self.problem(CURRENT, EpochProblem::BehindHistory { current, last }));\n            }\n",
        )],
        blind: &[],
        test: rules("zookeeper_4269_the_epoch_about_to_be_entered_is_taken_over_after_a_crash"),
        expected: "Storage",
    },
    Mutation {
        name: "start-trusts-names-that-are-not-durable",
        bugs: &[],
        rule: "A start builds only on names that are durable.",
        edits: &[edit(LOAD, "    sync_names(disk)?;\n", "    let _ = sync_names::<D>;\n")],
        blind: &[],
        test: Test(
            "storage",
            "crash",
            "what_a_start_has_read_is_still_there_after_a_loss_of_power",
        ),
        expected: "Storage, Leadership",
    },
    Mutation {
        name: "snapshots-share-a-temporary-name",
        bugs: &[],
        rule: "An adopted and a periodic snapshot of one zxid do not share a file.",
        edits: &[edit(
            SNAPSHOT_WRITER,
            "        Self::create_as(names::TEMPORARY_ADOPTED, disk, zxid, compression)\n",
            "        Self::create_as(names::TEMPORARY, disk, zxid, compression)\n",
        )],
        blind: &[],
        test: Test(
            "storage",
            "adoption",
            "an_adopted_and_a_periodic_snapshot_of_one_zxid_do_not_share_a_file",
        ),
        expected: "Storage",
    },
    Mutation {
        name: "accepted-epoch-is-not-durable",
        bugs: &[2307],
        rule: "After any crash acceptedEpoch is what was saved last, and never behind currentEpoch.",
        edits: &[edit(
            EPOCHS,
            "        Ok(write_atomically(&self.disk, Place::Snapshots, ACCEPTED, &text(epoch))?)\n",
            "        let file = self.disk.create(Place::Snapshots, ACCEPTED)?;\n        \
             Ok(file.write_at(&text(epoch), 0)?)\n",
        )],
        blind: &[],
        test: Test("storage", "crash", "a_saved_epoch_survives_and_never_mixes"),
        expected: "Storage, Leadership",
    },
    Mutation {
        name: "failed-write-is-passed-over",
        bugs: &[4882],
        rule: "After a failed write or sync nothing is acknowledged and nothing is logged any more.",
        edits: &[edit(
            LOG_WRITER,
            "            took = self.write_batch().map_err(|error| self.poison(error.into()))?;\n",
            "            took = self.write_batch().unwrap_or_default();\n",
        )],
        blind: &[],
        test: rules("zookeeper_4882_a_failed_sync_poisons_the_log_for_ever"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "hole-is-replayed",
        bugs: &[3642],
        rule: "A start refuses a log in which a transaction is missing.",
        edits: &[edit(
            REPLAY,
            "            if !record.zxid.may_follow(self.last) {\n",
            "            if record.zxid <= self.last {\n",
        )],
        blind: &[],
        test: rules("zookeeper_3642_a_hole_anywhere_in_what_is_replayed_is_fatal"),
        // No log of ours has one, unless a disk loses it.
        expected: "Durability, where logs are damaged",
    },
    Mutation {
        name: "hole-is-logged",
        bugs: &[4925, 3642],
        rule: "A record that does not follow the last one is not logged.",
        edits: &[edit(
            LOG_WRITER,
            "        if !zxid.may_follow(self.appended) {\n",
            "        if zxid <= self.appended {\n",
        )],
        blind: &[],
        test: rules("zookeeper_4925_a_record_that_does_not_follow_is_never_logged"),
        // Nobody above sends one.
        expected: "",
    },
    Mutation {
        name: "older-snapshot-without-a-bridge",
        bugs: &[3642],
        rule: "An older snapshot is taken only if the log leads past every newer one that cannot be read.",
        edits: &[NO_BRIDGE],
        blind: &[],
        test: Test(
            "storage",
            "adoption",
            "an_older_snapshot_is_taken_only_if_the_log_leads_past_the_newer_one",
        ),
        expected: "Durability, where snapshots rot",
    },
    Mutation {
        name: "adoption-leaves-the-old-history",
        bugs: &[3642],
        rule: "A snapshot from the leader replaces all that was there.",
        edits: &[edit(
            ADOPTION,
            "        for name in &self.removes {\n",
            "        for name in self.removes.iter().take(0) {\n",
        )],
        blind: &[NO_BRIDGE],
        test: Test(
            "storage",
            "adoption",
            "a_rotten_adopted_snapshot_does_not_bring_back_the_old_history",
        ),
        expected: "Durability, where snapshots rot",
    },
    Mutation {
        name: "adoption-without-a-marker",
        bugs: &[],
        rule: "A crash amid an adoption leaves the old history or the new one, whole.",
        edits: &[edit(
            ADOPTION,
            "        own_file::write(disk, Place::Snapshots, ADOPTING, TITLE, &lines)?;\n",
            "        drop(lines);\n",
        )],
        blind: &[],
        test: Test(
            "storage",
            "adoption",
            "a_crash_anywhere_in_an_adoption_leaves_the_old_history_or_the_new_one",
        ),
        expected: "Storage",
    },
    Mutation {
        name: "diff-across-a-snap",
        bugs: &[4925],
        rule: "The log from before a SNAP is not joined to the log behind it in a DIFF.",
        edits: &[edit(
            LOG_RANGE,
            "            seams.joins(before, zxid, record.begins, record.before)\n",
            "            zxid.may_follow(before)\n",
        )],
        blind: &[],
        test: Test(
            "storage",
            "seams",
            "the_log_from_before_a_snap_is_not_joined_to_the_log_behind_it",
        ),
        expected: "Digest",
    },
    Mutation {
        name: "memory-across-an-unproven-seam",
        bugs: &[],
        rule: "What is kept for learners begins behind the last seam that nothing proves.",
        edits: &[edit(
            REPLAY,
            "        self.contiguous_from = Zxid(record.zxid.0 - 1);\n        self.recent.clear();\n",
            "",
        )],
        blind: &[],
        test: Test(
            "storage",
            "seams",
            "recent_proposals_begin_behind_the_last_seam_that_nothing_proves",
        ),
        expected: "",
    },
    Mutation {
        name: "purged-log-is-bridged",
        bugs: &[],
        rule: "What was purged since the log was proven is not bridged by its numbers.",
        edits: &[edit(
            LOG_RANGE,
            "        let joined = if proven_from <= before && (in_log || zxid.is_next(before)) {\n",
            "        let joined = if proven_from <= before {\n",
        )],
        blind: &[],
        test: Test("storage", "seams", "what_was_purged_since_the_proof_is_not_bridged"),
        expected: "Digest",
    },
    Mutation {
        name: "lost-tail-is-not-noticed",
        bugs: &[],
        rule: "A start notices that acknowledged transactions are gone from the end of the log.",
        edits: &[edit(
            LOST_TAIL,
            "        let lost = self.lost_to(behind.as_ref());\n",
            "        let lost = self.lost_to(behind.as_ref()).filter(|_| self.options.recent == usize::MAX);\n",
        )],
        blind: &[],
        test: Test("storage", "lost_tail", "four_zero_bytes_do_not_hide_what_was_acknowledged"),
        expected: "Durability, where logs lose their end",
    },
    Mutation {
        name: "lost-tail-is-told-once",
        bugs: &[],
        rule: "A lost tail is told at each start until the member is synchronized.",
        edits: &[edit(
            LOST_TAIL,
            "            OnLostTail::Report => self.set_mark(to)?,\n",
            "            OnLostTail::Report => self.set_mark(self.last)?,\n",
        )],
        blind: &[],
        test: Test(
            "storage",
            "lost_tail",
            "a_member_goes_on_without_a_vote_and_says_so_again_until_it_is_synchronized",
        ),
        expected: "Durability, where logs lose their end",
    },
    Mutation {
        name: "mark-is-not-written",
        bugs: &[],
        rule: "The mark says how far the log was acknowledged, before anybody is told.",
        edits: &[edit(LOG_WRITER, "            self.mark.advance(self.appended)?;\n", "")],
        blind: &[],
        test: Test(
            "storage",
            "lost_tail",
            "the_mark_is_exact_after_a_kill_and_not_behind_its_last_sync_after_a_loss_of_power",
        ),
        expected: "Durability, where logs lose their end",
    },
    Mutation {
        name: "cut-before-the-mark-is-lowered",
        bugs: &[],
        rule: "A cut lowers the mark before anything goes from the log.",
        edits: &[edit(
            LOG_CUT,
            "    mark.set(acknowledged.zxid.min(zxid), acknowledged.epoch)?;\n",
            "    mark.set(acknowledged.zxid, acknowledged.epoch)?;\n",
        )],
        blind: &[],
        test: Test("storage", "lost_tail", "a_cut_lowers_the_mark_before_the_log"),
        expected: "Liveness",
    },
    Mutation {
        name: "sync-without-fdatasync",
        bugs: &[],
        rule: "What was synced is there after any loss of power.",
        edits: &[edit(
            LOG_WRITER,
            "                took += open.file.append_durably(bytes, open.position)?;\n",
            "                open.file.write_at(bytes, open.position)?;\n",
        )],
        blind: &[],
        test: Test("storage", "crash", "a_start_finds_all_that_was_synced_and_no_hole"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "log-begins-without-a-durable-name",
        bugs: &[],
        rule: "A new log's name is durable before a record in it is acknowledged.",
        edits: &[edit(
            LOG_WRITER,
            "        self.disk.rename(Place::Logs, SPARE, &names::log(self.batch_first))?;\n        \
             self.disk.sync_dir(Place::Logs)?;\n",
            "        self.disk.rename(Place::Logs, SPARE, &names::log(self.batch_first))?;\n",
        )],
        blind: &[],
        test: Test("storage", "crash", "a_start_finds_all_that_was_synced_and_no_hole"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "start-votes-with-what-it-does-not-own",
        bugs: &[],
        rule: "A start makes the end of the log its own before the server votes with it.",
        edits: &[edit(
            LOG_READER,
            "    file.write_at(&bytes[..len], start)?;\n    file.sync()?;\n    disk.sync_dir(Place::Logs)?;\n",
            "    file.write_at(&bytes[..len], start)?;\n",
        )],
        blind: &[],
        test: Test("storage", "crash", "a_start_finds_all_that_was_synced_and_no_hole"),
        expected: "CommittedHistory, Durability",
    },
    Mutation {
        name: "checksum-of-a-record-is-ignored",
        bugs: &[],
        rule: "A record with a wrong checksum is no data.",
        edits: &[edit(
            LOG_FILE,
            "        if stored == u64::from(computed) {\n",
            "        if stored == u64::from(computed) || stored != 0 {\n",
        )],
        blind: &[],
        test: rules("a_record_torn_in_sectors_ends_the_newest_log_and_is_cut_off"),
        expected: "Digest, where logs are torn",
    },
    Mutation {
        name: "torn-end-stays",
        bugs: &[],
        rule: "The torn end of the newest log is cut off before anything is logged behind it.",
        edits: &[edit(
            LOG_READER,
            "    if cut {\n        file.set_len(end)?;\n    }\n",
            "    let _ = cut;\n",
        )],
        blind: &[],
        test: rules("a_record_torn_in_sectors_ends_the_newest_log_and_is_cut_off"),
        expected: "Storage",
    },
    Mutation {
        name: "seal-of-a-snapshot-is-ignored",
        bugs: &[],
        rule: "A snapshot without its seal, or with a wrong one, is no snapshot.",
        edits: &[edit(
            SNAPSHOT_READER,
            "        if stored != u64::from(computed) || window[8..] != END {\n",
            "        if stored != u64::from(computed) && window[8..] != END {\n",
        )],
        blind: &[],
        test: Test("storage", "golden", "every_byte_of_a_snapshot_is_guarded"),
        expected: "Digest, where snapshots rot",
    },
    Mutation {
        name: "snapshot-has-its-name-before-its-bytes",
        bugs: &[],
        rule: "A snapshot is durable before it has its name.",
        edits: &[edit(
            SNAPSHOT_WRITER,
            "            file.sync().map_err(StorageError::SnapshotWrite)?;\n",
            "",
        )],
        blind: &[],
        test: Test("storage", "crash", "a_snapshot_is_there_whole_or_not_at_all"),
        expected: "Storage",
    },
];
