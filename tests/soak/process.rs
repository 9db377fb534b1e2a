//! What a process uses, read from /proc (proc(5)).

use std::{fs, time::Duration};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) memory_bytes: u64,
    pub(crate) descriptors: usize,
    pub(crate) cpu: Duration,
}

pub(crate) fn of(pid: u32) -> Used {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let memory_kib: u64 = memory.split_whitespace().next().unwrap().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold anything; what follows it is field 3. Fields 14 and 15 are ticks, 10 ms on every Linux of today.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Used {
        memory_bytes: memory_kib * 1_024,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        cpu: Duration::from_millis(10 * ticks),
    }
}
