//! What this process uses, as Linux tells (proc(5)), under the names that Prometheus' own clients give it.

use std::fs;

use metrics::gauge;
use rustix::process::{Resource, getrlimit};

/// A tick of `/proc/self/stat` is 10 ms on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sets the gauges of the process; what cannot be read stays as it is.
pub(crate) fn observe() {
    if let Some(seconds) = cpu_seconds() {
        gauge!("process_cpu_seconds_total").set(seconds);
    }
    if let Some((memory_bytes, threads)) = memory_and_threads() {
        gauge!("process_resident_memory_bytes").set(memory_bytes);
        gauge!("process_threads").set(threads);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The one that looks does not count.
        gauge!("process_open_fds").set(open.count().saturating_sub(1) as f64);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        gauge!("process_max_fds").set(most as f64);
    }
}

fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what follows it is field 3.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn memory_and_threads() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some((field("VmRSS:")? * 1024.0, field("Threads:")?))
}
