//! One server: a disk that lives on, and a process that comes and goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::ServerState;
use oxkeeper_replica::limits::LimitSettings;
use oxkeeper_replica::{Client, Input, Now, Output, Replica, Settings, Shared};
use oxkeeper_state::auth::AuthSettings;
use oxkeeper_state::prepare::PrepareSettings;
use oxkeeper_storage::{EpochFiles, StorageError};
use oxkeeper_zab::Output as Z;

use crate::client_port::Accepted;
use crate::fuse::FuseDisk;
use crate::net::ConnId;
use crate::overheard;
use crate::quorum_port::{self, PeerEvent, QuorumPort};
use crate::store::{self, DiskOp, Store};
use crate::world::{Event, Violation, World};

/// What waits for the replica.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Mail {
    Input(Input),
    Peer { term: u64, event: PeerEvent },
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// The server as a value.
    pub replica: Replica,
    /// Its shared part.
    pub shared: Arc<Shared>,
    mailbox: Vec<Mail>,
    wake_at: Option<u64>,
    /// Its disk queue.
    pub store: Store,
    /// Its quorum port.
    pub port: QuorumPort,
    /// Its clients.
    pub clients: BTreeMap<ConnId, Accepted>,
    /// Role seen last, for the checks.
    pub role: (ServerState, bool),
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Its disk.
    pub disk: FuseDisk,
    /// Counts processes.
    pub incarnation: u64,
    /// `None`: down.
    pub process: Option<Process>,
    /// zxid up to which the disk has told that everything is durable.
    pub durable: Zxid,
    /// Factor of disk latency.
    pub disk_slow: u64,
    /// A write or sync was told to fail.
    pub disk_fault: bool,
    /// The process does not run before this, in µs.
    pub paused_until: u64,
    /// Start at this time, if a crash comes during a start.
    pub starts: u64,
}

impl Server {
    /// A server that never ran.
    pub fn new(index: usize) -> Server {
        Server {
            disk: FuseDisk::new(&format!("s{}", index + 1)),
            incarnation: 0,
            process: None,
            durable: Zxid::ZERO,
            disk_slow: 1,
            disk_fault: false,
            paused_until: 0,
            starts: 0,
        }
    }

    /// Does a process run?
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Does this very process run?
    pub fn is_running(&self, incarnation: u64) -> bool {
        self.process.is_some() && self.incarnation == incarnation
    }
}

