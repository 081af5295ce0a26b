//! What a client sends, to a standalone server: handshake, reads, writes, watches, everything.
//!
//! Input: one byte, how many bytes arrive at once; one byte, whether a second client watches and
//! whether the first begins with a handshake of ours; then the stream of the client port.
#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::Pieces;
use oxkeeper_proto::client::{ConnectRequest, RequestHeader, put_frame};
use oxkeeper_proto::jute::{put_int, put_string};
use oxkeeper_proto::{Encode, OpCode};
use oxkeeper_replica::limits::LimitSettings;
use oxkeeper_replica::{
    Client, ClientPortSettings, Connection, Input, Now, Output, Replica, ReplicaConfig, Shared,
    Written,
};
use oxkeeper_state::State;
use oxkeeper_state::prepare::PrepareSettings;
use oxkeeper_zab::DiskRequest;

/// The mode of addWatch that covers a whole subtree.
const PERSISTENT_RECURSIVE: i32 = 1;

struct Server {
    shared: Arc<Shared>,
    replica: Replica,
    now: Now,
}

impl Server {
    fn start(mode: u8) -> Server {
        let settings = ClientPortSettings {
            server: 1,
            tick_ms: 2000,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            auth: Default::default(),
            limits: LimitSettings { large_threshold: 500, ..LimitSettings::default() },
        };
        let config = ReplicaConfig {
            prepare: PrepareSettings { extended_types: mode & 4 != 0, ..Default::default() },
            reap_interval_ms: 60_000,
            reap_per_minute: 100,
            leader_serves: true,
            config_node: None,
        };
        let now = Now { mono_ms: 1000, wall_ms: 1_000_000 };
        let shared = Arc::new(Shared::new(State::new(1), settings, 1));
        let mut out = Vec::new();
        let replica = Replica::solo(shared.clone(), config, now, &mut out);
        let mut server = Server { shared, replica, now };
        server.perform(out);
        server
    }

    /// Gives `buf` to the client; everything it asks for happens before this returns. Returns how
    /// much it took, or `None` if the connection is closed.
    fn input(&mut self, client: &Arc<Client>, buf: &[u8]) -> Option<usize> {
        let mut inputs = Vec::new();
        let progress = client.on_input(&self.shared, buf, self.now.mono_ms, &mut inputs);
        assert!(progress.consumed <= buf.len());
        let mut out = Vec::new();
        for input in inputs {
            self.replica.handle(self.now, input, &mut out);
        }
        self.replica.finish(self.now, &mut out);
        self.perform(out);
        let mut bytes = Vec::new();
        let closing = client.take_output(&mut bytes);
        (progress.close.is_none() && !closing).then_some(progress.consumed)
    }

    fn perform(&mut self, out: Vec<Output>) {
        let mut waiting = VecDeque::from(out);
        while let Some(output) = waiting.pop_front() {
            let mut more = Vec::new();
            match output {
                Output::Wake(client) => client.wake(),
                Output::Disk(DiskRequest::Append(proposal)) => {
                    let flushed = Input::Zab(oxkeeper_zab::Input::Flushed(proposal.zxid));
                    self.replica.handle(self.now, flushed, &mut more);
                    self.replica.finish(self.now, &mut more);
                }
                // A standalone server has no peers, and nothing else for the disk.
                Output::Disk(_) | Output::Election(_) | Output::Port(_) | Output::ReadLog(_) => {}
            }
            waiting.extend(more);
        }
    }

    fn disconnect(&mut self, client: &Arc<Client>) {
        client.disconnected(&self.shared);
        let mut out = Vec::new();
        self.replica.handle(self.now, Input::Disconnected(client.clone()), &mut out);
        self.replica.finish(self.now, &mut out);
        self.perform(out);
    }

    /// All deadlines of the next minutes pass.
    fn wait(&mut self) {
        for _ in 0..100 {
            let Some(at) = self.replica.next_timeout() else { break };
            let passed = at.saturating_sub(self.now.mono_ms);
            self.now.mono_ms += passed;
            self.now.wall_ms += passed as i64;
            let mut out = Vec::new();
            self.replica.on_timeout(self.now, &mut out);
            self.replica.finish(self.now, &mut out);
            self.perform(out);
        }
    }
}

/// The target runs the tasks of its connections itself.
struct NoTask;

impl Connection for NoTask {
    fn wake(&self) {}
    fn write(&self, _: &Client) -> Written {
        Written::NotAll
    }
}

fn connect(id: u64) -> Arc<Client> {
    Arc::new(Client::new(id, "127.0.0.1:1".parse().unwrap(), 1000, Arc::new(NoTask)))
}

fn handshake() -> Vec<u8> {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 10_000,
        session: 0,
        password: Some(&[0; 16]),
        read_only: Some(false),
    };
    let mut bytes = Vec::new();
    put_frame(&mut bytes, |out| request.encode(out));
    bytes
}

fn watch_everything() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame(&mut bytes, |out| {
        RequestHeader { xid: 1, op: OpCode::AddWatch.code() }.encode(out);
        put_string(out, "/");
        put_int(out, PERSISTENT_RECURSIVE);
    });
    bytes
}

fuzz_target!(|data: &[u8]| {
    let mut pieces = Pieces(data);
    let step = 1 + 8 * usize::from(pieces.byte());
    let mode = pieces.byte();
    let mut server = Server::start(mode);
    let watcher = connect(1);
    if mode & 1 != 0 {
        server.input(&watcher, &handshake()).expect("the handshake succeeds");
        server.input(&watcher, &watch_everything()).expect("the watch is set");
    }
    let client = connect(2);
    if mode & 2 != 0 {
        server.input(&client, &handshake()).expect("the handshake succeeds");
    }
    let (mut start, mut end) = (0, 0);
    while end < pieces.0.len() {
        end = pieces.0.len().min(end + step);
        // Once more after everything was taken: the answer to a handshake lets the rest go on.
        while let Some(used) = server.input(&client, &pieces.0[start..end]) {
            start += used;
            if used == 0 {
                break;
            }
        }
        if client.is_closing() {
            break;
        }
    }
    server.disconnect(&client);
    if mode & 8 != 0 {
        server.wait();
    }
    assert_eq!(server.shared.outstanding(), 0, "every request was answered or forgotten");
    assert_eq!(server.shared.state.read().last_digest_mismatch(), None);
});
