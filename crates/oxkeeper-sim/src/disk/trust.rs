//! Whose disk has kept its promises.
//!
//! A disk **harms** its server when it loses or changes what it said was durable. The product survives
//! that at a minority of the voters at a time, as long as what is lost leaves a trace: a log and the mark
//! that tells of its end do not go together. Without a trace (an empty disk, an older one) it survives
//! only while a quorum of the others, all unharmed, **vouches**: they have all that this server may have
//! acknowledged or promised. A server is harmed until its directory is whole again.

use oxkeeper_proto::{Epoch, Zxid};
use oxkeeper_storage::mem_disk::Lie;
use oxkeeper_storage::{Disk, DiskError, Place, StorageError, acknowledged, names};

use crate::violation::{Rule, Violation};
use crate::world::{Due, World};

/// What the disk did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarmKind {
    /// It says that things are durable which may not be. Nothing is lost as long as it has power.
    Lying,
    /// It has damaged files, or lost what it had said was durable.
    Damaged,
    /// It has forgotten without a trace; others vouch.
    Forgot,
}

/// What a disk did to its server.
#[derive(Clone, Debug)]
pub struct Harm {
    /// What it did.
    pub kind: HarmKind,
    /// All up to here it had told durable.
    pub told: Zxid,
    /// Damaged files that no start has to read; they harm as long as they are there.
    pub files: Vec<(Place, String)>,
    /// The process at the time; a later one has read the directory.
    pub incarnation: u64,
}

/// What changes a history on purpose, and was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// A cut, or an epoch that began there: what is above may go.
    Down(Zxid),
    /// A leader's snapshot: all of the old history, or this.
    Adoption(Zxid),
}

/// What a server relies on of its disk.
#[derive(Debug, Default)]
pub struct Trust {
    /// Set while its disk may not hold what it said.
    pub harm: Option<Harm>,
    /// acceptedEpoch that the disk told durable.
    pub accepted: Epoch,
    /// currentEpoch that the disk told durable.
    pub current: Epoch,
    /// Changes the history when the process ends.
    pub under_way: Option<UnderWay>,
    /// How often it ended since it was harmed because of what its disk holds.
    pub refusals: u32,
    /// Its directory is to be replaced by an empty one, as soon as others vouch.
    pub given_up: bool,
}

/// A server that ends so often over a damaged directory will not do better the next time.
const PATIENCE: u32 = 4;

