//! The ensemble as one value: servers, quorum links, what has happened, and what may still happen.
//!
//! Parts are shared between worlds and know their hash, so that the next world costs little more than
//! what differs in it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;
use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::{Notification, PacketKind};
use oxkeeper_zab::{Input, LinkId};

use crate::rules::{self, Broken, Ghost, Rule};
use crate::server::{Event, Message, Outcome, SERVERS, Seen, Sent, Server};
use crate::words;

/// The same on every run.
pub fn hash_of(value: &impl Hash) -> u64 {
    FixedState::with_seed(0x6f78).hash_one(value)
}

/// A shared value and its hash.
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

impl<T> Deref for Hashed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A quorum connection. Each direction keeps its order. What was sent before an end closed (or its server
/// crashed) still arrives, in front of [`Message::Closed`], as TCP delivers it; what was on its way to that
/// end is lost. That an end's last words are lost is the same as the other end closing first: a timeout.
#[derive(Clone, Hash)]
pub struct Link {
    /// As the leader knows it: the learner's id, plus 10 for each older link of this learner that the
    /// leader has not noticed the end of. (Production never gives an id again. Nothing of a closed link is
    /// left that could mistake the next one for it, so these ids make equal states equal.)
    pub id: LinkId,
    /// Who has connected.
    pub learner: ServerId,
    /// To whom.
    pub leader: ServerId,
    /// Does this end still take what comes?
    pub learner_open: bool,
    /// The same.
    pub leader_open: bool,
    to_leader: Vec<Message>,
    to_learner: Vec<Message>,
    /// Has the leader sent NEWLEADER, and not yet UPTODATE?
    synchronizing: bool,
    /// Has the learner acknowledged anything but an epoch?
    acknowledged: bool,
}

impl Link {
    /// The learner sends.
    fn to_leader(&mut self, message: &Message) -> Held<()> {
        if let Message::Packet(packet) = message
            && packet.known_kind() == Some(PacketKind::Ack)
        {
            let first = !std::mem::replace(&mut self.acknowledged, true);
            if first && packet.zxid.counter() != 0 {
                let what = format!(
                    "follower {} sends {} before the ACK of NEWLEADER",
                    self.learner,
                    words::packet(packet)
                );
                return Err(Broken { rule: Rule::OldPeers, what });
            }
        }
        if self.leader_open {
            self.to_leader.push(message.clone());
        }
        Ok(())
    }

    /// The leader sends.
    fn to_learner(&mut self, message: &Message) -> Held<()> {
        if let Message::Packet(packet) = message {
            match packet.known_kind() {
                Some(PacketKind::NewLeader) => self.synchronizing = true,
                Some(PacketKind::UpToDate) => self.synchronizing = false,
                Some(PacketKind::Commit) if self.synchronizing => {
                    let what = format!(
                        "leader {} sends {} to {} between NEWLEADER and UPTODATE",
                        self.leader,
                        words::packet(packet),
                        self.learner
                    );
                    return Err(Broken { rule: Rule::OldPeers, what });
                }
                _ => {}
            }
        }
        if self.learner_open {
            self.to_learner.push(message.clone());
        }
        Ok(())
    }
}

/// What has been used up of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Spent {
    pub crashes: u8,
    pub timeouts: u8,
    pub proposals: u8,
    pub elections: u8,
}

/// All of it.
#[derive(Clone)]
pub struct World {
    servers: [Rc<Hashed<Server>>; SERVERS as usize],
    /// By leader and id; those that the leader has closed last.
    links: Vec<Rc<Hashed<Link>>>,
    ghost: Rc<Hashed<Ghost>>,
    /// Notifications under way: one slot per direction, the newest wins.
    pub votes: BTreeMap<(ServerId, ServerId), Notification>,
    /// Used up so far.
    pub spent: Spent,
}

/// Remembers what servers do with events, since many worlds contain the same server, and listens to them
/// if anyone wants to read it.
#[derive(Default)]
pub struct Driver {
    known: HashMap<(u64, u64), Rc<Kept>, foldhash::fast::FixedState>,
    servers: HashMap<u64, Rc<Hashed<Server>>, foldhash::fast::FixedState>,
    /// Lines of the conversation, if wanted.
    pub said: Option<Vec<String>>,
}

/// An [`Outcome`] whose server is shared.
pub struct Kept {
    server: Rc<Hashed<Server>>,
    outcome: Outcome,
}

impl Driver {
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

    /// Tells, if anyone listens.
    pub fn say(&mut self, lines: &[String]) {
        if let Some(said) = &mut self.said {
            said.extend(lines.iter().map(|line| format!("      {line}")));
        }
    }
}

/// A world, unless a rule is broken.
pub type Held<T> = Result<T, Broken>;

impl World {
    /// Servers that are down, with this on their disks.
    pub fn new(servers: [Server; SERVERS as usize], ghost: Ghost) -> World {
        World {
            servers: servers.map(Hashed::new),
            links: Vec::new(),
            ghost: Hashed::new(ghost),
            votes: BTreeMap::new(),
            spent: Spent::default(),
        }
    }

