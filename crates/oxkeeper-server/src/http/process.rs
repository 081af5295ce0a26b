//! `process_*`, and those of `jvm_*` that mean something without a Java machine
//! (`docs/spec/operations.md` 4.3).

use std::fs;

use super::exposition::{Family, Sample};
use crate::view::Descriptors;
use crate::words::MemoryLimit;

/// Ticks a second in `/proc/self/stat` and `/proc/stat`: part of the kernel's interface.
const TICKS: f64 = 100.0;

/// What `/proc` says; what it does not say is left out.
pub(super) fn families() -> Vec<Family> {
    let mut families = Vec::new();
    let mut add = |name: &str, help: &str, kind, value: Option<f64>| {
        families.extend(value.map(|value| Family::single(name, help, kind, value)));
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| first_number(line.strip_prefix(name)?));
    let bytes = |name: &str| field(name).map(|kib| kib * 1024.0);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name, in brackets, may hold blanks.
    let stat = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |at: usize| stat.split_whitespace().nth(at)?.parse::<f64>().ok();
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = machine.lines().find_map(|line| first_number(line.strip_prefix("btime ")?));
    let Descriptors { open, limit } = Descriptors::look();

    let used = "Total user and system CPU time spent in seconds.";
    let cpu = ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / TICKS);
    add("process_cpu_seconds_total", used, "counter", cpu);
    let started = "Start time of the process since unix epoch in seconds.";
    let start = boot.zip(ticks(19)).map(|(boot, ticks)| boot + ticks / TICKS);
    add("process_start_time_seconds", started, "gauge", start);
    let of_open = "Number of open file descriptors.";
    add("process_open_fds", of_open, "gauge", Some(open as f64));
    let of_limit = "Maximum number of open file descriptors.";
    add("process_max_fds", of_limit, "gauge", Some(limit as f64));
    let of_virtual = "Virtual memory size in bytes.";
    add("process_virtual_memory_bytes", of_virtual, "gauge", bytes("VmSize:"));
    let of_resident = "Resident memory size in bytes.";
    add("process_resident_memory_bytes", of_resident, "gauge", bytes("VmRSS:"));
    add("jvm_threads_current", "Current thread count of the process.", "gauge", field("Threads:"));
    let limit = MemoryLimit::look();
    let max = limit.bytes.map(|bytes| bytes as f64);
    let max_help = match max {
        Some(_) if limit.of_group => "Memory limit of the control group in bytes.",
        _ => "Memory of the machine in bytes; the control group has no limit.",
    };
    let heap = |name: &str, help: &str, value: Option<f64>| {
        value.map(|value| Family {
            name: name.to_owned(),
            help: help.to_owned(),
            kind: "gauge",
            samples: vec![Sample { name: name.to_owned(), label: Some(("area", "heap")), value }],
        })
    };
    let used_help = "Resident memory of the process in bytes.";
    families.extend(heap("jvm_memory_bytes_used", used_help, bytes("VmRSS:")));
    families.extend(heap("jvm_memory_bytes_max", max_help, max));
    families
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}
