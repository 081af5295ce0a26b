//! The event queue, and everything that events change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use oxkeeper_node::RoleId;
use oxkeeper_zab::LogRead;

use crate::check::Checks;
use crate::clients::SimClient;
use crate::dice::Dice;
use crate::disk::Aims;
use crate::election_port::ElectionPort;
use crate::faults::{Ailment, Fault, FaultState};
use crate::net::{Conn, ConnId, Cut, Network};
use crate::plan::{Plan, Wishes};
use crate::run::Summary;
use crate::server::Server;
use crate::tell::Line;
use crate::trace::Trace;
use crate::violation::{Rule, Violation};

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
    Strike {
        number: usize,
    },
    FaultsEnd,
    Heal {
        cut: Cut,
    },
    /// Bytes that arrived nowhere since `since`.
    Unacknowledged {
        conn: ConnId,
        end: usize,
        since: u64,
    },
    /// A fault that comes again.
    Again {
        fault: Fault,
    },
    /// Lines from one server to another are as they should be again.
    Widened {
        from: usize,
        to: usize,
    },
    Calm,
    SlowDiskEnds {
        server: usize,
    },
    /// A disk works again, has space again, keeps its word again.
    DiskHeals {
        server: usize,
        from: Ailment,
    },
    LastHang,
}

/// What can be due in a process.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Due {
    Wake,
    Disk,
    SnapshotStep,
    LogRead { read: LogRead },
    Dial { role: RoleId, target: usize, begun: u64 },
    ReapIdle,
    Purge,
    SyncMark,
    Verify,
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
    /// Faults under way.
    pub faults: FaultState,
    /// Phases of storage in which the power will go.
    pub aims: Aims,
    /// Numbers of the strikes that do not take place.
    pub without: BTreeSet<usize>,
}

impl<'t> World<'t> {
    /// A world in which nothing has happened.
    pub fn new(seed: u64, wishes: &Wishes, trace: &'t mut Trace) -> World<'t> {
        let plan = Plan::of(seed, wishes);
        let servers = plan.ensemble.servers.len();
        let aims = Aims::default();
        World {
            now: 0,
            agenda: Agenda::default(),
            // Another stream than the plan's.
            dice: Dice::new(!seed),
            trace,
            servers: (0..servers)
                .map(|index| Server::new(index, plan.shape.drifts[index], &plan.disk, aims.clone()))
                .collect(),
            clients: (0..plan.clients)
                .map(|index| SimClient::new(index, servers + index, &plan))
                .collect(),
            checks: Checks::new(&plan),
            plan,
            net: Network::default(),
            conns: BTreeMap::new(),
            elections: ElectionPort::default(),
            summary: Summary::default(),
            faults: FaultState::default(),
            aims,
            without: wishes.without.clone(),
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

    /// Adds lines of a conversation to the record.
    pub fn tell(&mut self, lines: impl FnOnce(&Self) -> Vec<Line>) {
        if self.trace.recording {
            for line in lines(self) {
                self.trace.tell(self.now, line);
            }
        }
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
        for number in 0..self.plan.strikes.len() {
            self.after(self.plan.strikes[number].at, Event::Strike { number });
        }
        self.after(self.plan.faults_end, Event::FaultsEnd);
        self.after(0, Event::Calm);
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
                return Err(Rule::Liveness
                    .broken(format!("not quiet after the faults: {}", self.describe())));
            }
        }
        Err(Rule::Liveness.broken("nothing is due any more"))
    }

    /// The server whose machine must run for this.
    fn machine(&self, event: &Event) -> Option<usize> {
        let of = |conn: &ConnId, end: usize| self.conns.get(conn).map(|conn| conn.nodes[end]);
        match event {
            Event::Process { server, .. } | Event::Restart { server } => Some(*server),
            Event::Deliver { conn, end } => of(conn, *end),
            Event::Stream { conn } | Event::ClientTask { conn } => of(conn, 1),
            _ => None,
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(server) = self.machine(&event).and_then(|server| self.servers.get(server))
            && self.now < server.frozen_until
        {
            let delay = server.frozen_until - self.now;
            self.after(delay, event);
            return Ok(());
        }
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
            Event::Strike { number } => self.strike(number),
            Event::FaultsEnd => self.end_faults(),
            Event::Heal { cut } => {
                self.faults.disturbed = self.now;
                self.heal(cut);
            }
            Event::Unacknowledged { conn, end, since } => self.unacknowledged(conn, end, since),
            Event::Again { fault } => self.strike_again(fault),
            Event::Widened { from, to } => {
                self.faults.disturbed = self.now;
                self.net.lines.set_far(from, to, 0);
                self.net.lines.set_rate(from, to, 0);
            }
            Event::Calm => return self.check_calm(),
            Event::SlowDiskEnds { server } => self.servers[server].disk_slow = 1,
            Event::DiskHeals { server, from } => self.disk_heals(server, from),
            Event::LastHang => return self.check_last_hang(),
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
            Due::Dial { role, target, begun } => self.dial(server, role, target, begun),
            Due::ReapIdle => self.reap_idle(server),
            Due::Purge => self.purge(server),
            Due::Verify => return self.verify(server),
        }
        Ok(())
    }
}
