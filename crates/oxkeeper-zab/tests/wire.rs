//! What a peer's bytes may not do.

mod common;

use common::alone::{Alone, appended};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::PacketKind;
use oxkeeper_zab::Input;

/// The header of a transaction was read, its body was not, and the server fell over when it applied it.
#[test]
fn a_transaction_that_cannot_be_read_is_never_logged_whatever_carries_it() {
    use PacketKind::{Inform, InformAndActivate, Proposal};
    for kind in [Proposal, Inform, InformAndActivate] {
        let mut server = Alone::observer();
        server.leader_says(PacketKind::Diff, Zxid::new(1, 1));
        if kind != Proposal {
            server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
            server.input(Input::CurrentEpochSaved(2));
            server.leader_says(PacketKind::UpToDate, Zxid(-1));
            assert!(server.zab.serving());
        }
        let zxid = Zxid::new(2, 1);
        let whole = common::payload(zxid, "x");
        let leader = if kind == InformAndActivate { &[0; 8][..] } else { &[] };
        let cut = [leader, &whole[..40]].concat();
        let out = server.leader_sends(kind, zxid, cut.into());
        assert_eq!(appended(&out), [], "{kind:?}");
        assert_eq!(server.zab.leader(), None, "{kind:?}");
    }
}

/// Numbers that no zxid can have came from the network into sums and comparisons.
#[test]
fn a_zxid_beyond_the_leaders_epoch_ends_the_role() {
    let far = [Zxid(i64::MAX), Zxid(i64::MIN), Zxid(-1), Zxid::new(3, 1), Zxid::new(u32::MAX, 1)];
    for zxid in far {
        let mut server = Alone::observer();
        server.leader_says(PacketKind::Snap, zxid);
        server.input(Input::SnapshotReceived);
        assert_eq!(server.zab.leader(), None, "a snapshot of {zxid}");

        let mut server = Alone::observer();
        server.leader_says(PacketKind::Trunc, zxid);
        assert_eq!(server.zab.leader(), None, "a cut behind {zxid}");

        let mut server = Alone::observer();
        server.leader_says(PacketKind::Diff, Zxid::new(1, 1));
        server.leader_sends(PacketKind::Proposal, zxid, common::payload(zxid, "x"));
        server.leader_says(PacketKind::Commit, zxid);
        server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
        assert_eq!(server.zab.leader(), None, "a proposal {zxid}");
    }
}

/// INFORM overtook a proposal that waited for its commit; the log was to grow backwards.
#[test]
fn an_inform_does_not_overtake_a_proposal_of_the_synchronization() {
    for (kind, first) in [(PacketKind::Snap, 8), (PacketKind::Diff, 2)] {
        let mut server = Alone::observer();
        server.leader_says(kind, Zxid::new(1, first - 1));
        server.input(Input::SnapshotReceived);
        server.proposes(1, first);
        let zxid = Zxid::new(1, first + 1);
        server.leader_sends(PacketKind::Inform, zxid, common::payload(zxid, "x"));
        server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
        assert_eq!(server.zab.leader(), None, "after {kind:?}");
    }
}