impl World<'_> {
    /// The clocks of a server: each has an offset of its own.
    pub fn clocks(&self, server: usize) -> Now {
        let ms = self.now / 1000;
        Now {
            mono_ms: ms + self.mono_offset(server),
            wall_ms: 1_700_000_000_000 + ms as i64 + 1500 * server as i64,
        }
    }

    fn mono_offset(&self, server: usize) -> u64 {
        10_000 * (server as u64 + 1) + 777 * self.servers[server].incarnation
    }

    /// Starts a process on what the disk holds.
    pub fn restart(&mut self, server: usize) -> Result<(), Violation> {
        if self.servers[server].is_up() {
            return Ok(());
        }
        self.servers[server].starts += 1;
        self.servers[server].disk.repair();
        if self.now < self.plan.faults_end && self.dice.one_in(8) {
            let nth = self.dice.between(1, 12);
            self.servers[server].disk.set_fuse(nth);
        }
        let started = self.start(server);
        self.survives(server, started.map(|()| Ok(())), "start").map(|_| ())
    }

    fn start(&mut self, server: usize) -> Result<(), StorageError> {
        let disk = self.servers[server].disk.clone();
        let loaded = store::load_state(&disk, self.plan.commit_log_count)?;
        let shared = Arc::new(Shared::new(loaded.state, self.settings(server), 11));
        if loaded.needs_snapshot {
            store::write_snapshot(&disk, &shared)?.publish()?;
        }
        let last = loaded.history.last_zxid;
        let epochs = EpochFiles::new(disk.clone()).load(last)?;
        let random = [self.dice.any(), self.dice.any()];
        let ends = (loaded.contiguous_from, last.max(Zxid::ZERO));
        let store = Store::new(disk, ends, self.plan.snap_count, random)?;
        self.servers[server].incarnation += 1;
        self.servers[server].durable = last.max(Zxid::ZERO);
        let incarnation = self.servers[server].incarnation;
        self.note(|| format!("s{} starts: last {last}, {epochs:?}", server + 1));
        let mut outputs = Vec::new();
        let replica = Replica::member(
            shared.clone(),
            oxkeeper_replica::replica::Config {
                prepare: PrepareSettings::default(),
                reap_interval_ms: 60_000,
                reap_per_minute: 10_000,
                leader_serves: true,
                config_node: Some((self.plan.ensemble.to_string(), 0)),
            },
            self.zab_config(server),
            (epochs.accepted, epochs.current),
            loaded.history,
            self.clocks(server),
            &mut outputs,
        );
        self.servers[server].process = Some(Process {
            replica,
            shared,
            mailbox: Vec::new(),
            wake_at: None,
            store,
            port: QuorumPort::default(),
            clients: BTreeMap::new(),
            role: (ServerState::Looking, false),
        });
        self.after(1_000_000, Event::ReapIdle { server, incarnation });
        let delay = self.dice.between(10_000, 3_000_000);
        self.after(delay, Event::Purge { server, incarnation });
        // Outputs of the start cannot break a rule of the checks: they only vote.
        if let Err(violation) = self.perform(server, outputs) {
            panic!("{violation}");
        }
        self.schedule_wake(server);
        Ok(())
    }

    fn zab_config(&self, server: usize) -> oxkeeper_zab::Config {
        oxkeeper_zab::Config {
            me: server as i64 + 1,
            ensemble: self.plan.ensemble.clone(),
            tick_ms: self.plan.tick_ms,
            init_limit: 10,
            sync_limit: 5,
            commit_log_count: self.plan.commit_log_count,
            force_snapshot_sync: false,
            fast_election: true,
        }
    }

    fn settings(&self, server: usize) -> Settings {
        Settings {
            server: server as i64 + 1,
            tick_ms: self.plan.tick_ms,
            min_session_timeout_ms: 200,
            max_session_timeout_ms: 4_000,
            auth: AuthSettings::default(),
            limits: LimitSettings::default(),
        }
    }

    /// Ends a process. `power`: the disk loses what was not synced.
    pub fn crash(&mut self, server: usize, power: bool) {
        self.summary.crashes += 1;
        self.note(|| format!("s{} crashes{}", server + 1, if power { ", power lost" } else { "" }));
        let Some(conns) = self.end_process(server) else {
            // It was starting.
            self.power_off(server, power);
            return;
        };
        self.power_off(server, power);
        let silent = self.dice.one_in(3);
        for conn in conns {
            if silent {
                // The peers find out by silence, or when the machine is back.
                let end = usize::from(self.conns.get(&conn).is_some_and(|c| c.nodes[1] == server));
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.open[end] = false;
                }
                self.servers_silent(conn);
            } else {
                let end = usize::from(self.conns.get(&conn).is_some_and(|c| c.nodes[1] == server));
                self.close_end(conn, end);
            }
        }
    }

    fn servers_silent(&mut self, conn: ConnId) {
        self.faults.silent.push(conn);
    }

    fn power_off(&mut self, server: usize, power: bool) {
        let mut random = Vec::new();
        for _ in 0..4096 {
            random.push(self.dice.any());
        }
        let mut next = 0;
        let disk = &mut self.servers[server].disk;
        if power || disk.is_blown() {
            disk.mem.crash(|n| {
                next += 1;
                random[next % random.len()] % n.max(1)
            });
        } else {
            disk.mem.kill();
        }
        disk.repair();
        self.servers[server].disk_fault = false;
        let delay = self.dice.between(20_000, 1_500_000);
        self.after(delay, Event::Restart { server });
    }

    /// The connections that the process had.
    fn end_process(&mut self, server: usize) -> Option<Vec<ConnId>> {
        let process = self.servers[server].process.take()?;
        let counts = process.replica.zab().map(|zab| (zab.sync_counts(), zab.elections()));
        if let Some((counts, elections)) = counts {
            self.summary.add_syncs(counts);
            self.summary.elections += elections;
        }
        self.forget_votes(server);
        self.forget_election_conns(server);
        let ids = self.conns.iter().filter(|(_, conn)| conn.nodes.contains(&server));
        Some(ids.map(|(id, _)| *id).collect())
    }

    /// Gives a server something for its mailbox.
    pub fn mail(&mut self, server: usize, mail: Mail) {
        let delay = self.dice.below(200);
        if let Some(process) = &mut self.servers[server].process {
            process.mailbox.push(mail);
            self.wake_within(server, delay);
        }
    }

    /// Gives a server an input of the protocol.
    pub fn zab_input(&mut self, server: usize, input: oxkeeper_zab::Input) {
        self.mail(server, Mail::Input(Input::Zab(input)));
    }

    fn wake_within(&mut self, server: usize, delay: u64) {
        let at = self.now + delay;
        let incarnation = self.servers[server].incarnation;
        let Some(process) = &mut self.servers[server].process else { return };
        if process.wake_at.is_none_or(|earlier| at < earlier) {
            process.wake_at = Some(at);
            self.after(delay, Event::Wake { server, incarnation });
        }
    }

    fn schedule_wake(&mut self, server: usize) {
        let offset = self.mono_offset(server);
        let Some(process) = &self.servers[server].process else { return };
        if let Some(deadline) = process.replica.next_timeout() {
            let at = deadline.saturating_sub(offset) * 1000;
            self.wake_within(server, at.saturating_sub(self.now).max(1));
        }
    }

    /// The replica thread runs once.
    pub fn wake(&mut self, server: usize, incarnation: u64) -> Result<(), Violation> {
        if !self.servers[server].is_running(incarnation) {
            return Ok(());
        }
        let paused_until = self.servers[server].paused_until;
        let clocks = self.clocks(server);
        let (now, step) = (self.now, self.dice.between(100, 2000));
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        if process.wake_at != Some(now) {
            // An earlier one was scheduled meanwhile and has run.
            return Ok(());
        }
        process.wake_at = None;
        if paused_until > now {
            self.wake_within(server, paused_until - now + step);
            return Ok(());
        }
        let mut outputs = Vec::new();
        for mail in std::mem::take(&mut process.mailbox) {
            let input = match mail {
                Mail::Input(input) => input,
                Mail::Peer { term, .. } if term != process.port.term => continue,
                Mail::Peer { event, .. } => {
                    if let PeerEvent::Snapshot(Err(reason)) = &event {
                        return Err(format!("s{}: snapshot stream: {reason}", server + 1));
                    }
                    quorum_port::input(event)
                }
            };
            if self.trace.recording && matches!(&input, Input::Zab(_)) {
                self.trace.line(now, || format!("s{} <- {}", server + 1, short(&input)));
            }
            process.replica.handle(clocks, input, &mut outputs);
        }
        if process.replica.next_timeout().is_some_and(|at| at <= clocks.mono_ms) {
            process.replica.on_timeout(clocks, &mut outputs);
        }
        process.replica.finish(clocks, &mut outputs);
        if let Some(accusation) = overheard::take() {
            return Err(format!("s{} says: {accusation}", server + 1));
        }
        self.perform(server, outputs)?;
        self.check_server(server)?;
        self.schedule_wake(server);
        Ok(())
    }

    fn perform(&mut self, server: usize, outputs: Vec<Output>) -> Result<(), Violation> {
        let mut disk_ops = Vec::new();
        let mut wakes: Vec<Arc<Client>> = Vec::new();
        for output in outputs {
            let output = match output {
                Output::Wake(client) => {
                    wakes.push(client);
                    continue;
                }
                Output::Zab(output) => output,
            };
            self.note(|| format!("s{} -> {}", server + 1, short(&output)));
            match output {
                Z::Append(proposal) => disk_ops.push(DiskOp::Append(proposal)),
                Z::SaveAcceptedEpoch(epoch) => disk_ops.push(DiskOp::SaveAcceptedEpoch(epoch)),
                Z::PrepareCurrentEpoch(epoch) => disk_ops.push(DiskOp::PrepareCurrentEpoch(epoch)),
                Z::SaveCurrentEpoch(epoch) => disk_ops.push(DiskOp::SaveCurrentEpoch(epoch)),
                Z::SaveSnapshot => disk_ops.push(DiskOp::SaveSnapshot),
                Z::Truncate(zxid) => disk_ops.push(DiskOp::Truncate(zxid)),
                Z::Reload => disk_ops.push(DiskOp::Reload),
                Z::ReadLog { link, from, to } => {
                    let delay = self.dice.between(200, 20_000);
                    let incarnation = self.servers[server].incarnation;
                    self.after(delay, Event::LogRead { server, incarnation, link, from, to });
                }
                Z::Notify { to, notification } => {
                    self.notify(server, (to - 1) as usize, notification);
                }
                Z::ConnectElection => self.connect_elections(server),
                output => self.quorum_output(server, output)?,
            }
        }
        self.flush(server);
        self.queue_disk(server, disk_ops);
        for client in wakes {
            client.wake();
            let delay = self.dice.below(300);
            self.after(delay, Event::ClientTask { conn: client.id });
        }
        Ok(())
    }
}

/// The beginning of a value's debug text.
fn short(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > 160 {
        let end = (0..=160).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
