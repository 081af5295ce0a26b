//! What goes wrong. A run's faults are drawn before it begins ([`schedule`]), so that single ones can be
//! left out when a failing run is made smaller.

mod clock;
mod disk;
mod network;
mod process;
pub mod schedule;

pub use clock::ClockFault;
pub use disk::{Ailment, DiskFault};
pub use network::NetworkFault;
pub use process::ProcessFault;

use std::collections::BTreeSet;

use crate::net::ConnId;
use crate::server::Server;
use crate::world::{Event, World};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Fault {
    Process(ProcessFault),
    Network(NetworkFault),
    Disk(DiskFault),
    Clock(ClockFault),
}

impl Fault {
    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Process(fault) => fault.kind(),
            Fault::Network(fault) => fault.kind(),
            Fault::Disk(fault) => fault.kind(),
            Fault::Clock(fault) => fault.kind(),
        }
    }
}

/// A fault and its time, in µs.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Strike {
    pub at: u64,
    pub fault: Fault,
}

/// Faults under way.
#[derive(Debug, Default)]
pub struct FaultState {
    /// Connections whose one end died without a word.
    pub silent: Vec<ConnId>,
    /// Servers to which a damaged proposal will be sent.
    pub to_damage: BTreeSet<usize>,
    /// Processes that got one, and may say so.
    pub damaged: BTreeSet<(usize, u64)>,
    /// The next leader that sends a tree will lose its quorum for so long, in µs.
    pub strand_stream: Option<u64>,
    /// The link whose tree is made slowly.
    pub slow_stream: Option<ConnId>,
    /// When something went wrong, or right, last.
    pub disturbed: u64,
    /// When somebody led last, with a quorum behind it.
    pub led: u64,
    /// When each server was last seen serving, or was not fit to.
    pub served: Vec<u64>,
    /// The server whose disk goes on to hang when all other faults are over.
    pub last_hang: Option<usize>,
}

/// Who leads, with a quorum behind it.
pub fn leader_of(servers: &[Server]) -> Option<usize> {
    let leads =
        |server: &Server| server.process.as_ref().is_some_and(|process| process.seen.leads());
    servers.iter().position(leads)
}

impl World<'_> {
    /// The strike with this number takes place.
    pub fn strike(&mut self, number: usize) {
        self.break_silence();
        if self.without.contains(&number) {
            return;
        }
        let fault = self.plan.strikes[number].fault;
        self.note(|| format!("fault {number}: {fault:?}"));
        self.summary.count_fault(fault.kind());
        self.perform_fault(fault);
    }

    /// A fault that goes on.
    pub fn strike_again(&mut self, fault: Fault) {
        if self.now < self.plan.faults_end {
            self.note(|| format!("again: {fault:?}"));
            self.perform_fault(fault);
        }
    }

    fn perform_fault(&mut self, fault: Fault) {
        self.faults.disturbed = self.now;
        match fault {
            Fault::Process(fault) => self.strike_process(fault),
            Fault::Network(fault) => self.strike_network(fault),
            Fault::Disk(fault) => self.strike_disk(fault),
            Fault::Clock(fault) => self.strike_clock(fault),
        }
    }

    /// Machines that died without a word are back, or their addresses are taken back: the peers learn that
    /// they are gone.
    fn break_silence(&mut self) {
        for conn in std::mem::take(&mut self.faults.silent) {
            self.reset(conn);
        }
    }

    /// All is well again; what is down starts.
    pub fn end_faults(&mut self) {
        self.note(|| "the faults end".to_owned());
        self.break_silence();
        self.net.slow = 0;
        self.heal_all();
        self.faults.to_damage.clear();
        self.faults.strand_stream = None;
        self.faults.slow_stream = None;
        self.narrow_at_the_end();
        self.faults.disturbed = self.now;
        for server in &mut self.servers {
            server.disk_slow = 1;
        }
        self.end_disk_faults();
        for server in 0..self.servers.len() {
            self.after(10_000, Event::Restart { server });
        }
    }
}
