//! A client: its requests in words, and in words what it receives.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_proto::client::{
    Acl, ConnectRequest, ConnectResponse, EventKind, ReplyHeader, RequestHeader, XID_NOTIFICATION,
    put_frame,
};
use oxkeeper_proto::ids::session_password;
use oxkeeper_proto::jute::{put_bool, put_buffer, put_int, put_string, put_vec};
use oxkeeper_proto::{Decode, Encode, ErrorCode, OpCode, Reader, ServerId, SessionId, Zxid};
use oxkeeper_replica::{Client, Connection, Written};

use super::words::show;

/// The world runs the task itself.
pub struct Scheduled;

impl Connection for Scheduled {
    fn wake(&self) {}
    fn write(&self, _: &Client) -> Written {
        Written::NotAll
    }
}

/// A connection as both of its ends see it.
pub struct Open {
    pub client: Arc<Client>,
    pub server: ServerId,
    /// Arrived, not consumed.
    pub input: Vec<u8>,
    /// Requests that wait for their replies.
    waiting: VecDeque<(i32, String)>,
    greeted: bool,
}

impl Open {
    pub fn new(client: Arc<Client>, server: ServerId) -> Open {
        Open { client, server, input: Vec::new(), waiting: VecDeque::new(), greeted: false }
    }
}

#[derive(Default)]
pub struct Someone {
    pub open: Option<Open>,
    pub session: SessionId,
    /// Shows a wrong password.
    pub guesses: bool,
    seen: Zxid,
    xid: i32,
}

impl Someone {
    pub fn connect(&mut self, open: Open, resume: bool, timeout_ms: i32) {
        let session = if resume { self.session } else { 0 };
        let mut password = session_password(session);
        password[0] ^= u8::from(self.guesses);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.seen.0,
            timeout_ms,
            session,
            password: Some(&password),
            read_only: None,
        };
        let open = self.open.insert(open);
        put_frame(&mut open.input, |out| request.encode(out));
    }

    /// Sends requests, separated by `;`.
    pub fn send(&mut self, requests: &str) {
        let open = self.open.as_mut().expect("the client is connected");
        for words in requests.split(';').map(str::trim) {
            let (op, body) = request(words);
            self.xid += 1;
            let header = RequestHeader { xid: self.xid, op };
            put_frame(&mut open.input, |out| {
                header.encode(out);
                out.extend_from_slice(&body);
            });
            open.waiting.push_back((self.xid, words.to_owned()));
        }
    }

    /// What these bytes say, frame by frame.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
            let (frame, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
            lines.push(self.frame(frame));
            bytes = rest;
        }
        lines
    }

    fn frame(&mut self, frame: &[u8]) -> String {
        let open = self.open.as_mut().expect("the client is connected");
        if !std::mem::replace(&mut open.greeted, true) {
            let response = ConnectResponse::from_bytes(frame).expect("a connect response");
            if response.timeout_ms == 0 {
                return "the session has expired".to_owned();
            }
            let resumed = if self.session == response.session { "the same" } else { "a new" };
            self.session = response.session;
            return format!("{resumed} session, timeout {} ms", response.timeout_ms);
        }
        let mut reader = Reader::new(frame);
        let header = ReplyHeader::decode(&mut reader).expect("a reply");
        if header.xid == XID_NOTIFICATION {
            let kind = reader.int().expect("a kind");
            reader.int().expect("a state");
            let kinds = [
                EventKind::NodeCreated,
                EventKind::NodeDeleted,
                EventKind::NodeDataChanged,
                EventKind::NodeChildrenChanged,
            ];
            let kind = kinds.into_iter().find(|known| *known as i32 == kind).expect("a kind");
            return format!("is told: {kind:?} {}", reader.string().expect("a path"));
        }
        let (xid, words) = open.waiting.pop_front().expect("a request waits");
        assert!(header.xid == xid || words == "ping", "replies come in order: {header:?} to {xid}");
        self.seen = self.seen.max(Zxid(header.zxid));
        let result = match header.err {
            0 => content(&words, reader),
            err => format!("{:?}", ErrorCode::from_code(err).expect("a known error")),
        };
        format!("{words} -> {result}, at {}", show(Zxid(header.zxid)))
    }
}

fn content(words: &str, mut reader: Reader<'_>) -> String {
    match words.split(' ').next() {
        Some("get") => {
            let data = reader.buffer().expect("data").unwrap_or_default();
            format!("\"{}\"", String::from_utf8_lossy(data))
        }
        Some("ls") => {
            let mut names: Vec<String> = reader.vec().expect("names");
            names.sort();
            format!("{names:?}")
        }
        _ => "ok".to_owned(),
    }
}

/// `create|set path data [ephemeral]`, `get|exists|ls path [watch]`, `delete path`, `sync`, `ping`, `close`,
/// `nonsense`.
fn request(words: &str) -> (i32, Vec<u8>) {
    let mut words = words.split(' ');
    let (name, path) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
    let rest: Vec<&str> = words.collect();
    let has = |word| rest.contains(&word);
    let mut body = Vec::new();
    let op = match name {
        "create" => {
            put_string(&mut body, path);
            put_buffer(&mut body, Some(rest[0].as_bytes()));
            put_vec(&mut body, &Acl::open_unsafe());
            put_int(&mut body, i32::from(has("ephemeral")));
            OpCode::Create
        }
        "set" => {
            put_string(&mut body, path);
            put_buffer(&mut body, Some(rest[0].as_bytes()));
            put_int(&mut body, -1);
            OpCode::SetData
        }
        "delete" => {
            put_string(&mut body, path);
            put_int(&mut body, -1);
            OpCode::Delete
        }
        "get" | "exists" | "ls" => {
            put_string(&mut body, path);
            put_bool(&mut body, has("watch"));
            match name {
                "get" => OpCode::GetData,
                "exists" => OpCode::Exists,
                _ => OpCode::GetChildren,
            }
        }
        "sync" => {
            put_string(&mut body, path);
            OpCode::Sync
        }
        "ping" => OpCode::Ping,
        "close" => OpCode::CloseSession,
        "nonsense" => return (4711, body),
        _ => panic!("unknown request {name}"),
    };
    (op.code(), body)
}
