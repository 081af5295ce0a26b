//! Counters and distributions of what clients and the protocol bring, with the reference's names.
//!
//! Updated once a batch where requests come in batches, else with relaxed atomics; nothing here locks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::summary::Summary;

macro_rules! meters {
    (
        counters { $($(#[$counter_doc:meta])* $counter:ident,)* }
        summaries { $($(#[$summary_doc:meta])* $summary:ident,)* }
    ) => {
        /// What happened since the start, or the last reset. Times are in ms.
        #[derive(Debug, Default)]
        pub struct Meters {
            $($(#[$counter_doc])* pub $counter: AtomicU64,)*
            $($(#[$summary_doc])* pub $summary: Summary,)*
        }

        impl Meters {
            /// Names and values of the counters.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($counter), self.$counter.load(Ordering::Relaxed)),)*].into_iter()
            }

            /// Names and values of the summaries.
            pub fn summaries(&self) -> impl Iterator<Item = (&'static str, &Summary)> {
                [$((stringify!($summary), &self.$summary),)*].into_iter()
            }

            /// Starts anew.
            pub fn reset(&self) {
                $(self.$counter.store(0, Ordering::Relaxed);)*
                $(self.$summary.reset();)*
            }

            /// Moves the windows of all summaries on.
            pub fn rotate(&self) {
                $(self.$summary.rotate();)*
            }
        }
    };
}

meters! {
    counters {
        /// Bytes of frames from clients.
        bytes_received_count,
        /// Connections that asked for a session while none was served.
        cnxn_closed_without_zk_server_running,
        /// Commits of this leader.
        commit_count,
        /// Session requests refused for lack of a token.
        connection_drop_count,
        /// Connections refused by `maxClientCnxns` and `maxCnxns`.
        connection_rejected,
        /// Session requests.
        connection_request_count,
        /// Requests to go on with a session.
        connection_revalidate_count,
        /// Requests refused because of `largeRequestMaxBytes`.
        large_requests_rejected,
        /// Commits that came from a leader.
        learner_commit_received_count,
        /// Proposals that came from a leader.
        learner_proposal_received_count,
        /// Writes and session requests that were prepared.
        prep_processor_request_queued,
        /// Proposals of this leader.
        proposal_count,
        /// Times a connection was held back by the request throttle.
        request_throttle_wait_count,
        /// Bytes of replies, without length prefixes.
        response_bytes,
        /// Questions of learners about sessions, answered by this leader.
        revalidate_count,
        /// Sessions that this server expired.
        stale_sessions_expired,
        /// Operations answered by "throttled".
        throttled_ops,
    }
    summaries {
        /// From the loss of a role to the next leader's election.
        election_time,
        /// From the election to service, on a follower.
        follower_sync_time,
        /// Time without service, when this server leads afterwards.
        leader_unavailable_time,
        /// Watches fired by a change of data.
        node_changed_watch_count,
        /// Watches fired by a change of children.
        node_children_watch_count,
        /// Watches fired by a creation.
        node_created_watch_count,
        /// Watches fired by a deletion.
        node_deleted_watch_count,
        /// From the election to service, on an observer.
        observer_sync_time,
        /// From the proposal to its application here (by the wall clocks of both servers).
        propagation_latency,
        /// From the proposal to its commit by a quorum, on a leader.
        proposal_latency,
        /// Reads of local clients.
        readlatency,
        /// Time without service.
        unavailable_time,
        /// Writes of local clients.
        updatelatency,
    }
}
