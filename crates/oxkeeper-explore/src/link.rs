//! A quorum connection between two servers.

use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::PacketKind;
use oxkeeper_zab::LinkId;

use crate::rules::{Broken, Rule};
use crate::server::Message;
use crate::words;
use crate::world::Held;

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
    /// On its way to the leader.
    pub to_leader: Vec<Message>,
    /// On its way to the learner.
    pub to_learner: Vec<Message>,
    /// Has the leader sent NEWLEADER, and not yet UPTODATE?
    synchronizing: bool,
    /// Has the learner acknowledged anything but an epoch?
    acknowledged: bool,
}

impl Link {
    /// Both ends are open, nothing was sent.
    pub fn new(id: LinkId, learner: ServerId, leader: ServerId) -> Link {
        Link {
            id,
            learner,
            leader,
            learner_open: true,
            leader_open: true,
            to_leader: Vec::new(),
            to_learner: Vec::new(),
            synchronizing: false,
            acknowledged: false,
        }
    }

    /// Does it lead from this learner, who still has it open?
    pub fn is_of(&self, learner: ServerId) -> bool {
        self.learner == learner && self.learner_open
    }

    /// Does it lead to this leader, who still has it open?
    pub fn is_led_by(&self, leader: ServerId) -> bool {
        self.leader == leader && self.leader_open
    }

    /// The learner sends.
    pub fn learner_sends(&mut self, message: &Message) -> Held<()> {
        if self.leader_open {
            self.to_leader.push(message.clone());
        }
        let Message::Packet(packet) = message else { return Ok(()) };
        if packet.known_kind() != Some(PacketKind::Ack) {
            return Ok(());
        }
        let first = !std::mem::replace(&mut self.acknowledged, true);
        if first && packet.zxid.counter() != 0 {
            let (learner, packet) = (self.learner, words::packet(packet));
            let what = format!("follower {learner} sends {packet} before the ACK of NEWLEADER");
            return Err(Broken { rule: Rule::OldPeers, what });
        }
        Ok(())
    }

    /// The leader sends.
    pub fn leader_sends(&mut self, message: &Message) -> Held<()> {
        if self.learner_open {
            self.to_learner.push(message.clone());
        }
        let Message::Packet(packet) = message else { return Ok(()) };
        match packet.known_kind() {
            Some(PacketKind::NewLeader) => self.synchronizing = true,
            Some(PacketKind::UpToDate) => self.synchronizing = false,
            Some(PacketKind::Commit) if self.synchronizing => {
                let (leader, learner, packet) = (self.leader, self.learner, words::packet(packet));
                let what =
                    format!("{leader} sends {packet} to {learner} between NEWLEADER and UPTODATE");
                return Err(Broken { rule: Rule::OldPeers, what });
            }
            _ => {}
        }
        Ok(())
    }
}
