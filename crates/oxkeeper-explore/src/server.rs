//! One server as a value: the production core, its disk, and the driver between them, as the
//! documentation of `oxkeeper_zab` asks for it. What it does with an event depends on nothing else, so
//! [`Server::handle`] is a function, and its results can be kept ([`crate::world::Driver`]).

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use oxkeeper_proto::quorum::{Notification, Packet, ServerState};
use oxkeeper_proto::{Epoch, ServerId};
use oxkeeper_zab::{Input, LinkId, Zab};

use crate::disk::{Disk, Txn};
use crate::driver::Hashed;
use crate::rules::{Broken, Rule};
use crate::turn::Turn;

/// Servers of an ensemble: 1 to 3, all voters.
pub const SERVERS: ServerId = 3;
/// What travels on a quorum link.
#[derive(Clone, Debug, Hash)]
pub enum Message {
    /// A packet.
    Packet(Packet),
    /// The tree behind a SNAP packet.
    Tree(Vec<Txn>),
    /// The other end is gone.
    Closed,
}

/// What can happen to one server.
#[derive(Clone, Debug, Hash)]
#[allow(missing_docs)]
pub enum Event {
    Start {
        /// Elections end after some time of quiet, not as soon as all who are connected agree.
        fine: bool,
    },
    Crash,
    Input(Input),
    /// The tree behind SNAP has arrived.
    Tree(Vec<Txn>),
    /// The disk carries out its oldest request.
    Disk,
    /// Nothing is heard for too long: the role's own deadline passes.
    GiveUp,
    /// The next timeout of an election.
    Wait,
}

/// What a server sends, and does at its ports.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Sent {
    Vote(ServerId, Rc<Hashed<Notification>>),
    Connect(ServerId),
    CloseLeader,
    ToLeader(Message),
    Listen,
    StopListening,
    ToLearner(LinkId, Message),
    CloseLearner(LinkId),
}

/// What a server does that the rules of the ensemble are about.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Seen {
    Leads { epoch: Epoch, tree: Vec<Txn> },
    Commits { tree: Vec<Txn> },
}

/// What came of an event.
pub struct Outcome {
    /// In order.
    pub sent: Vec<Sent>,
    /// In order.
    pub seen: Vec<Seen>,
    /// A rule that this server alone has broken.
    pub broken: Option<Broken>,
    /// In words, if anyone wants to read them.
    pub said: Vec<String>,
}

/// One server.
#[derive(Clone)]
pub struct Server {
    /// 1, 2 or 3.
    pub id: ServerId,
    /// The core, while the process runs.
    pub zab: Option<Zab>,
    /// Its disk.
    pub disk: Disk,
    /// What was applied, from the first transaction on.
    pub tree: Vec<Txn>,
    /// The tree behind SNAP, until it is adopted.
    pub received: Option<Vec<Txn>>,
    /// Serves clients, as leader?
    pub serving: Option<bool>,
    /// Is its quorum port open?
    pub listening: bool,
    /// A leader it tries to connect to.
    pub connecting: Option<ServerId>,
    /// LOOKING, and no longer busy with the end of its last role: its vote.
    pub vote: Option<Rc<Hashed<Notification>>>,
    /// The last epoch announced to it, in this role.
    pub announced: Epoch,
}

/// All but the vote, which the core has too.
impl Hash for Server {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Server { id, zab, disk, tree, received, serving, listening, .. } = self;
        let Server { connecting, vote, announced, .. } = self;
        (id, zab, disk, tree, received, serving, listening).hash(hasher);
        (connecting, vote.is_some(), announced).hash(hasher);
    }
}

impl Server {
    /// A server that is down, with this on its disk.
    pub fn new(id: ServerId, disk: Disk) -> Server {
        Server {
            id,
            zab: None,
            disk,
            tree: Vec::new(),
            received: None,
            serving: None,
            listening: false,
            connecting: None,
            vote: None,
            announced: 0,
        }
    }

    /// Has it a role?
    pub fn in_role(&self) -> bool {
        self.zab.as_ref().is_some_and(|zab| zab.state() != ServerState::Looking)
    }

    /// What this event does.
    pub fn handle(&self, event: &Event, speak: bool) -> (Server, Outcome) {
        let lost = |server: &Server| server.zab.as_ref().and_then(Zab::last_loss).cloned();
        let mut turn = Turn::at(self.clone(), speak);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            turn.run(event);
            turn.end_stop(self);
        }));
        if let Err(panic) = panicked {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            turn.breaks(Rule::Assertion, format!("server {}: {text}", self.id));
        }
        let loss = lost(&turn.server);
        if let Some(loss) =
            loss.filter(|loss| loss.breaks_protocol() && Some(loss) != lost(self).as_ref())
        {
            turn.breaks(Rule::Peers, format!("server {} gives up: {loss}", self.id));
        }
        let Turn { server, sent, seen, broken, said } = turn;
        (server, Outcome { sent, seen, broken, said: said.unwrap_or_default() })
    }
}
