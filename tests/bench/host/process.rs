//! CPU time and memory of processes, read from /proc (proc(5)), the clock that all of them share, and the disk.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// User and system time of these processes together.
pub(crate) fn cpu_of(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|pid| stat(*pid)).map(|stat| stat.own).sum()
}

/// The same of a process, its children, and those of its children that have ended.
pub(crate) fn cpu_of_family(parent: u32) -> Duration {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children: Duration = pids.filter_map(stat).filter(|stat| stat.parent == parent).map(|stat| stat.own).sum();
    let parent = stat(parent).expect("it runs");
    children + parent.own + parent.ended_children
}

/// Bytes of memory that the process has at the moment, and had at most.
pub(crate) fn memory_of(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of this name");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

/// Nanoseconds of the clock that all processes of this machine share.
pub(crate) fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// How long the disk takes to make a page of 4 KiB durable: half of the times, and 99 of 100.
pub(crate) fn fsync_of(folder: &Path) -> (Duration, Duration) {
    let mut file = File::create(folder.join("fsync")).unwrap();
    file.write_all(&[0; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    let mut times: Vec<Duration> = (0..500)
        .map(|round| {
            let began = Instant::now();
            file.write_all_at(&[round as u8; 4096], round % 256 * 4096).unwrap();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
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
