//! Directories as Apache ZooKeeper leaves them: another server has used this one in the place of ours.
//!
//! It writes the same history in its own manner. It makes zeros of its own behind the records, has no mark
//! and no seams, keeps the logs and snapshots from before a leader's snapshot, writes snapshots under their
//! names while the tree changes, and dies in the middle of what we do with temporary names.

use oxkeeper_proto::Zxid;
use oxkeeper_storage::log_file::HEADER;
use oxkeeper_storage::{Disk, LogReader, MemDisk, Place, names};

use crate::dice::Dice;
use crate::disk::trust::HarmKind;
use crate::server::Death;
use crate::world::World;

/// What a leader's snapshot has replaced here, and Apache would have kept.
#[derive(Debug, Default)]
pub struct Attic {
    files: Vec<(Place, String, Vec<u8>)>,
}

impl Attic {
    /// All logs and snapshots of a disk, whose history ends before `zxid`.
    pub fn of(disk: &MemDisk, end: Zxid, zxid: Zxid) -> Attic {
        let mut files = Vec::new();
        // What is behind a snapshot in a log would be replayed onto it: that is Apache's own loss.
        if end < zxid {
            for place in [Place::Snapshots, Place::Logs] {
                let mut found = disk.list(place).unwrap_or_default();
                found.retain(|name| is_of(place, name));
                for name in found {
                    let bytes = disk.bytes(place, &name).unwrap_or_default();
                    files.push((place, name, bytes));
                }
            }
        }
        Attic { files }
    }

    /// Puts all that is gone back.
    fn restore(&mut self, disk: &MemDisk) -> bool {
        let mut restored = false;
        for (place, name, bytes) in self.files.drain(..) {
            if disk.bytes(place, &name).is_none() {
                disk.put(place, &name, &bytes);
                restored = true;
            }
        }
        restored
    }
}

fn is_of(place: Place, name: &str) -> bool {
    match place {
        Place::Logs => names::log_zxid(name).is_some(),
        Place::Snapshots => names::snapshot_zxid(name).is_some(),
    }
}

/// The files of a place by zxid.
fn files(disk: &MemDisk, place: Place) -> Vec<(Zxid, String)> {
    let zxid = |name: &str| match place {
        Place::Logs => names::log_zxid(name),
        Place::Snapshots => names::snapshot_zxid(name),
    };
    let names = disk.list(place).unwrap_or_default();
    let mut files: Vec<_> =
        names.into_iter().filter_map(|name| Some((zxid(&name)?, name))).collect();
    files.sort();
    files
}

impl World<'_> {
    /// The process ends, and the directory is as Apache's would be with the same history.
    pub fn leave_to_apache(&mut self, server: usize, pick: u64) {
        let me = &self.servers[server];
        if !me.is_up() || me.trust.harm.is_some() {
            return;
        }
        self.crash(server, Death::Kill);
        if self.servers[server].trust.under_way.is_some() {
            return;
        }
        let mut dice = Dice::new(pick);
        let (disk, durable) = (self.servers[server].disk.mem.clone(), self.servers[server].durable);
        self.note(|| format!("s{} is left as by Apache", server + 1));
        self.summary.count_disk("Apache's directory");
        // What Apache ignores is not changed by it; but here it may have been another's.
        for name in ["acknowledged", "seams"] {
            disk.vanish(Place::Logs, name);
        }
        let older = self.servers[server].attic.restore(&disk);
        if older {
            self.summary.count_disk("Apache's older history");
        }
        pad_logs(&disk, &mut dice);
        end_badly(&disk, &mut dice, durable);
        if dice.one_in(2) && make_fuzzy(&disk, &mut dice) {
            self.summary.count_disk("fuzzy snapshot");
        }
        // Where no seam is proven a start may refuse this, so it counts as harm.
        if dice.one_in(3)
            && self.may_harm(server)
            && let Some(name) = leave_snapshot(&disk, &mut dice, durable)
        {
            self.harm(server, HarmKind::Damaged, vec![(Place::Snapshots, name)]);
        }
        // The older history is there, and nothing leads from it to what came by the snapshot.
        if older
            && dice.one_in(2)
            && self.may_harm(server)
            && let Some((_, name)) = files(&disk, Place::Snapshots).pop()
        {
            disk.damage(Place::Snapshots, &name, &|bytes| {
                let middle = bytes.len() / 2;
                bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 4);
            });
            self.harm(server, HarmKind::Damaged, vec![(Place::Snapshots, name)]);
        }
        for name in ["acceptedEpoch.tmp", "currentEpoch.tmp"] {
            if dice.one_in(3) && disk.bytes(Place::Snapshots, name).is_none() {
                disk.put(Place::Snapshots, name, b"");
            }
        }
    }
}

