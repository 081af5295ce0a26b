//! Counters and distributions of what clients and the protocol bring, with the reference's names.
//!
//! Updated once a batch where requests come in batches, else with relaxed atomics; nothing here locks.
//!
//! Names of `docs/spec/operations.md` 4.4 that are left out, and why:
//!
//! | names | reason |
//! |---|---|
//! | `*commit_proc*`, `*commitproc*`, `*session_queue*`, `commit_process_time`, `*_in_commit_processor*`, `read_final_proc_time_ms`, `write_final_proc_time_ms`, `*_write_committed_time_ms`, `request_commit_queued`, `session_queues_drained`, `requests_not_forwarded_to_commit_processor` | no commit processor: the replica applies commits in batches |
//! | `prep_process*_time*`, `prep_processor_queue_*`, `close_session_prep_time`, `outstanding_changes_*`, `proposal_process_time`, `learner_request_processor_queue_size`, `skip_learner_request_to_next_processor_count` | stages are function calls of one thread, without queues between them |
//! | `sync_process_time`, `sync_processor_queue*_time_ms` | the log thread takes all that has gathered; `fsynctime` is what it waits for |
//! | `add_dead_watcher_stall_time`, `dead_watchers_*` | watches go with their connection, at once |
//! | `response_packet_*cache_*` | no cache of replies |
//! | `netty_*`, `tls_handshake_exceeded`, `unsuccessful_handshake`, `insecure_admin_count` | no Netty, no TLS |
//! | `restore_*`, `snapshot_error_count`, `snapshot_rate_limited_count` | no snapshot or restore command; a failed periodic snapshot ends the process |
//! | `om_*`, `jvm_pause_time_ms`, `unrecoverable_error_count` | no observer master, no pause monitor; an unrecoverable error ends the process |
//! | `ensemble_auth_*`, `stale_replies`, `stale_requests*`, `request_throttle_queue_time_ms`, `connection_token_deficit` | these checks do not exist here |
//! | `quit_leading_due_to_disloyal_voter`, `inflight_*`, `ack_latency`, `commit_propagation_latency`, `proposal_ack_creation_latency`, `learner_handler_qp_*`, `socket_closing_time`, `sessionless_connections_expired` | not measured yet |
//! | `quota_*_per_namespace`, `quota_exceeded_error_per_namespace`, `read_per_namespace`, `write_per_namespace` | not measured yet: a look-up by path on each request |

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