    /// The same for equal worlds; another one for others, as good as certainly.
    pub fn hash(&self) -> u64 {
        let servers = [0, 1, 2].map(|at: usize| self.servers[at].hash);
        let links = self.links.iter().map(|link| link.hash);
        let links = links.fold(0, |all: u64, link| {
            all.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ link
        });
        hash_of(&(servers, links, self.ghost.hash, self.spent, &self.votes))
    }

    /// Server `id`.
    pub fn server(&self, id: ServerId) -> &Rc<Hashed<Server>> {
        &self.servers[id as usize - 1]
    }

    /// What happened so far.
    pub fn ghost(&self) -> &Ghost {
        &self.ghost
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().map(|link| &***link)
    }

    /// The link of a learner to its leader.
    pub fn link_of(&self, learner: ServerId) -> Option<&Link> {
        self.links().find(|link| link.learner == learner && link.learner_open)
    }

    /// Happens to server `id`, with all that follows from it at once.
    pub fn event(&mut self, id: ServerId, event: &Event, driver: &mut Driver) -> Held<()> {
        let kept = driver.outcome(self.server(id), event);
        self.servers[id as usize - 1] = kept.server.clone();
        driver.say(&kept.outcome.said);
        if let Some(broken) = &kept.outcome.broken {
            return Err(broken.clone());
        }
        self.note(id, &kept.outcome.seen)?;
        for sent in &kept.outcome.sent {
            self.send(id, sent)?;
        }
        rules::check(self, id)?;
        for sent in &kept.outcome.sent {
            match sent {
                Sent::Connect(leader) => self.connect(id, *leader, driver)?,
                Sent::Listen => {
                    for learner in 1..=SERVERS {
                        self.connect(learner, id, driver)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, id: ServerId, seen: &[Seen]) -> Held<()> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut ghost = (**self.ghost).clone();
        seen.iter().try_for_each(|seen| ghost.note(id, seen))?;
        self.ghost = Hashed::new(ghost);
        Ok(())
    }

    /// A leader that serves proposes one more transaction.
    pub fn propose(&mut self, id: ServerId, driver: &mut Driver) -> Option<Held<()>> {
        let server = self.server(id);
        let zxid = server.zab.as_ref()?.next_zxid()?;
        let txn = crate::disk::Txn { zxid, value: self.ghost.proposed.len() as u8 };
        let mut ghost = (**self.ghost).clone();
        let result = ghost.broadcasts(id, txn, &server.tree);
        self.ghost = Hashed::new(ghost);
        if let Err(broken) = result {
            return Some(Err(broken));
        }
        Some(self.event(id, &Event::Input(Input::Propose(txn.proposal())), driver))
    }

    // ---- links

    fn edit(
        &mut self,
        of: impl Fn(&Link) -> bool,
        edit: impl Fn(&mut Link) -> Held<()>,
    ) -> Held<()> {
        for link in self.links.iter_mut().filter(|link| of(link)) {
            let mut edited = (***link).clone();
            edit(&mut edited)?;
            *link = Hashed::new(edited);
        }
        Ok(())
    }

    /// Edits where nothing can be broken.
    fn change(&mut self, of: impl Fn(&Link) -> bool, change: impl Fn(&mut Link)) {
        for link in self.links.iter_mut().filter(|link| of(link)) {
            let mut changed = (***link).clone();
            change(&mut changed);
            *link = Hashed::new(changed);
        }
    }

    fn send(&mut self, id: ServerId, sent: &Sent) -> Held<()> {
        let mine = |link: &Link| link.learner == id && link.learner_open;
        let led = |link: &Link| link.leader == id && link.leader_open;
        let of = |which: LinkId| move |link: &Link| led(link) && link.id == which;
        match sent {
            Sent::Vote(to, notification) => {
                if self.server(*to).zab.is_some() {
                    self.votes.insert((id, *to), notification.clone());
                }
            }
            Sent::ToLeader(message) => return self.edit(mine, |link| link.to_leader(message)),
            Sent::ToLearner(to, message) => {
                return self.edit(of(*to), |link| link.to_learner(message));
            }
            Sent::CloseLeader => self.close_learner_ends(mine),
            Sent::StopListening => self.close_leader_ends(led),
            Sent::CloseLearner(which) => self.close_leader_ends(of(*which)),
            Sent::Connect(_) | Sent::Listen => {}
        }
        Ok(())
    }

    /// Ends of learners close.
    pub fn close_learner_ends(&mut self, of: impl Fn(&Link) -> bool) {
        self.change(of, |link| {
            link.learner_open = false;
            link.to_learner.clear();
            link.to_leader.push(Message::Closed);
        });
        self.forget_links();
    }

    /// Ends of leaders close.
    pub fn close_leader_ends(&mut self, of: impl Fn(&Link) -> bool) {
        self.change(of, |link| {
            link.leader_open = false;
            link.to_leader.clear();
            link.to_learner.push(Message::Closed);
        });
        self.forget_links();
    }

    /// A link without ends is gone.
    fn forget_links(&mut self) {
        self.links.retain(|link| link.learner_open || link.leader_open);
        self.links.sort_by_key(|link| (!link.leader_open, link.leader, link.id));
    }

    /// Connects at once if `learner` wants to and `leader` listens. What happens before a connection
    /// stands can as well happen before the first packet on it arrives.
    fn connect(&mut self, learner: ServerId, leader: ServerId, driver: &mut Driver) -> Held<()> {
        if self.server(learner).connecting != Some(leader) || !self.server(leader).listening {
            return Ok(());
        }
        let taken = |id: LinkId| {
            self.links().any(|link| link.leader == leader && link.leader_open && link.id == id)
        };
        let id = (0..).map(|older| learner as LinkId + 10 * older).find(|id| !taken(*id));
        let link = Link {
            id: id.unwrap_or_default(),
            learner,
            leader,
            learner_open: true,
            leader_open: true,
            to_leader: Vec::new(),
            to_learner: Vec::new(),
            synchronizing: false,
            acknowledged: false,
        };
        let id = link.id;
        self.links.push(Hashed::new(link));
        self.forget_links();
        self.event(leader, &Event::Input(Input::LearnerConnected(id)), driver)?;
        self.event(learner, &Event::Input(Input::LeaderConnected), driver)
    }

    /// The next message to this learner.
    pub fn next_to_learner(&self, learner: ServerId) -> Option<&Message> {
        self.link_of(learner)?.to_learner.first()
    }

    /// Is the first packet of a synchronization on its way to anyone?
    pub fn begins_to_synchronize(&self) -> bool {
        (1..=SERVERS).filter_map(|id| self.next_to_learner(id)).any(|message| match message {
            Message::Packet(packet) => matches!(
                packet.known_kind(),
                Some(PacketKind::Diff | PacketKind::Trunc | PacketKind::Snap)
            ),
            _ => false,
        })
    }

    /// The next message on this link to this leader.
    pub fn next_to_leader(&self, leader: ServerId, id: LinkId) -> Option<&Message> {
        let here = |link: &&Link| link.leader == leader && link.leader_open && link.id == id;
        self.links().find(here)?.to_leader.first()
    }

    /// What a message is to its learner.
    pub fn event_for_learner(message: &Message) -> Event {
        match message {
            Message::Packet(packet) => Event::Input(Input::FromLeader(packet.clone())),
            Message::Tree(tree) => Event::Tree(tree.clone()),
            Message::Closed => Event::Input(Input::LeaderClosed),
        }
    }

    /// What a message is to its leader.
    pub fn event_for_leader(link: LinkId, message: &Message) -> Event {
        match message {
            Message::Packet(packet) => Event::Input(Input::FromLearner(link, packet.clone())),
            Message::Closed | Message::Tree(_) => Event::Input(Input::LearnerClosed(link)),
        }
    }

    /// Delivers the next message to this learner.
    pub fn to_learner(&mut self, learner: ServerId, driver: &mut Driver) -> Option<Held<()>> {
        let message = self.next_to_learner(learner)?.clone();
        driver.say(&[format!("{learner} gets {} from its leader", words::message(&message))]);
        self.change(
            |link| link.learner == learner && link.learner_open,
            |link| {
                link.to_learner.remove(0);
                link.learner_open = !matches!(message, Message::Closed);
            },
        );
        self.forget_links();
        Some(self.event(learner, &World::event_for_learner(&message), driver))
    }

    /// Delivers the next message on this link to its leader.
    pub fn to_leader(
        &mut self,
        leader: ServerId,
        id: LinkId,
        driver: &mut Driver,
    ) -> Option<Held<()>> {
        let message = self.next_to_leader(leader, id)?.clone();
        driver.say(&[format!("{leader} gets {} from {}", words::message(&message), id % 10)]);
        self.change(
            |link| link.leader == leader && link.leader_open && link.id == id,
            |link| {
                link.to_leader.remove(0);
                link.leader_open = !matches!(message, Message::Closed);
            },
        );
        self.forget_links();
        Some(self.event(leader, &World::event_for_leader(id, &message), driver))
    }
}

impl Kept {
    /// Is all that happened inside this server, and is its disk idle before and after?
    pub fn is_quiet(&self, before: &Server) -> bool {
        let Outcome { sent, seen, broken, .. } = &self.outcome;
        let idle = before.disk.queue.is_empty() && self.server.disk.queue.is_empty();
        sent.is_empty() && seen.is_empty() && broken.is_none() && idle
    }

    /// The server's hash after it.
    pub fn hash(&self) -> u64 {
        self.server.hash
    }

    /// Has the server a role after it?
    pub fn in_role(&self) -> bool {
        self.server.in_role()
    }
}
