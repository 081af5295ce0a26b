//! What goes wrong. A run's faults are drawn before it begins ([`schedule`]), so that single ones can be
//! left out when a failing run is made smaller.

mod disk;
mod network;
mod process;
pub mod schedule;

pub use disk::DiskFault;
pub use network::NetworkFault;
pub use process::ProcessFault;

use crate::net::ConnId;
use crate::world::{Event, World};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Fault {
    Process(ProcessFault),
    Network(NetworkFault),
    Disk(DiskFault),
}

impl Fault {
    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Process(fault) => fault.kind(),
            Fault::Network(fault) => fault.kind(),
            Fault::Disk(fault) => fault.kind(),
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
        match fault {
            Fault::Process(fault) => self.strike_process(fault),
            Fault::Network(fault) => self.strike_network(fault),
            Fault::Disk(fault) => self.strike_disk(fault),
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
        let nodes = self.servers.len() + self.clients.len();
        for a in 0..nodes {
            for b in 0..a {
                self.heal(a, b);
            }
        }
        for server in &mut self.servers {
            server.disk.set_fuse(0);
            server.disk_slow = 1;
            server.paused_until = 0;
        }
        for server in 0..self.servers.len() {
            self.after(10_000, Event::Restart { server });
        }
    }
}
