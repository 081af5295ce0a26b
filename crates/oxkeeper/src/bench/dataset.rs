//! The znodes of a run: made before it, removed after it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_proto::{Decode, ErrorCode};

use super::requests::{Template, next_xid};
use super::thread::Connector;
use super::{Plan, Workload};
use crate::failure::Failure;
use crate::wire::{OpenError, Wire, reply};

/// Requests on their way at once while znodes are made or removed.
const WINDOW: u64 = 512;

/// A session that makes and removes the znodes.
pub struct Dataset {
    plan: Arc<Plan>,
    wire: Wire,
    xid: i32,
    progress: bool,
    created_root: bool,
}

impl Dataset {
    /// Opens the session at the first server that grants one.
    pub async fn open(plan: Arc<Plan>, progress: bool) -> Result<Dataset, Failure> {
        let wire = open_any(&plan).await?;
        Ok(Dataset { plan, wire, xid: 0, progress, created_root: false })
    }

    /// After the run: a new session, since the first one's server may be gone.
    pub async fn reopen(&mut self) -> Result<(), Failure> {
        self.wire = open_any(&self.plan).await?;
        Ok(())
    }

    /// Makes the root, and the znodes that the workload reads and writes.
    pub async fn create(&mut self) -> Result<(), Failure> {
        self.create_inner().await.map_err(|error| self.explain("make", &error))
    }

    async fn create_inner(&mut self) -> io::Result<()> {
        let plan = self.plan.clone();
        let mut ends: Vec<usize> = plan.root.match_indices('/').map(|(at, _)| at).skip(1).collect();
        ends.push(plan.root.len());
        for end in ends {
            self.created_root = self.make(&plan.root[..end], b"").await?;
        }
        match plan.workload {
            Workload::Session => {}
            Workload::Watch => {
                if !self.make(&plan.watched_node(), &plan.data()).await? {
                    self.one(&Template::set(&plan.watched_node(), false, &plan.data())).await?;
                }
            }
            Workload::Create => {
                self.make(&plan.created_root(), b"").await?;
                for index in 0..plan.connections {
                    self.make(&plan.created_dir(index), b"").await?;
                }
            }
            _ => {
                self.make(&plan.data_root(), b"").await?;
                self.fill().await?;
            }
        }
        Ok(())
    }

    /// Makes the numbered znodes; those that exist get the right data.
    async fn fill(&mut self) -> io::Result<()> {
        let plan = self.plan.clone();
        let create = Template::create(&plan.node_prefix(), true, &plan.data());
        let mut existing = Vec::new();
        let put = |out: &mut Vec<u8>, xid, n| create.put(out, xid, n);
        self.pipeline("znodes made", plan.znodes, put, |n, err, _| {
            if err == ErrorCode::NodeExists.code() {
                existing.push(n);
                return Ok(());
            }
            check(err, "create")
        })
        .await?;
        let set = Template::set(&plan.node_prefix(), true, &plan.data());
        let put = |out: &mut Vec<u8>, xid, n: u64| set.put(out, xid, existing[n as usize]);
        let count = existing.len() as u64;
        self.pipeline("znodes set", count, put, |_, err, _| check(err, "setData")).await
    }

    /// Removes everything the run has made.
    pub async fn remove(&mut self) -> Result<(), Failure> {
        self.remove_inner().await.map_err(|error| self.explain("remove", &error))
    }

    async fn remove_inner(&mut self) -> io::Result<()> {
        let plan = self.plan.clone();
        for path in [plan.data_root(), plan.created_root(), plan.watched_node()] {
            self.remove_tree(path).await?;
        }
        if self.created_root {
            // Somebody else may use it by now: then it stays.
            self.one(&Template::delete(&plan.root)).await?;
        }
        Ok(())
    }

    /// Deletes children before parents. Leaves go in one pipeline per parent without being listed.
    async fn remove_tree(&mut self, top: String) -> io::Result<()> {
        let mut stack = vec![top];
        while let Some(path) = stack.last().cloned() {
            let (err, body) = self.one(&Template::list(&path)).await?;
            if err == ErrorCode::NoNode.code() {
                stack.pop();
                continue;
            }
            check(err, "getChildren")?;
            let children = Vec::<String>::from_bytes(&body)
                .map_err(|error| crate::wire::bad_reply(error.to_string()))?;
            let child = |n: u64| format!("{path}/{}", children[n as usize]);
            let mut not_empty = Vec::new();
            let put = |out: &mut Vec<u8>, xid, n| Template::delete(&child(n)).put(out, xid, 0);
            self.pipeline("znodes removed", children.len() as u64, put, |n, err, _| {
                if err == ErrorCode::NotEmpty.code() {
                    not_empty.push(child(n));
                    return Ok(());
                }
                if err == ErrorCode::NoNode.code() { Ok(()) } else { check(err, "delete") }
            })
            .await?;
            if not_empty.is_empty() {
                stack.pop();
                let (err, _) = self.one(&Template::delete(&path)).await?;
                if err != ErrorCode::NoNode.code() {
                    check(err, "delete")?;
                }
            } else {
                stack.append(&mut not_empty);
            }
        }
        Ok(())
    }