/// Apache writes zeros ahead in large pieces.
fn pad_logs(disk: &MemDisk, dice: &mut Dice) {
    for (_, name) in files(disk, Place::Logs) {
        let zeros = dice.pick(&[0, 1, 511, 4096, 20_000]);
        disk.damage(Place::Logs, &name, &|bytes| bytes.resize(bytes.len() + zeros, 0));
    }
}

/// A process that dies leaves the beginning of a record, or of a log.
fn end_badly(disk: &MemDisk, dice: &mut Dice, durable: Zxid) {
    let next = names::log(Zxid(durable.0 + 1));
    // A log gets the name of its first record: nothing may be there yet that comes behind.
    let behind = Zxid(durable.0 + 1);
    let newer = files(disk, Place::Logs).pop().is_some_and(|(first, _)| behind <= first);
    let written = LogReader::new(disk.clone(), behind, 1 << 20)
        .is_ok_and(|mut reader| !matches!(reader.next_record(), Ok(None)));
    let there = newer || written;
    match dice.below(4) {
        0 if !there => disk.put(Place::Logs, &next, b""),
        1 if !there => disk.put(Place::Logs, &next, &HEADER),
        2 => {
            // The checksum and the length of a record, and none of it.
            let Some((_, name)) = files(disk, Place::Logs).pop() else { return };
            disk.damage(Place::Logs, &name, &|bytes| {
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let head = [0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 60, 1, 2, 3];
                bytes.truncate(end);
                bytes.extend(head);
                bytes.resize(end + 512, 0);
            });
        }
        _ => {}
    }
}

/// The newest snapshot gets an older name: it was begun then, and the tree has changed while it was
/// written. The log has what lies between.
fn make_fuzzy(disk: &MemDisk, dice: &mut Dice) -> bool {
    let Some((zxid, name)) = files(disk, Place::Snapshots).pop() else { return false };
    let begun = Zxid(zxid.0 - dice.between(1, 30) as i64);
    let suffix = name.splitn(3, '.').nth(2).map_or(String::new(), |end| format!(".{end}"));
    let other = format!("snapshot.{:x}{suffix}", begun.0);
    if !covers(disk, begun, zxid) || disk.bytes(Place::Snapshots, &other).is_some() {
        return false;
    }
    let bytes = disk.bytes(Place::Snapshots, &name).unwrap_or_default();
    disk.vanish(Place::Snapshots, &name);
    disk.put(Place::Snapshots, &other, &bytes);
    true
}

/// Does the log have all from behind `begun` to `end`, in one epoch?
fn covers(disk: &MemDisk, begun: Zxid, end: Zxid) -> bool {
    let mut next = begun.0 + 1;
    let Ok(mut reader) = LogReader::new(disk.clone(), Zxid(next), 1 << 20) else { return false };
    while begun.epoch() == end.epoch()
        && begun.counter() < end.counter()
        && let Ok(Some(record)) = reader.next_record()
        && record.zxid.0 == next
    {
        if record.zxid == end {
            return true;
        }
        next += 1;
    }
    false
}

/// A snapshot of which nothing or not all was written when the process died.
fn leave_snapshot(disk: &MemDisk, dice: &mut Dice, durable: Zxid) -> Option<String> {
    let (newest, name) = files(disk, Place::Snapshots).pop()?;
    let bytes = disk.bytes(Place::Snapshots, &name).unwrap_or_default();
    let suffix = name.splitn(3, '.').nth(2).map_or(String::new(), |end| format!(".{end}"));
    if durable <= newest {
        return None;
    }
    let len = dice.below(bytes.len() as u64) as usize * dice.below(2) as usize;
    let left = format!("snapshot.{:x}{suffix}", durable.0);
    disk.put(Place::Snapshots, &left, &bytes[..len]);
    Some(left)
}
