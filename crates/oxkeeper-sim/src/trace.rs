//! What happened in a run: a hash always, the last lines on request.

use std::collections::VecDeque;

use oxkeeper_proto::Zxid;

use crate::tell::{self, Line};

/// Lines kept.
const LINES: usize = 150;

/// Lines of one moment that differ in nothing but the zxid.
#[derive(Debug)]
struct Told {
    at_us: u64,
    what: String,
    zxids: Option<(Zxid, Zxid)>,
    count: u32,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>10.3} ms  {}", self.at_us as f64 / 1000.0, self.what)?;
        match self.zxids {
            None if self.count > 1 => write!(f, " ({})", self.count),
            None => Ok(()),
            Some((first, last)) if first == last => write!(f, " {}", tell::zxid(first)),
            Some((first, last)) => {
                let (first, last) = (tell::zxid(first), tell::zxid(last));
                write!(f, " {first} .. {last} ({})", self.count)
            }
        }
    }
}

/// The record of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    /// Keep lines?
    pub recording: bool,
    /// Print all of them?
    echo: bool,
    lines: VecDeque<Told>,
}

impl Trace {
    /// Nothing happened yet.
    pub fn new(recording: bool, echo: bool) -> Trace {
        Trace { recording, echo, ..Trace::default() }
    }

    /// Adds an event to the hash.
    pub fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// Adds a line, if lines are wanted.
    pub fn line(&mut self, at_us: u64, text: impl FnOnce() -> String) {
        if self.recording {
            self.tell(at_us, Line { what: text(), zxid: None });
        }
    }

    /// Adds a line of a conversation, if lines are wanted.
    pub fn tell(&mut self, at_us: u64, line: Line) {
        if !self.recording {
            return;
        }
        // Packets to several learners alternate: each learner's go on in one line.
        let mut recent = self.lines.iter_mut().rev().take_while(|told| told.at_us == at_us).take(8);
        if let Some(same) = recent.find(|told| told.what == line.what) {
            same.count += 1;
            if let (Some((_, last)), Some(zxid)) = (&mut same.zxids, line.zxid) {
                *last = zxid;
            }
            return;
        }
        if self.lines.len() == LINES
            && let Some(oldest) = self.lines.pop_front()
            && self.echo
        {
            println!("{oldest}");
        }
        let zxids = line.zxid.map(|zxid| (zxid, zxid));
        self.lines.push_back(Told { at_us, what: line.what, zxids, count: 1 });
    }

    /// Hash of all events: equal runs have equal hashes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(Told::to_string)
    }
}