    /// Ends the session.
    pub async fn close(mut self) {
        let closing = super::closed_loop::close(&mut self.wire);
        let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
    }

    /// Creates one znode; false if it was there.
    async fn make(&mut self, path: &str, data: &[u8]) -> io::Result<bool> {
        let (err, _) = self.one(&Template::create(path, false, data)).await?;
        if err == ErrorCode::NodeExists.code() {
            return Ok(false);
        }
        check(err, "create").map(|()| true)
    }

    async fn one(&mut self, request: &Template) -> io::Result<(i32, Vec<u8>)> {
        let mut answer = (0, Vec::new());
        let put = |out: &mut Vec<u8>, xid, _| request.put(out, xid, 0);
        self.pipeline("", 1, put, |_, err, body| {
            answer = (err, body.to_vec());
            Ok(())
        })
        .await?;
        Ok(answer)
    }

    /// Sends requests 0 to `count`, with a bounded number on their way, and hands each its answer.
    async fn pipeline(
        &mut self,
        what: &str,
        count: u64,
        mut put: impl FnMut(&mut Vec<u8>, i32, u64),
        mut got: impl FnMut(u64, i32, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut sent, mut answered) = (0, 0);
        let mut told = std::time::Instant::now();
        while answered < count {
            while sent < count && sent - answered < WINDOW {
                self.xid = next_xid(self.xid);
                put(self.wire.out(), self.xid, sent);
                sent += 1;
            }
            let frame = tokio::time::timeout(self.plan.timeout, self.wire.wait_frame()).await;
            let mut frame = Some(frame.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??);
            while let Some(reply_frame) = frame {
                let (header, body) = reply(reply_frame)?;
                if header.xid > 0 {
                    got(answered, header.err, body)?;
                    answered += 1;
                }
                frame = self.wire.frame()?;
            }
            if self.progress && told.elapsed() >= Duration::from_secs(1) {
                told = std::time::Instant::now();
                eprintln!("{what}: {answered} of {count}");
            }
        }
        Ok(())
    }

    fn explain(&self, verb: &str, error: &io::Error) -> Failure {
        let root = &self.plan.root;
        Failure::new(format!("cannot {verb} the znodes below {root}: {error}")).hint(format!(
            "what is left below {root} can be removed with: oxkeeper shell deleteall {root}"
        ))
    }
}

async fn open_any(plan: &Plan) -> Result<Wire, Failure> {
    let mut connector = Connector::new(0);
    let give_up = tokio::time::Instant::now() + plan.timeout;
    let mut last = String::new();
    // Every server gets at least one chance, whatever the time limit.
    let mut tries = 0;
    while tries < plan.servers.len() || tokio::time::Instant::now() < give_up {
        tries += 1;
        let server = connector.next_server(&plan.servers);
        let opening = Wire::open(server, plan.session_timeout_ms, None);
        last = match tokio::time::timeout(plan.timeout.min(Duration::from_secs(3)), opening).await {
            Ok(Ok((wire, _))) => return Ok(wire),
            Ok(Err(OpenError::Io(error))) => format!("{server}: {error}"),
            Ok(Err(OpenError::Expired)) => format!("{server}: refuses a new session"),
            Err(_) => format!("{server}: accepts connections but grants no session"),
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::new(format!("no server gives a session; the last try said {last}")).hint(
        "is it running, and has it a quorum? `oxkeeper ready <port>` tells; \
         `oxkeeper ensemble` starts one here",
    ))
}

fn check(err: i32, what: &str) -> io::Result<()> {
    match (err, ErrorCode::from_code(err)) {
        (0, _) => Ok(()),
        (_, Some(code)) => Err(io::Error::other(format!("{what}: {code} ({code:?})"))),
        (_, None) => Err(io::Error::other(format!("{what}: error {err}"))),
    }
}
