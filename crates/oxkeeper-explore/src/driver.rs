//! What is known already: a server does the same with the same event in all worlds that contain it.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::link::Link;
use crate::rules::{Ghost, Rule};
use crate::server::{Event, Outcome, SERVERS, Server};
use crate::world::Held;

/// The same on every run.
pub fn hash_of(value: &impl Hash) -> u64 {
    FixedState::with_seed(0x6f78).hash_one(value)
}

/// A shared value and its hash.
#[derive(Debug)]
pub struct Hashed<T> {
    /// [`hash_of`] the value.
    pub hash: u64,
    value: T,
}

impl<T: Hash> Hashed<T> {
    /// Shares a value.
    pub fn new(value: T) -> Rc<Hashed<T>> {
        Rc::new(Hashed { hash: hash_of(&value), value })
    }
}

/// Its hash stands for it.
impl<T> Hash for Hashed<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl<T> Deref for Hashed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Remembers what servers do with events, since many worlds contain the same server, and listens to them
/// if anyone wants to read it.
#[derive(Default)]
pub struct Driver {
    known: HashMap<(u64, u64), Rc<Kept>, FixedState>,
    servers: HashMap<u64, Rc<Hashed<Server>>, FixedState>,
    /// One copy of each.
    pub links: HashMap<u64, Rc<Hashed<Link>>, FixedState>,
    /// One copy of each.
    pub ghosts: HashMap<u64, Rc<Hashed<Ghost>>, FixedState>,
    /// Elections that do not end: the members, and the state of all servers.
    pub futile: HashSet<(u8, [u64; SERVERS as usize]), FixedState>,
    /// Rules that are not heeded, to see what follows where they do not hold.
    without: Vec<Rule>,
    /// Lines of the conversation, if wanted.
    pub said: Option<Vec<String>>,
}

/// An [`Outcome`] whose server is shared.
pub struct Kept {
    /// The server after the event.
    pub server: Rc<Hashed<Server>>,
    /// What it did.
    pub outcome: Outcome,
}

impl Driver {
    /// One that does not heed these rules.
    pub fn heedless_of(rules: &[Rule]) -> Driver {
        Driver { without: rules.to_vec(), ..Driver::default() }
    }

    /// What `server` does with `event`.
    pub fn outcome(&mut self, server: &Rc<Hashed<Server>>, event: &Event) -> Rc<Kept> {
        let speak = self.said.is_some();
        let Driver { known, servers, .. } = self;
        let mut make = || {
            let (server, outcome) = server.handle(event, speak);
            let server = Hashed::new(server);
            let server = servers.entry(server.hash).or_insert(server).clone();
            Rc::new(Kept { server, outcome })
        };
        if speak {
            return make();
        }
        let key = (server.hash, hash_of(event));
        known.entry(key).or_insert_with(make).clone()
    }

    /// Forgives what breaks a rule that is not heeded. A failed assertion leaves nothing to go on with.
    pub fn heed(&self, held: Held<()>) -> Held<()> {
        held.or_else(|broken| {
            let forgiven = self.without.contains(&broken.rule) && broken.rule != Rule::Assertion;
            if forgiven { Ok(()) } else { Err(broken) }
        })
    }

    /// Tells, if anyone listens.
    pub fn say(&mut self, lines: &[String]) {
        if let Some(said) = &mut self.said {
            said.extend(lines.iter().map(|line| format!("      {line}")));
        }
    }
}

impl Kept {
    /// Is all that happened inside this server, and is its disk idle before and after?
    pub fn is_quiet(&self, before: &Server) -> bool {
        let Outcome { sent, seen, broken, .. } = &self.outcome;
        let idle = before.disk.queue.is_empty() && self.server.disk.queue.is_empty();
        sent.is_empty() && seen.is_empty() && broken.is_none() && idle
    }
}