impl World<'_> {
    /// Is there a quorum of unharmed servers without this one?
    pub fn others_suffice(&self, server: usize) -> bool {
        self.plan.ensemble.is_quorum(|id| {
            let at = (id - 1) as usize;
            at != server && self.servers[at].trust.harm.is_none()
        })
    }

    /// May this one be harmed now?
    pub fn may_harm(&self, server: usize) -> bool {
        self.plan.disk.harm
            && self.now < self.plan.faults_end
            && self.servers[server].trust.harm.is_none()
            && self.servers[server].incarnation > 0
            && self.others_suffice(server)
    }

    /// Its disk breaks its promises from now on.
    pub fn harm(&mut self, server: usize, kind: HarmKind, files: Vec<(Place, String)>) {
        let (told, incarnation) = (self.servers[server].durable, self.servers[server].incarnation);
        self.note(|| format!("s{} is harmed: {kind:?} {files:?}", server + 1));
        self.servers[server].trust.harm = Some(Harm { kind, told, files, incarnation });
        self.after_verification(server);
    }

    /// Do a quorum of unharmed others have everything that this server may have acknowledged, and are they
    /// bound by every epoch that it promised?
    pub fn vouched(&self, server: usize) -> bool {
        let me = &self.servers[server];
        let told = me.trust.harm.as_ref().map_or(me.durable, |harm| harm.told.max(me.durable));
        let vouches = |other: &crate::server::Server| {
            let trust = &other.trust;
            // A history is newer by the epoch that it was acknowledged in, and may end in an older one.
            let (theirs, mine) = (trust.current, me.trust.current.max(told.epoch()));
            let history = mine < theirs || mine == theirs && told <= other.durable;
            trust.harm.is_none()
                && trust.under_way.is_none()
                && history
                && trust.accepted >= me.trust.accepted
        };
        self.plan.ensemble.is_quorum(|id| {
            let at = (id - 1) as usize;
            at != server && vouches(&self.servers[at])
        })
    }

    /// Before the power goes.
    pub fn before_power_loss(&mut self, server: usize) {
        let vouched = self.vouched(server);
        let durable = self.servers[server].durable;
        let mem = self.servers[server].disk.mem.clone();
        let Some(harm) = &mut self.servers[server].trust.harm else { return };
        harm.told = harm.told.max(durable);
        // A fault takes the end of the log or what is known of it, never both.
        mem.write_back(Place::Logs, acknowledged::ACKNOWLEDGED);
        if let Some(mark) = mem.bytes(Place::Logs, acknowledged::ACKNOWLEDGED) {
            // Also if a sync of it has just failed.
            mem.damage(Place::Logs, acknowledged::ACKNOWLEDGED, &|bytes| bytes.clone_from(&mark));
        }
        match mem.lie() {
            None => {}
            Some(Lie::Logs) => harm.kind = HarmKind::Damaged,
            Some(Lie::Everything) if vouched => harm.kind = HarmKind::Forgot,
            Some(Lie::Everything) => {
                // It was lucky: all of it had reached the disk.
                mem.set_lie(None);
                self.servers[server].trust.harm = None;
            }
        }
    }

    /// Does the power really go? It does not in runs whose log is not synced.
    pub fn loses_power(&mut self, server: usize, power: bool) -> bool {
        let blown = self.servers[server].disk.is_blown();
        if !self.plan.disk.force_sync || !(power || blown) {
            return false;
        }
        if blown {
            let phase = self.servers[server].disk.phase().name();
            *self.summary.power_lost.entry(phase).or_default() += 1;
        }
        self.before_power_loss(server);
        true
    }

    /// The power has gone.
    pub fn after_power_loss(&mut self, server: usize) {
        let me = &mut self.servers[server];
        let Some(lie) = me.disk.mem.lie() else { return };
        me.disk.mem.set_lie(None);
        let Some(harm) = &mut me.trust.harm else { return };
        // Any of them may lack something.
        for place in [Place::Logs, Place::Snapshots] {
            let names = me.disk.list(place).unwrap_or_default();
            let named = |name: &String| {
                names::log_zxid(name).is_some()
                    || lie == Lie::Everything && names::snapshot_zxid(name).is_some()
            };
            harm.files.extend(names.into_iter().filter(named).map(|name| (place, name)));
        }
        self.summary.count_disk("lie found out");
    }

    /// Looks again in a while whether a harmed server is whole.
    pub fn after_verification(&mut self, server: usize) {
        if self.servers[server].trust.harm.is_some() && self.servers[server].is_up() {
            self.after_for(server, 400_000, Due::Verify);
        }
    }

    /// Tells failed operations and damage, which end the process, from a broken rule.
    pub fn excuses(&mut self, server: usize, error: &StorageError) -> Result<(), Violation> {
        let of_disk = matches!(error, StorageError::Disk(_) | StorageError::SnapshotWrite(_));
        let struck = match error {
            StorageError::Disk(error) | StorageError::SnapshotWrite(error) => was_injected(error),
            _ => false,
        };
        let harmed = self.servers[server].trust.harm.is_some();
        if !harmed {
            return match struck {
                true => Ok(()),
                false => Err(Rule::Storage.broken(format!("s{}: {error}", server + 1))),
            };
        }
        let named = error.to_string().contains(&format!("s{}/", server + 1));
        if !named {
            return Err(Rule::Storage
                .broken(format!("s{}: damage without the name of a file: {error}", server + 1)));
        }
        let trust = &mut self.servers[server].trust;
        trust.refusals += 1;
        let first = !trust.given_up;
        trust.given_up |= !of_disk || trust.refusals >= PATIENCE;
        if first && trust.given_up {
            self.summary.count_disk("refused over damage");
        }
        Ok(())
    }

    /// Does it say that it lacks what it has acknowledged, as it must?
    pub fn may_warn_of_loss(&self, server: usize, warning: &str) -> bool {
        self.servers[server].trust.harm.is_some()
            && warning.contains("has acknowledged transactions")
    }

    /// What an operator does with a directory that no server starts on. False: nothing can be done yet.
    pub fn care_for_disk(&mut self, server: usize) -> bool {
        if !self.servers[server].trust.given_up {
            return true;
        }
        if !self.vouched(server) {
            return false;
        }
        self.replace_disk(server);
        true
    }

    /// An empty disk takes the place of the old one. Others vouch.
    pub fn replace_disk(&mut self, server: usize) {
        self.note(|| format!("s{} gets an empty disk", server + 1));
        self.summary.count_disk("empty disk");
        let marked = self.dice.one_in(3);
        let me = &mut self.servers[server];
        me.disk.mem.replace_by_empty();
        if marked {
            me.disk.mem.put_initialize();
        }
        me.durable = Zxid::ZERO;
        me.trust = Trust::default();
        self.harm(server, HarmKind::Forgot, Vec::new());
    }

    /// Looks whether a harmed server is whole again.
    pub fn verify(&mut self, server: usize) -> Result<(), Violation> {
        let me = &self.servers[server];
        let Some(harm) = &me.trust.harm else { return Ok(()) };
        let settled = me
            .process
            .as_ref()
            .is_some_and(|process| process.seen.serving && process.queue.is_idle());
        let mem = &me.disk.mem;
        let over = mem.lie().is_none() && !mem.harm_pending();
        let read = harm.incarnation < me.incarnation && over;
        let there = |(place, name): &(Place, String)| {
            me.disk.list(*place).is_ok_and(|names| names.contains(name))
        };
        let misdirected = me.disk.mem.misdirected();
        let gone = !harm.files.iter().chain(&misdirected).any(there);
        if settled && read && gone && self.loads_whole(server)? {
            self.note(|| format!("s{} is whole again", server + 1));
            self.summary.count_disk("whole again");
            let trust = &mut self.servers[server].trust;
            trust.harm = None;
            (trust.refusals, trust.given_up) = (0, false);
            return Ok(());
        }
        self.after_verification(server);
        Ok(())
    }
}

/// Was the operation made to fail?
fn was_injected(error: &DiskError) -> bool {
    error.source.kind() == std::io::ErrorKind::StorageFull
        || error.source.to_string().contains("injected")
}
