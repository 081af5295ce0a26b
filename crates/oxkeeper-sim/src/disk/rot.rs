//! Damage to files: bits that turn, sectors that are lost or come from elsewhere, files that are gone.

use oxkeeper_storage::acknowledged::{self, Found};
use oxkeeper_storage::{Disk, MemDisk, Place, names};

use crate::dice::Dice;
use crate::disk::FuseDisk;
use crate::disk::trust::HarmKind;
use crate::server::Death;
use crate::world::World;

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Target {
    NewestLog,
    OlderLog,
    NewestSnapshot,
    OlderSnapshot,
    Mark,
    Seams,
    Adopting,
    AcceptedEpoch,
    CurrentEpoch,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Damage {
    /// One bit turns.
    Flip,
    /// Bytes are zeros.
    Zeros,
    /// Bytes are others.
    Noise,
    /// Bytes are those of another place in the file.
    Elsewhere,
    /// The file ends there.
    Cut,
    /// The file has no bytes.
    Empty,
    /// The file is gone.
    Gone,
    /// Bytes cannot be read.
    Unreadable,
}

/// A damage to a file; `place` and `len` choose the bytes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Rot {
    pub target: Target,
    pub damage: Damage,
    pub place: u64,
    pub len: u64,
}

impl Rot {
    /// Draws one.
    pub fn draw(dice: &mut Dice) -> Rot {
        use Target::*;
        let target = dice.pick(&[
            NewestLog,
            NewestLog,
            NewestLog,
            OlderLog,
            NewestSnapshot,
            NewestSnapshot,
            OlderSnapshot,
            Mark,
            Seams,
            Adopting,
            AcceptedEpoch,
            CurrentEpoch,
        ]);
        let damage = dice.pick(&[
            Damage::Flip,
            Damage::Flip,
            Damage::Zeros,
            Damage::Zeros,
            Damage::Noise,
            Damage::Elsewhere,
            Damage::Cut,
            Damage::Empty,
            Damage::Gone,
            Damage::Unreadable,
        ]);
        Rot { target, damage, place: dice.any(), len: dice.between(1, 600) }
    }

    /// The file on this disk.
    fn file(self, disk: &FuseDisk) -> Option<(Place, String)> {
        let sorted = |place: Place, zxid: fn(&str) -> Option<oxkeeper_proto::Zxid>| {
            let mut files = disk.list(place).unwrap_or_default();
            files.retain(|name| zxid(name).is_some());
            files.sort_by_key(|name| zxid(name));
            files
        };
        let older = |mut files: Vec<String>| {
            files.pop();
            let nth = self.place as usize % files.len().max(1);
            files.into_iter().nth(nth)
        };
        let (logs, snapshots) = (names::log_zxid, names::snapshot_zxid);
        let (place, name) = match self.target {
            Target::NewestLog => (Place::Logs, sorted(Place::Logs, logs).pop()),
            Target::OlderLog => (Place::Logs, older(sorted(Place::Logs, logs))),
            Target::NewestSnapshot => (Place::Snapshots, sorted(Place::Snapshots, snapshots).pop()),
            Target::OlderSnapshot => (Place::Snapshots, older(sorted(Place::Snapshots, snapshots))),
            Target::Mark => (Place::Logs, Some("acknowledged".to_owned())),
            Target::Seams => (Place::Logs, Some("seams".to_owned())),
            Target::Adopting => (Place::Snapshots, Some("adopting".to_owned())),
            Target::AcceptedEpoch => (Place::Snapshots, Some("acceptedEpoch".to_owned())),
            Target::CurrentEpoch => (Place::Snapshots, Some("currentEpoch".to_owned())),
        };
        let name = name.filter(|name| disk.list(place).is_ok_and(|names| names.contains(name)))?;
        Some((place, name))
    }

    /// Is the file one that says what the server has promised? Its number has no checksum.
    fn is_promise(self) -> bool {
        matches!(self.target, Target::AcceptedEpoch | Target::CurrentEpoch)
    }

    fn apply(self, mem: &MemDisk, place: Place, name: &str) {
        let bytes = mem.bytes(place, name).unwrap_or_default();
        // Where something is: most of a log is zeros.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let from = (self.place % end.max(1) as u64) as usize;
        let to = bytes.len().min(from + self.len as usize);
        let change = |content: &mut Vec<u8>| {
            let (from, to) = (from.min(content.len()), to.min(content.len()));
            match self.damage {
                Damage::Flip => content[from..to].iter_mut().take(1).for_each(|byte| *byte ^= 64),
                Damage::Zeros => content[from..to].fill(0),
                Damage::Noise => {
                    let mut noise = self.place;
                    for byte in &mut content[from..to] {
                        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        *byte ^= (noise >> 33) as u8;
                    }
                }
                Damage::Elsewhere => {
                    let other = (self.place >> 32) as usize % content.len().max(1);
                    let len = (to - from).min(content.len().saturating_sub(other));
                    content.copy_within(other..other + len, from);
                }
                Damage::Cut => content.truncate(from),
                Damage::Empty => content.clear(),
                Damage::Gone | Damage::Unreadable => {}
            }
        };
        match self.damage {
            Damage::Gone => _ = mem.vanish(place, name),
            Damage::Unreadable => {
                _ = mem.make_unreadable(place, name, from as u64, to.max(from + 1) as u64);
            }
            _ if self.is_promise() => {
                // Never another number: that would be a promise that nobody can tell from a true one.
                _ = mem
                    .damage(place, name, &|content| content.splice(..0, *b"\x7f").for_each(drop));
            }
            _ => _ = mem.damage(place, name, &change),
        }
    }
}

impl World<'_> {
    /// Damages a file of a server, unless that is more than anybody promises to survive.
    pub fn rot(&mut self, server: usize, rot: Rot, kill: bool) {
        if !self.may_harm(server) {
            return;
        }
        // Read by a start alone.
        let at_rest = kill || rot.is_promise();
        if at_rest && self.servers[server].is_up() {
            self.crash(server, Death::Kill);
        }
        let disk = self.servers[server].disk.clone();
        let Some((place, name)) = rot.file(&disk) else { return };
        let is_history = names::log_zxid(&name).is_some() || names::snapshot_zxid(&name).is_some();
        let promise_gone = rot.is_promise() && rot.damage == Damage::Gone;
        let forgets = promise_gone || is_history && !self.end_is_noted(server);
        if forgets && !self.vouched(server) {
            return;
        }
        rot.apply(&disk.mem, place, &name);
        self.summary.count_disk(match rot.target {
            Target::NewestLog => "rot in the newest log",
            Target::OlderLog => "rot in an older log",
            Target::NewestSnapshot => "rot in the newest snapshot",
            Target::OlderSnapshot => "rot in an older snapshot",
            Target::Mark => "rot in the mark",
            Target::Seams => "rot in the seams",
            Target::Adopting => "rot in an adoption",
            Target::AcceptedEpoch => "rot in acceptedEpoch",
            Target::CurrentEpoch => "rot in currentEpoch",
        });
        let files = if is_history { vec![(place, name)] } else { Vec::new() };
        let kind = if forgets { HarmKind::Forgot } else { HarmKind::Damaged };
        self.harm(server, kind, files);
    }

    /// Does the mark tell of all that was acknowledged? After a loss of power it may be a second old.
    pub fn end_is_noted(&self, server: usize) -> bool {
        let me = &self.servers[server];
        match acknowledged::read(&me.disk) {
            Ok(Found::Mark(mark)) => me.durable <= mark.zxid && me.trust.current <= mark.epoch,
            _ => false,
        }
    }
}
