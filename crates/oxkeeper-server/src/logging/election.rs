//! Tells of elections in the words that operators search for (`docs/spec/operations.md` 7.2).
//!
//! Everything here is seen from the ports: what this server sends and receives, and which role it
//! takes up afterwards.

use std::time::Instant;

use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::{Notification, ServerState};
use parking_lot::Mutex;

/// What this server last said of itself.
struct Own {
    state: i32,
    round: i64,
    /// Since when it has been looking; nothing once it has a role.
    looking_since: Option<Instant>,
}

static OWN: Mutex<Own> = Mutex::new(Own { state: -1, round: -1, looking_since: None });

/// This server sends `notification`, perhaps one of several alike.
pub(crate) fn sent(me: ServerId, notification: &Notification) {
    let mut own = OWN.lock();
    let looking = notification.state == ServerState::Looking as i32;
    let news = own.state != notification.state || own.round != notification.election_epoch;
    own.state = notification.state;
    own.round = notification.election_epoch;
    if looking && own.looking_since.is_none() {
        own.looking_since = Some(Instant::now());
    }
    drop(own);
    if looking && news {
        tracing::info!(
            target: "oxkeeper_server::FastLeaderElection",
            "New election. My id = {me}, proposed zxid={:#x}",
            notification.zxid.0
        );
    }
}

/// A notification has come from server `from`.
pub(crate) fn received(from: ServerId, notification: &Notification) {
    let own = OWN.lock().state;
    tracing::info!(
        target: "oxkeeper_server::FastLeaderElection",
        "Notification: my state:{}; n.sid:{from}, n.state:{}, n.leader:{}, n.round:{:#x}, \
         n.peerEpoch:{:#x}, n.zxid:{:#x}",
        state_name(own),
        state_name(notification.state),
        notification.leader,
        notification.election_epoch,
        notification.peer_epoch,
        notification.zxid.0
    );
}

/// The election is over; this server takes up the role that `role` names in capitals.
pub(crate) fn took(role: &'static str) {
    let since = OWN.lock().looking_since.take();
    let ms = since.map_or(0, |since| since.elapsed().as_millis());
    tracing::info!(
        target: "oxkeeper_server::QuorumPeer",
        "{role} - LEADER ELECTION TOOK - {ms} MS"
    );
}

/// The role has got one stage further.
pub(crate) fn stage(role: &str, stage: &str) {
    tracing::info!(target: "oxkeeper_server::QuorumPeer", "Peer state changed: {role} - {stage}");
}

fn state_name(state: i32) -> &'static str {
    match state {
        0 => "LOOKING",
        1 => "FOLLOWING",
        2 => "LEADING",
        3 => "OBSERVING",
        // Nothing was sent yet.
        -1 => "LOOKING",
        _ => "unknown",
    }
}
