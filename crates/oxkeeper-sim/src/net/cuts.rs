//! What is wrong with single lines: cut in one direction, on one port, far, narrow.

use std::collections::BTreeMap;

use crate::net::{ConnId, Kind};
use crate::world::{Event, World};

/// Nothing gets from one node to another, on one port or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The sender.
    pub from: usize,
    /// The receiver.
    pub to: usize,
    /// Only this port.
    pub kind: Option<Kind>,
}

impl Cut {
    fn kinds(self) -> impl Iterator<Item = Kind> {
        let all = [Kind::Quorum, Kind::Election, Kind::Client];
        all.into_iter().filter(move |kind| self.kind.is_none_or(|only| only == *kind))
    }
}

/// All that is wrong, by sender and receiver.
#[derive(Debug, Default)]
pub struct Lines {
    /// How many faults cut it.
    cuts: BTreeMap<(usize, usize, Kind), u32>,
    /// µs that each message takes longer.
    far: BTreeMap<(usize, usize), u64>,
    /// Bytes a second.
    narrow: BTreeMap<(usize, usize), u64>,
}

impl Lines {
    /// Does nothing get through?
    pub fn is_cut(&self, from: usize, to: usize, kind: Kind) -> bool {
        !self.cuts.is_empty() && self.cuts.contains_key(&(from, to, kind))
    }

    /// Is anything wrong between these two?
    pub fn is_sound(&self, a: usize, b: usize) -> bool {
        let ours = |from: usize, to: usize| (from, to) == (a, b) || (from, to) == (b, a);
        !self.cuts.keys().any(|(from, to, _)| ours(*from, *to))
            && !self.far.keys().chain(self.narrow.keys()).any(|(from, to)| ours(*from, *to))
    }

    /// What a message of this size costs: µs of delay, and µs during which the line is busy.
    pub fn cost(&self, from: usize, to: usize, bytes: usize) -> (u64, u64) {
        if self.far.is_empty() && self.narrow.is_empty() {
            return (0, 0);
        }
        let extra = self.far.get(&(from, to)).copied().unwrap_or(0);
        let us = self.rate(from, to).map_or(0, |rate| bytes as u64 * 1_000_000 / rate);
        (extra, us)
    }

    /// Bytes a second, if they are limited.
    pub fn rate(&self, from: usize, to: usize) -> Option<u64> {
        self.narrow.get(&(from, to)).copied()
    }

    /// Each message takes `us` longer; 0: no more.
    pub fn set_far(&mut self, from: usize, to: usize, us: u64) {
        self.far.insert((from, to), us);
        self.far.retain(|_, us| *us > 0);
    }

    /// Only so many bytes a second; 0: as many as there are.
    pub fn set_rate(&mut self, from: usize, to: usize, rate: u64) {
        self.narrow.insert((from, to), rate);
        self.narrow.retain(|_, rate| *rate > 0);
    }
}

impl World<'_> {
    /// Cuts a line.
    pub fn cut(&mut self, cut: Cut) {
        for kind in cut.kinds() {
            *self.net.lines.cuts.entry((cut.from, cut.to, kind)).or_default() += 1;
        }
    }

    /// One cut less. If that was the last one of a line, what it held back goes on, or its connections break.
    pub fn heal(&mut self, cut: Cut) {
        for kind in cut.kinds() {
            let line = (cut.from, cut.to, kind);
            let Some(cuts) = self.net.lines.cuts.get_mut(&line) else { continue };
            *cuts -= 1;
            if *cuts == 0 {
                self.net.lines.cuts.remove(&line);
                self.mended(cut.from, cut.to, kind);
            }
        }
    }

    /// All lines are as they should be.
    pub fn heal_all(&mut self) {
        let lines = std::mem::take(&mut self.net.lines);
        for (from, to, kind) in lines.cuts.into_keys() {
            self.mended(from, to, kind);
        }
    }

    fn mended(&mut self, from: usize, to: usize, kind: Kind) {
        self.note(|| format!("network: {from} reaches {to} again, {kind:?}"));
        for id in self.conns_between(from, to) {
            let lost = self.dice.one_in(8);
            let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.kind == kind) else {
                continue;
            };
            let end = usize::from(conn.nodes[1] == to);
            let pipe = &mut conn.pipes[end];
            if pipe.scheduled || pipe.queue.is_empty() {
                continue;
            }
            if lost {
                self.reset(id);
                continue;
            }
            pipe.scheduled = true;
            let delay = self.delay();
            self.after(delay, Event::Deliver { conn: id, end });
        }
    }

    /// Bytes of an election connection stay unacknowledged: its sender gives it up after syncLimit
    /// (TCP_USER_TIMEOUT).
    pub(super) fn await_healing(&mut self, conn: ConnId, end: usize) {
        let limit = self.plan.sync_limit_us();
        self.after(limit, Event::Unacknowledged { conn, end, since: self.now });
    }

    /// Is it so still? Then the sender's machine gives up.
    pub fn unacknowledged(&mut self, id: ConnId, end: usize, since: u64) {
        let Some(conn) = self.conns.get(&id) else { return };
        let pipe = &conn.pipes[end];
        let cut = self.net.lines.is_cut(conn.nodes[1 - end], conn.nodes[end], conn.kind);
        if cut && pipe.queue.front().is_some_and(|(at, _)| *at <= since) {
            self.give_up(id, 1 - end);
        }
    }
}
