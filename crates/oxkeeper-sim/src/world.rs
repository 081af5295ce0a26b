//! The event queue, and everything that events change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use oxkeeper_node::RoleId;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_zab::LogRead;

use crate::check::Checks;
use crate::dice::Dice;
use crate::election_port::ElectionPort;
use crate::faults::FaultPlan;
use crate::net::{Conn, ConnId, Network};
use crate::run::Summary;
use crate::server::Server;
use crate::trace::Trace;
use crate::workload::SimClient;

/// A broken rule, in words. Ends the run.
pub type Violation = String;

/// What can be due.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Event {
    /// In a process; nothing, if that one is gone.
    Process {
        server: usize,
        incarnation: u64,
        due: Due,
    },
    Deliver {
        conn: ConnId,
        end: usize,
    },
    ElectionDial {
        from: usize,
        to: usize,
    },
    Stream {
        conn: ConnId,
    },
    ClientTask {
        conn: ConnId,
    },
    Client {
        client: usize,
    },
    Restart {
        server: usize,
    },
    Fault,
    HealLink {
        a: usize,
        b: usize,
    },
    SlowDiskEnds {
        server: usize,
    },
}

/// What can be due in a process.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Due {
    Wake,
    Disk,
    SnapshotStep,
    LogRead { read: LogRead },
    Dial { role: RoleId, target: usize, deadline: u64 },
    ReapIdle,
    Purge,
    SyncMark,
}

/// Events by time; those of the same time in the order in which they were put in.
#[derive(Debug, Default)]
struct Agenda {
    count: u64,
    /// Time, count, slot: small, since the heap moves them much.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Event>,
    free: Vec<usize>,
}

impl Agenda {
    fn push(&mut self, at: u64, event: Event) {
        self.count += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = event;
                slot
            }
            None => {
                self.slots.push(event);
                self.slots.len() - 1
            }
        };
        self.heap.push(Reverse((at, self.count, slot)));
    }

    fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.slots[slot]))
    }
}

/// Settings of a run that the seed chose.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Members.
    pub ensemble: EnsembleConfig,
    /// Unit of the limits in ms.
    pub tick_ms: u64,
    /// Proposals in memory.
    pub commit_log_count: usize,
    /// `snapCount`.
    pub snap_count: i64,
    /// `snapshotSizeFactor`.
    pub snapshot_size_factor: f64,
    /// End of the faults, in µs.
    pub faults_end: u64,
    /// End of the clients' work, in µs.
    pub work_end: u64,
    /// The run must be quiet before this, in µs.
    pub give_up: u64,
}

/// The simulated world.
#[derive(Debug)]
pub struct World<'t> {
    /// Virtual time in µs.
    pub now: u64,
    agenda: Agenda,
    /// Randomness.
    pub dice: Dice,
    /// Record.
    pub trace: &'t mut Trace,
    /// Settings.
    pub plan: Plan,
    /// Servers; index + 1 is the id.
    pub servers: Vec<Server>,
    /// Clients; node number is the number of servers plus the index.
    pub clients: Vec<SimClient>,
    /// Partitions and delays.
    pub net: Network,
    /// Connections.
    pub conns: BTreeMap<ConnId, Conn>,
    /// Election connections.
    pub elections: ElectionPort,
    /// What must hold.
    pub checks: Checks,
    /// Counters.
    pub summary: Summary,
    /// Fault injection.
    pub faults: FaultPlan,
}

impl<'t> World<'t> {
    /// A world in which nothing has happened.
    pub fn new(seed: u64, servers: usize, trace: &'t mut Trace) -> World<'t> {
        let mut dice = Dice::new(seed);
        let mut ensemble = EnsembleConfig::default();
        for id in 1..=servers {
            let spec = format!("host{id}:2888:3888:participant");
            if let Err(error) = ensemble.set(&format!("server.{id}"), &spec, false) {
                panic!("the ensemble of the simulator is wrong: {error}");
            }
        }
        let faults_end = dice.between(8_000_000, 20_000_000);
        let plan = Plan {
            ensemble,
            tick_ms: dice.pick(&[50, 100, 100, 200]),
            commit_log_count: dice.pick(&[5, 20, 20, 60]),
            snap_count: dice.pick(&[20, 60, 60, 300, 100_000]),
            snapshot_size_factor: dice.pick(&[0.33, 1.0, 100.0]),
            faults_end,
            work_end: faults_end + 4_000_000,
            give_up: faults_end + 60_000_000,
        };
        let clients = dice.between(2, 5) as usize;
        World {
            now: 0,
            agenda: Agenda::default(),
            dice,
            trace,
            plan,
            servers: (0..servers).map(Server::new).collect(),
            clients: (0..clients).map(|index| SimClient::new(index, servers + index)).collect(),
            net: Network::default(),
            conns: BTreeMap::new(),
            elections: ElectionPort::default(),
            checks: Checks::default(),
            summary: Summary::default(),
            faults: FaultPlan::default(),
        }
    }

    /// Puts an event into the queue, `delay` µs from now.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.agenda.push(self.now + delay, event);
    }

    /// The same, in the process that `server` has now.
    pub fn after_for(&mut self, server: usize, delay: u64, due: Due) {
        let incarnation = self.servers[server].incarnation;
        self.after(delay, Event::Process { server, incarnation, due });
    }

    /// Adds a line to the record.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    /// Runs from the first start to the quiet end.
    pub fn run(&mut self) -> Result<(), Violation> {
        for server in 0..self.servers.len() {
            let delay = self.dice.below(200_000);
            self.after(delay, Event::Restart { server });
        }
        for client in 0..self.clients.len() {
            let delay = self.dice.between(300_000, 900_000);
            self.after(delay, Event::Client { client });
        }
        self.after(1_000_000, Event::Fault);
        let mut next_quiet_check = self.plan.work_end;
        while let Some((at, event)) = self.agenda.pop() {
            self.now = at;
            self.handle(event)?;
            if self.now >= next_quiet_check {
                next_quiet_check = self.now + 200_000;
                if self.is_quiet() {
                    return self.check_end();
                }
            }
            if self.now > self.plan.give_up {
                return Err(format!("not quiet after the faults: {}", self.describe()));
            }
        }
        Err("nothing is due any more".to_owned())
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Process { server, incarnation, due } => {
                if self.servers[server].is_running(incarnation) {
                    return self.handle_due(server, due);
                }
            }
            Event::Deliver { conn, end } => return self.deliver(conn, end),
            Event::Client { client } => return self.client_step(client),
            Event::Restart { server } => return self.restart(server),
            Event::ElectionDial { from, to } => self.election_dial(from, to),
            Event::Stream { conn } => self.stream_step(conn),
            Event::ClientTask { conn } => self.client_task(conn),
            Event::Fault => self.fault(),
            Event::HealLink { a, b } => self.heal(a, b),
            Event::SlowDiskEnds { server } => self.servers[server].disk_slow = 1,
        }
        Ok(())
    }

    fn handle_due(&mut self, server: usize, due: Due) -> Result<(), Violation> {
        match due {
            Due::Wake => return self.wake(server),
            Due::Disk => return self.disk_due(server),
            Due::SnapshotStep => return self.snapshot_step(server),
            Due::SyncMark => return self.sync_mark(server),
            Due::LogRead { read } => self.log_read(server, read),
            Due::Dial { role, target, deadline } => self.dial(server, role, target, deadline),
            Due::ReapIdle => self.reap_idle(server),
            Due::Purge => self.purge(server),
        }
        Ok(())
    }
}
