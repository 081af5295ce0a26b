//! What servers do, in words: the conversation that a failing run prints.

use oxkeeper_node::PortEvent;
use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::{NO_VOTE, Notification, Packet, PacketKind, ServerState};
use oxkeeper_replica::{Input, Output};
use oxkeeper_zab::{DiskRequest, ElectionRequest, Input as Z, LinkId, PortRequest};

use crate::server::Mail;
use crate::world::World;

/// One line of a conversation. Lines that differ in nothing but the zxid are told as one.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Who does what to whom.
    pub what: String,
    /// With which transaction.
    pub zxid: Option<Zxid>,
}

fn plain(what: impl Into<String>) -> Line {
    Line { what: what.into(), zxid: None }
}

/// A zxid as people write it: epoch, dot, counter.
pub fn zxid(zxid: Zxid) -> String {
    match zxid.0 {
        -1 => "-1".to_owned(),
        _ => format!("{}.{}", zxid.epoch(), zxid.counter()),
    }
}

/// `None`: not worth a line.
fn packet(packet: &Packet) -> Option<(String, Option<Zxid>)> {
    let kind = packet.known_kind()?;
    let name = format!("{kind:?}").to_uppercase();
    match kind {
        PacketKind::Ping => None,
        PacketKind::UpToDate | PacketKind::Request | PacketKind::Sync | PacketKind::Revalidate => {
            Some((name, None))
        }
        _ => Some((name, Some(packet.zxid))),
    }
}

fn vote(n: &Notification) -> String {
    let state = ServerState::from_code(n.state).map(|state| format!("{state:?}").to_lowercase());
    let state = state.unwrap_or_else(|| n.state.to_string());
    let (round, last) = (n.election_epoch, zxid(n.zxid));
    match n.leader {
        NO_VOTE => format!("{state}, round {round}: no vote"),
        leader => format!("{state}, round {round}: s{leader} at {last} of epoch {}", n.peer_epoch),
    }
}

impl World<'_> {
    fn learner(&self, link: LinkId) -> String {
        self.conns.get(&link).map_or("?".into(), |conn| format!("s{}", conn.nodes[0] + 1))
    }

    fn leader_of(&self, server: usize) -> String {
        let process = self.servers[server].process.as_ref();
        let leader = process.and_then(|process| process.port.leader());
        let conn = leader.and_then(|conn| self.conns.get(&conn));
        conn.map_or("leader".into(), |conn| format!("s{}", conn.nodes[1] + 1))
    }

    /// What a server is about to do.
    pub fn tell_output(&self, server: usize, output: &Output) -> Vec<Line> {
        let me = format!("s{}", server + 1);
        let sends = |to: String, sent: &Packet| {
            packet(sent).map(|(name, zxid)| Line { what: format!("{me} -> {to}  {name}"), zxid })
        };
        let line = match output {
            Output::Wake(_) => None,
            Output::ReadLog(read) => {
                Some(plain(format!("{me} reads its log for {}", self.learner(read.link))))
            }
            Output::Election(ElectionRequest::Connect) => None,
            Output::Election(ElectionRequest::Notify { to, notification }) => {
                Some(plain(format!("{me} -> s{to}  {}", vote(notification))))
            }
            Output::Disk(DiskRequest::Append(proposal)) => {
                Some(Line { what: format!("{me} logs"), zxid: Some(proposal.zxid) })
            }
            Output::Disk(DiskRequest::Truncate(to)) => {
                Some(Line { what: format!("{me} cuts its log to"), zxid: Some(*to) })
            }
            Output::Disk(request) => Some(plain(format!("{me} asks its disk: {request:?}"))),
            Output::Port(request) => match request {
                PortRequest::ConnectLeader(leader) => Some(plain(format!("{me} dials s{leader}"))),
                PortRequest::CloseLeader => Some(plain(format!("{me} leaves its leader"))),
                PortRequest::Listen => Some(plain(format!("{me} waits for learners"))),
                PortRequest::StopListening => Some(plain(format!("{me} leads no more"))),
                PortRequest::ToLeader(sent) => sends(self.leader_of(server), sent),
                PortRequest::ToLearner(link, sent) => sends(self.learner(*link), sent),
                PortRequest::ProposalToLearner { link, proposal, inform } => {
                    let (to, name) =
                        (self.learner(*link), if *inform { "INFORM" } else { "PROPOSAL" });
                    let what = format!("{me} -> {to}  {name}");
                    Some(Line { what, zxid: Some(proposal.zxid) })
                }
                PortRequest::SnapshotToLearner(link) => {
                    Some(plain(format!("{me} -> {}  its tree", self.learner(*link))))
                }
                PortRequest::CloseLearner { link, reason } => {
                    let to = self.learner(*link);
                    Some(plain(format!("{me} closes its link to {to}: {reason}")))
                }
            },
        };
        line.into_iter().collect()
    }

    /// What reaches a server.
    pub fn tell_mail(&self, server: usize, mail: &Mail) -> Vec<Line> {
        let me = format!("s{}", server + 1);
        let hears = |from: String, packets: &[Packet]| {
            let told = packets.iter().filter_map(packet);
            told.map(|(name, zxid)| Line { what: format!("{me} <- {from}  {name}"), zxid })
                .collect()
        };
        let one = |what: String| vec![plain(what)];
        match mail {
            Mail::Port { event, .. } => match event {
                PortEvent::FromLeader(packets) => hears(self.leader_of(server), packets),
                PortEvent::FromLearner(link, packets) => hears(self.learner(*link), packets),
                PortEvent::SnapshotProgress | PortEvent::SnapshotStreamed { ended: false, .. } => {
                    Vec::new()
                }
                event => one(format!("{me}: {event:?}")),
            },
            Mail::Input(Input::Zab(input)) => match input {
                Z::Notified { .. } => Vec::new(),
                Z::Flushed(zxid) => {
                    vec![Line { what: format!("{me}: durable up to"), zxid: Some(*zxid) }]
                }
                Z::LogRead { proposals, .. } => {
                    let found = proposals.as_ref().map(Vec::len);
                    one(format!("{me}: its log has {found:?} proposals for a learner"))
                }
                input => one(format!("{me}: {input:?}")),
            },
            Mail::Input(_) => Vec::new(),
        }
    }
}
