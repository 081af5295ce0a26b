//! Rules of sessions, and of the order of replies.

use super::{Mutation, Test, edit};

const SESSION: &str = "crates/oxkeeper-replica/src/session.rs";
const REQUEST: &str = "crates/oxkeeper-replica/src/client/request.rs";
const CLIENT: &str = "crates/oxkeeper-replica/src/client.rs";
const APPLY: &str = "crates/oxkeeper-replica/src/replica/apply.rs";
const ROLES: &str = "crates/oxkeeper-replica/src/replica/roles.rs";
const SOLO: &str = "crates/oxkeeper-replica/src/solo.rs";

/// All recorded courses: the one that differs is named in the output.
const COURSES: Test = Test("replica", "scenarios", "every_recorded_course_is_taken_again");

pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "session-expires-early",
        bugs: &[],
        rule: "A session does not expire before its timeout is over.",
        edits: &[
            edit(
                SESSION,
                "        ((now_ms + timeout_ms) / self.tick_ms + 1) * self.tick_ms\n",
                "        ((now_ms + timeout_ms) / self.tick_ms).max(1) * self.tick_ms\n",
            ),
            edit(
                SESSION,
                "        let deadline_ms = ((heard_ms + session.timeout_ms) / tick_ms + 1) * tick_ms;\n",
                "        let deadline_ms = ((heard_ms + session.timeout_ms) / tick_ms).max(1) * tick_ms;\n",
            ),
        ],
        blind: &[],
        test: Test(
            "replica",
            "lib",
            "session::tests::a_silent_session_expires_within_one_tick_after_its_timeout_not_sooner",
        ),
        expected: "Sessions",
    },
    Mutation {
        name: "session-never-expires",
        bugs: &[],
        rule: "A silent session expires.",
        edits: &[edit(
            SESSION,
            "                        session.closing = true;\n                        expired.push(id);\n",
            "                        session.closing = true;\n",
        )],
        blind: &[],
        test: Test(
            "replica",
            "lib",
            "session::tests::a_silent_session_expires_within_one_tick_after_its_timeout_not_sooner",
        ),
        expected: "Sessions, Ephemerals",
    },
    Mutation {
        name: "sessions-of-a-follower-are-not-reported",
        bugs: &[],
        rule: "A follower reports its clients' signs of life.",
        edits: &[edit(
            ROLES,
            "            if self.touched_ms <= client.heard_ms() + 1 {\n                \
             put_touch(&mut data, *session, client.timeout_ms());\n            }\n",
            "            let _ = (session, client);\n",
        )],
        blind: &[],
        test: COURSES,
        expected: "Sessions",
    },
    Mutation {
        name: "moved-session-is-served",
        bugs: &[],
        rule: "A request of a session that has moved to another server has no effect.",
        edits: &[edit(
            SESSION,
            "                Some(owner) if owner != from => Err(ErrorCode::SessionMoved),\n",
            "                Some(owner) if owner != from => Ok(()),\n",
        )],
        blind: &[],
        test: Test(
            "replica",
            "lib",
            "session::tests::a_request_from_another_server_than_the_owner_has_moved",
        ),
        expected: "Fifo",
    },
    Mutation {
        name: "read-overtakes-a-write",
        bugs: &[],
        rule: "A read behind a write of its session shows that write.",
        edits: &[edit(
            REQUEST,
            "        if inner.pending.is_empty() {\n            self.reads += 1;\n",
            "        if inner.pending.len() < 9 {\n            self.reads += 1;\n",
        )],
        blind: &[],
        test: COURSES,
        expected: "Fifo, Linearizability",
    },
    Mutation {
        name: "told-after-seen",
        bugs: &[],
        rule: "A watcher is told of a change before it sees the change.",
        edits: &[
            edit(
                APPLY,
                "                    client.notify(shared, zxid, kind, path);\n",
                "                    LATE.with_borrow_mut(|late| {\n                        \
                 late.push((client.clone(), zxid, kind, path.to_owned()));\n                    });\n",
            ),
            edit(
                APPLY,
                "            Self::queue_wake(&mut self.woken, client);\n        }\n        \
                 if header.kind == OpCode::CloseSession.code() {\n",
                "            Self::queue_wake(&mut self.woken, client);\n        }\n        \
                 for (client, zxid, kind, path) in LATE.take() {\n            \
                 client.notify(&self.shared, zxid, kind, &path);\n            \
                 Self::queue_wake(&mut self.woken, &client);\n        }\n        \
                 if header.kind == OpCode::CloseSession.code() {\n",
            ),
            edit(
                APPLY,
                "const SLICE: usize = 64;\n",
                "const SLICE: usize = 64;\n\ntype Late = (Arc<Client>, oxkeeper_proto::Zxid, EventKind, String);\n\
                 thread_local! {\n    static LATE: std::cell::RefCell<Vec<Late>> = const { \
                 std::cell::RefCell::new(Vec::new()) };\n}\n",
            ),
        ],
        blind: &[],
        test: COURSES,
        expected: "Watches",
    },
    Mutation {
        name: "client-of-the-future-is-served",
        bugs: &[],
        rule: "A client that has seen more than this server is turned away.",
        edits: &[edit(
            REQUEST,
            "        if request.last_zxid_seen > last_zxid.0 {\n",
            "        if request.last_zxid_seen > last_zxid.0.max(request.last_zxid_seen) {\n",
        )],
        blind: &[],
        test: COURSES,
        expected: "MonotonicRead",
    },
    Mutation {
        name: "standalone-answers-before-its-flush",
        bugs: &[],
        rule: "A standalone server answers a write when it is durable.",
        edits: &[edit(
            SOLO,
            "        let durable = self.pending.partition_point(|proposal| proposal.zxid <= zxid);\n",
            "        let durable = self.pending.partition_point(|proposal| proposal.zxid.0 <= zxid.0 + 1);\n",
        )],
        blind: &[],
        test: Test("replica", "lib", "solo::tests::nothing_is_released_before_it_is_durable"),
        // The simulator runs ensembles.
        expected: "",
    },
    Mutation {
        name: "replies-behind-the-end",
        bugs: &[],
        rule: "Nothing follows the reply that ends a connection.",
        edits: &[edit(
            CLIENT,
            "        while !self.is_closing()\n            && let Some(Waiting { since_ms, request }) = \
             self.pending.pop_decided()\n",
            "        while let Some(Waiting { since_ms, request }) = self.pending.pop_decided()\n",
        )],
        blind: &[],
        test: COURSES,
        expected: "",
    },
    Mutation {
        name: "clients-outlive-the-role",
        bugs: &[],
        rule: "The end of a role ends the connections of its clients.",
        edits: &[edit(
            ROLES,
            "        for (_, client) in std::mem::take(&mut self.clients) {\n            client.close();\n",
            "        for (_, client) in std::mem::take(&mut self.clients) {\n",
        )],
        blind: &[],
        test: COURSES,
        expected: "Liveness, Fifo",
    },
];
