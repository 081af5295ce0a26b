//! The ensemble as one value: servers, quorum links, what has happened, and what may still happen.
//!
//! Parts are shared between worlds and know their hash, so that the next world costs little more than
//! what differs in it.

use std::rc::Rc;

use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::{Notification, PacketKind};
use oxkeeper_zab::{Input, LinkId};

use crate::disk::Txn;
use crate::driver::{Driver, Hashed, hash_of};
use crate::link::Link;
use crate::rules::{self, Broken, Ghost};
use crate::server::{Event, Message, SERVERS, Seen, Sent, Server};
use crate::words;

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
    /// Notifications under way, by sender and receiver: one slot per direction, the newest wins.
    pub votes: Vec<(ServerId, ServerId, Rc<Hashed<Notification>>)>,
    /// Used up so far.
    pub spent: Spent,
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
            votes: Vec::new(),
            spent: Spent::default(),
        }
    }

    /// The same for equal worlds; another one for others, as good as certainly.
    pub fn hash(&self) -> u64 {
        let servers = self.hashes();
        let links = self.links.iter().map(|link| link.hash);
        let links = links.fold(0, |all: u64, link| {
            all.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ link
        });
        hash_of(&(servers, links, self.ghost.hash, self.spent, &self.votes))
    }

    /// The hashes of all servers.
    pub fn hashes(&self) -> [u64; SERVERS as usize] {
        [0, 1, 2].map(|at: usize| self.servers[at].hash)
    }

    /// Keeps only one copy of every part that several worlds have.
    pub fn share(&mut self, driver: &mut Driver) {
        for link in &mut self.links {
            *link = driver.links.entry(link.hash).or_insert_with(|| link.clone()).clone();
        }
        let ghost = &self.ghost;
        self.ghost = driver.ghosts.entry(ghost.hash).or_insert_with(|| ghost.clone()).clone();
        self.links.shrink_to_fit();
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
        self.links().find(|link| link.is_of(learner))
    }

    /// Happens to server `id`, with all that follows from it at once.
    pub fn event(&mut self, id: ServerId, event: &Event, driver: &mut Driver) -> Held<()> {
        let kept = driver.outcome(self.server(id), event);
        self.servers[id as usize - 1] = kept.server.clone();
        driver.say(&kept.outcome.said);
        if let Some(broken) = &kept.outcome.broken {
            driver.heed(Err(broken.clone()))?;
        }
        driver.heed(self.note(id, &kept.outcome.seen))?;
        for sent in &kept.outcome.sent {
            driver.heed(self.send(id, sent))?;
        }
        driver.heed(rules::check(self, id))?;
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
        let held = seen.iter().try_for_each(|seen| ghost.note(id, seen));
        self.ghost = Hashed::new(ghost);
        held
    }

    /// A leader that serves proposes one more transaction.
    pub fn propose(&mut self, id: ServerId, driver: &mut Driver) -> Option<Held<()>> {
        let server = self.server(id);
        let zxid = server.zab.as_ref()?.next_zxid()?;
        let txn = Txn { zxid, value: self.ghost.proposed.len() as u8 };
        let mut ghost = (**self.ghost).clone();
        let result = ghost.broadcasts(id, txn, &server.tree);
        self.ghost = Hashed::new(ghost);
        if let Err(broken) = driver.heed(result) {
            return Some(Err(broken));
        }
        Some(self.event(id, &Event::Input(Input::Propose(txn.proposal())), driver))
    }

    /// Puts a notification into its slot.
    pub fn vote(&mut self, from: ServerId, to: ServerId, vote: Rc<Hashed<Notification>>) {
        let slot = self.votes.binary_search_by_key(&(from, to), |(from, to, _)| (*from, *to));
        match slot {
            Ok(at) => self.votes[at].2 = vote,
            Err(at) => self.votes.insert(at, (from, to, vote)),
        }
    }

    /// A notification arrives.
    pub fn deliver_vote(&mut self, at: usize, driver: &mut Driver) -> Held<()> {
        let (from, to, vote) = self.votes.remove(at);
        let notification = (**vote).clone();
        self.event(to, &Event::Input(Input::Notified { from, notification }), driver)
    }

    // ---- links

    fn edit(
        &mut self,
        of: impl Fn(&Link) -> bool,
        edit: impl Fn(&mut Link) -> Held<()>,
    ) -> Held<()> {
        let mut held = Ok(());
        for link in self.links.iter_mut().filter(|link| of(link)) {
            let mut edited = (***link).clone();
            held = held.and(edit(&mut edited));
            *link = Hashed::new(edited);
        }
        held
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
        let mine = |link: &Link| link.is_of(id);
        let led = |link: &Link| link.is_led_by(id);
        let of = |which: LinkId| move |link: &Link| led(link) && link.id == which;
        match sent {
            Sent::Vote(to, notification) => {
                if self.server(*to).zab.is_some() {
                    self.vote(id, *to, notification.clone());
                }
            }
            Sent::ToLeader(message) => return self.edit(mine, |link| link.learner_sends(message)),
            Sent::ToLearner(to, message) => {
                return self.edit(of(*to), |link| link.leader_sends(message));
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
        let taken = |id: LinkId| self.links().any(|link| link.is_led_by(leader) && link.id == id);
        let id = (0..).map(|older| learner as LinkId + 10 * older).find(|id| !taken(*id));
        let id = id.unwrap_or_default();
        self.links.push(Hashed::new(Link::new(id, learner, leader)));
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
        let here = |link: &&Link| link.is_led_by(leader) && link.id == id;
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
    pub fn deliver_to_learner(
        &mut self,
        learner: ServerId,
        driver: &mut Driver,
    ) -> Option<Held<()>> {
        let message = self.next_to_learner(learner)?.clone();
        driver.say(&[format!("{learner} gets {} from its leader", words::message(&message))]);
        self.change(
            |link| link.is_of(learner),
            |link| {
                link.to_learner.remove(0);
                link.learner_open = !matches!(message, Message::Closed);
            },
        );
        self.forget_links();
        Some(self.event(learner, &World::event_for_learner(&message), driver))
    }

    /// Delivers the next message on this link to its leader.
    pub fn deliver_to_leader(
        &mut self,
        leader: ServerId,
        id: LinkId,
        driver: &mut Driver,
    ) -> Option<Held<()>> {
        let message = self.next_to_leader(leader, id)?.clone();
        driver.say(&[format!("{leader} gets {} from {}", words::message(&message), id % 10)]);
        self.change(
            |link| link.is_led_by(leader) && link.id == id,
            |link| {
                link.to_leader.remove(0);
                link.leader_open = !matches!(message, Message::Closed);
            },
        );
        self.forget_links();
        Some(self.event(leader, &World::event_for_leader(id, &message), driver))
    }
}
