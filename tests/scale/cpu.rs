//! CPU time of processes, read from /proc (proc(5)).

use std::{fs, time::Duration};

/// User and system time of these processes together.
pub(crate) fn of(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|pid| stat(*pid)).map(|stat| stat.own).sum()
}

/// The same of a process, its children, and those of its children that have ended.
pub(crate) fn of_family(parent: u32) -> Duration {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children: Duration = pids.filter_map(stat).filter(|stat| stat.parent == parent).map(|stat| stat.own).sum();
    let parent = stat(parent).expect("it runs");
    children + parent.own + parent.ended_children
}

struct Stat {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it is field 3.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // A tick is 10 ms on every Linux of today.
    let ticks = |field: usize| Some(Duration::from_millis(10 * fields[field - 3].parse::<u64>().ok()?));
    Some(Stat {
        parent: fields[1].parse().ok()?,
        own: ticks(14)? + ticks(15)?,
        ended_children: ticks(16)? + ticks(17)?,
    })
}
