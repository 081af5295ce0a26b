//! Read, write, create and mixed load: each connection keeps its number of requests outstanding.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_proto::OpCode;
use oxkeeper_proto::client::{XID_NOTIFICATION, XID_PING};

use super::measure::Kind;
use super::requests::{Random, Template, next_xid};
use super::thread::{Connector, Slot, Thread, Wake};
use super::{Plan, Workload};
use crate::wire::{Wire, bad_reply, reply};

/// Bytes of a Stat, which follows the data in a reply to getData.
const STAT_SIZE: usize = 68;

/// The stream of requests of one connection.
struct Requests {
    get: Template,
    set: Template,
    create: Template,
    workload: Workload,
    /// Reads out of 2^16 operations.
    reads: u64,
    znodes: u64,
    created: u64,
    random: Random,
}

impl Requests {
    fn new(plan: &Plan, index: usize) -> Requests {
        let reads = match plan.workload {
            Workload::Read => 1 << 16,
            Workload::Mixed => (plan.read_ratio * 65536.0) as u64,
            _ => 0,
        };
        let data = plan.data();
        Requests {
            get: Template::get(&plan.node_prefix(), true, false),
            set: Template::set(&plan.node_prefix(), true, &data),
            create: Template::create(&plan.created_prefix(index), true, &data),
            workload: plan.workload,
            reads,
            znodes: plan.znodes,
            created: 0,
            random: Random::new(index as u64),
        }
    }

    /// Appends the next request and tells what it is.
    fn put(&mut self, out: &mut Vec<u8>, xid: i32) -> Kind {
        if self.workload == Workload::Create {
            self.create.put(out, xid, self.created);
            self.created += 1;
            return Kind::Create;
        }
        let node = self.random.below(self.znodes);
        if self.reads > 0 && self.random.below(1 << 16) < self.reads {
            self.get.put(out, xid, node);
            Kind::Read
        } else {
            self.set.put(out, xid, node);
            Kind::Write
        }
    }
}

/// A request on its way.
struct Outstanding {
    xid: i32,
    sent_ns: u64,
    kind: Kind,
}

/// One connection of the load, from its start to the end of the run.
struct Worker {
    thread: Rc<Thread>,
    slot: Rc<Slot>,
    requests: Requests,
    outstanding: VecDeque<Outstanding>,
    xid: i32,
    last_zxid: i64,
}

/// Runs the `index`-th connection.
pub async fn run(thread: Rc<Thread>, index: usize) {
    let mut worker = Worker {
        slot: thread.new_slot(),
        requests: Requests::new(&thread.plan, index),
        outstanding: VecDeque::with_capacity(thread.plan.outstanding),
        xid: 0,
        last_zxid: 0,
        thread: thread.clone(),
    };
    let mut connector = Connector::new(index);
    while let Some(mut wire) = connector.connect(&thread).await {
        thread.control.connected.fetch_add(1, Relaxed);
        let ended = worker.drive(&mut wire).await;
        thread.control.connected.fetch_sub(1, Relaxed);
        worker.slot.idle();
        connector.last_zxid = worker.last_zxid;
        match ended {
            Ok(()) => return close(&mut wire).await,
            Err(error) => thread.lost(worker.outstanding.len() as u64, &error),
        }
        worker.outstanding.clear();
    }
}

/// Closes the session, so that the server need not keep it until it expires.
pub async fn close(wire: &mut Wire) {
    Template::bare(OpCode::CloseSession).put(wire.out(), i32::MAX, 0);
    while wire.wait_frame().await.is_ok() {}
}

impl Worker {
    async fn drive(&mut self, wire: &mut Wire) -> io::Result<()> {
        let mut now = self.thread.now();
        loop {
            let stopping = self.thread.stopping(now);
            if !stopping {
                self.fill(wire.out(), now);
            } else if self.outstanding.is_empty() {
                return Ok(());
            }
            let oldest = self.outstanding.front().map_or(u64::MAX, |oldest| oldest.sent_ns);
            self.slot.waiting_since.set(oldest);
            match self.slot.exchange(wire).await? {
                Wake::Bytes => {}
                Wake::Ping => Template::bare(OpCode::Ping).put(wire.out(), XID_PING, 0),
                Wake::Stop => {}
            }
            now = self.thread.now();
            self.take_replies(wire, now)?;
        }
    }

    fn fill(&mut self, out: &mut Vec<u8>, now: u64) {
        while self.outstanding.len() < self.thread.plan.outstanding {
            self.xid = next_xid(self.xid);
            let kind = self.requests.put(out, self.xid);
            self.outstanding.push_back(Outstanding { xid: self.xid, sent_ns: now, kind });
            self.slot.last_sent.set(now);
        }
    }

    fn take_replies(&mut self, wire: &mut Wire, now: u64) -> io::Result<()> {
        while let Some(frame) = wire.frame()? {
            let (header, body) = reply(frame)?;
            if header.xid == XID_PING || header.xid == XID_NOTIFICATION {
                continue;
            }
            let Some(request) = self.outstanding.pop_front().filter(|r| r.xid == header.xid) else {
                return Err(bad_reply(format!("xid {} is not the next one", header.xid)));
            };
            self.last_zxid = self.last_zxid.max(header.zxid);
            if header.err != 0 {
                self.thread.refused(header.err, now);
            } else if request.kind == Kind::Read && !has_data(body, self.thread.plan.size) {
                self.thread.failure("WrongData", 1, now);
            } else {
                self.thread.success(request.kind, now - request.sent_ns, now);
            }
        }
        Ok(())
    }
}

/// Is this the reply to a getData of a node with `size` bytes?
pub fn has_data(body: &[u8], size: usize) -> bool {
    let prefix = (size as i32).to_be_bytes();
    body.len() == 4 + size + STAT_SIZE && body.starts_with(&prefix)
}
