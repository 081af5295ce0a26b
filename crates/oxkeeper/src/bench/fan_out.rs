//! Watch load: one writer, and every connection holds a watch on the one node it writes.
//!
//! It runs in rounds: all watches are set, the writer writes, every watcher gets its notification
//! and sets its watch again with the read that fetches the change. So each notification belongs to
//! one write. A watcher that loses its connection leaves the round and joins a later one.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use oxkeeper_proto::OpCode;
use oxkeeper_proto::client::{XID_NOTIFICATION, XID_PING};
use tokio::sync::Notify;

use super::closed_loop::{close, has_data};
use super::measure::Kind;
use super::requests::{Template, next_xid};
use super::thread::{Connector, Slot, Thread, Wake};
use crate::wire::{Wire, reply};

/// The state of the round, shared by writer and watchers of the one thread.
#[derive(Default)]
pub struct Round {
    /// Connections that watch or are about to.
    watchers: Cell<usize>,
    /// Watches that are set and not yet fired.
    armed: Cell<usize>,
    /// Notifications of this round still to come.
    due: Cell<usize>,
    /// When the write was sent.
    sent_ns: Cell<u64>,
    /// When the write was acknowledged; 0 before.
    acked_ns: Cell<u64>,
    /// Tells the writer that something above has changed.
    changed: Notify,
}

impl Round {
    fn add(&self, counter: &Cell<usize>, by: isize) {
        counter.set(counter.get().saturating_add_signed(by));
        self.changed.notify_one();
    }

    fn ready(&self) -> bool {
        self.due.get() == 0 && self.armed.get() == self.watchers.get() && self.armed.get() > 0
    }
}

/// Runs one watcher.
pub async fn watch(thread: Rc<Thread>, round: Rc<Round>, index: usize) {
    let slot = thread.new_slot();
    let mut connector = Connector::new(index);
    while let Some(mut wire) = connector.connect(&thread).await {
        thread.control.connected.fetch_add(1, Relaxed);
        round.add(&round.watchers, 1);
        let mut watcher = Watcher { thread: &thread, slot: &slot, round: &round, armed: false };
        let ended = watcher.drive(&mut wire).await;
        round.add(&round.watchers, -1);
        if watcher.armed {
            round.add(&round.armed, -1);
            round.add(&round.due, -1);
        }
        thread.control.connected.fetch_sub(1, Relaxed);
        slot.idle();
        match ended {
            Ok(()) => return close(&mut wire).await,
            Err(error) => thread.lost(1, &error),
        }
    }
}

struct Watcher<'a> {
    thread: &'a Thread,
    slot: &'a Slot,
    round: &'a Round,
    armed: bool,
}

impl Watcher<'_> {
    async fn drive(&mut self, wire: &mut Wire) -> io::Result<()> {
        let get = Template::get(&self.thread.plan.watched_node(), false, true);
        let mut xid = 1;
        self.arm(&get, xid, wire);
        loop {
            match self.slot.exchange(wire).await? {
                Wake::Bytes => {}
                Wake::Ping => Template::bare(OpCode::Ping).put(wire.out(), XID_PING, 0),
                Wake::Stop => return Ok(()),
            }
            let now = self.thread.now();
            let mut fired = false;
            while let Some(frame) = wire.frame()? {
                let (header, body) = reply(frame)?;
                match header.xid {
                    XID_PING => {}
                    XID_NOTIFICATION => {
                        self.notified(now);
                        fired = true;
                    }
                    _ if header.err != 0 => self.thread.refused(header.err, now),
                    _ => self.armed(body, now),
                }
            }
            if fired {
                xid = next_xid(xid);
                self.arm(&get, xid, wire);
            }
        }
    }

    fn arm(&self, get: &Template, xid: i32, wire: &mut Wire) {
        get.put(wire.out(), xid, 0);
        let now = self.thread.now();
        self.slot.waiting_since.set(now);
        self.slot.last_sent.set(now);
    }

    fn armed(&mut self, body: &[u8], now: u64) {
        if !has_data(body, self.thread.plan.size) {
            self.thread.failure("WrongData", 1, now);
        }
        self.slot.waiting_since.set(u64::MAX);
        if !self.armed {
            self.armed = true;
            self.round.add(&self.round.armed, 1);
        }
    }

    fn notified(&mut self, now: u64) {
        if !self.armed {
            self.thread.failure("UnexpectedEvent", 1, now);
            return;
        }
        self.armed = false;
        self.round.add(&self.round.armed, -1);
        self.round.add(&self.round.due, -1);
        self.thread.success(Kind::Event, now - self.round.sent_ns.get(), now);
        let acked = self.round.acked_ns.get();
        let after_ack = if acked == 0 { 0 } else { now - acked };
        if self.thread.measured(now) {
            self.thread.results.borrow_mut().record(Kind::EventAfterAck, after_ack, now);
        }
    }
}

/// Runs the writer.
pub async fn write(thread: Rc<Thread>, round: Rc<Round>) {
    let slot = thread.new_slot();
    let mut connector = Connector::new(0);
    while let Some(mut wire) = connector.connect(&thread).await {
        let ended = rounds(&thread, &slot, &round, &mut wire).await;
        slot.idle();
        match ended {
            Ok(()) => return close(&mut wire).await,
            Err(error) => thread.lost(1, &error),
        }
    }
}

async fn rounds(thread: &Thread, slot: &Slot, round: &Round, wire: &mut Wire) -> io::Result<()> {
    let set = Template::set(&thread.plan.watched_node(), false, &thread.plan.data());
    let mut xid = 0;
    loop {
        wait_ready(thread, round).await;
        let sent = thread.now();
        if thread.stopping(sent) {
            return Ok(());
        }
        round.sent_ns.set(sent);
        round.acked_ns.set(0);
        round.due.set(round.armed.get());
        xid = next_xid(xid);
        set.put(wire.out(), xid, 0);
        slot.waiting_since.set(sent);
        slot.last_sent.set(sent);
        write_acknowledged(thread, slot, round, wire, xid).await?;
    }
}

/// Waits until the write is answered.
async fn write_acknowledged(
    thread: &Thread,
    slot: &Slot,
    round: &Round,
    wire: &mut Wire,
    xid: i32,
) -> io::Result<()> {
    loop {
        slot.exchange(wire).await?;
        let now = thread.now();
        while let Some(frame) = wire.frame()? {
            let (header, _) = reply(frame)?;
            if header.xid != xid {
                continue;
            }
            slot.waiting_since.set(u64::MAX);
            match header.err {
                0 => thread.success(Kind::Write, now - round.sent_ns.get(), now),
                code => {
                    thread.refused(code, now);
                    round.due.set(0);
                }
            }
            round.acked_ns.set(now);
            return Ok(());
        }
    }
}

/// Waits until every watch is set. Notifications that stay away for too long are given up and
/// counted, so that one that was lost cannot end the load.
async fn wait_ready(thread: &Thread, round: &Round) {
    let give_up = thread.now() + thread.plan.timeout.as_nanos() as u64;
    while !round.ready() {
        let now = thread.now();
        if thread.stopping(now) {
            return;
        }
        if now > give_up && round.armed.get() > 0 {
            thread.failure("MissedEvent", round.due.replace(0) as u64, now);
            return;
        }
        let limit = std::time::Duration::from_millis(100);
        let _ = tokio::time::timeout(limit, round.changed.notified()).await;
    }
}
