//! A line a minute, and what follows from all of them.

use std::{fmt, time::Duration};

use crate::{
    load::{CameTo, Traffic},
    process::Used,
};

const MIB: f64 = 1_048_576.0;
/// From the second quarter of the time to the last one memory may grow by this part, and this much besides: caches fill.
const MEMORY_PART: f64 = 0.10;
const MEMORY_BYTES: f64 = 8.0 * MIB;
/// The 99th percentile of the latency to so many times, and this much besides.
const LATENCY_TIMES: f64 = 1.5;
const LATENCY: Duration = Duration::from_millis(10);
/// SQLite's log never grows beyond this.
const LOG_BYTES: u64 = 64 << 20;

/// How much may change that depends on what else the machine does.
pub(crate) struct Tolerance {
    /// Descriptors may grow by so many.
    descriptors: usize,
    /// What one event adds to the database, to so many times.
    row_times: f64,
    /// Whether latency is judged.
    latency: bool,
}

impl Tolerance {
    /// Where nothing else runs.
    pub(crate) const ALONE: Self = Self { descriptors: 16, row_times: 1.25, latency: true };
    /// Where a host may stand still for seconds: then it has more connections for a minute, and more in its log. One that leaks a
    /// descriptor for each event has thousands more.
    pub(crate) const SHARED: Self = Self { descriptors: 500, row_times: 2.0, latency: false };
}

/// What was seen at the end of a minute.
pub(crate) struct Sample {
    pub(crate) minute: u32,
    pub(crate) traffic: Traffic,
    pub(crate) used: Used,
    /// CPU time of the host in this minute.
    pub(crate) took: Duration,
    pub(crate) database_bytes: u64,
    pub(crate) log_bytes: u64,
}

impl Sample {
    pub(crate) const HEAD: &str = "minute | acknowledged |  arrived |       p50 |       p99 |    memory | descriptors |    CPU |  database |      log";
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
        let mib = |bytes: u64| bytes as f64 / MIB;
        write!(
            f,
            "{:6} | {:12} | {:8} | {:6.1} ms | {:6.1} ms | {:5.1} MiB | {:11} | {:4.1} s | {:5.1} MiB | {:4.1} MiB",
            self.minute,
            self.traffic.acknowledged,
            self.traffic.arrived,
            ms(self.traffic.p50),
            ms(self.traffic.p99),
            mib(self.used.memory_bytes),
            self.used.descriptors,
            self.took.as_secs_f64(),
            mib(self.database_bytes),
            mib(self.log_bytes),
        )
    }
}

/// What was looked at, and whether it was as it should be.
pub(crate) struct Verdict(Vec<(bool, String)>);

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.0.iter().all(|(good, _)| *good)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (good, what) in &self.0 {
            writeln!(f, "{}  {what}", if *good { "good" } else { "BAD " })?;
        }
        write!(f, "verdict: {}", if self.is_good() { "good" } else { "BAD" })
    }
}

/// Compares the second quarter, when caches are warm, with the last. There are four samples at least.
pub(crate) fn of(samples: &[Sample], came_to: &CameTo, stopped: bool, tolerance: &Tolerance) -> Verdict {
    let Tolerance { descriptors: more_descriptors, row_times, latency } = *tolerance;
    let quarter = samples.len() / 4;
    let (early, late) = (&samples[quarter..2 * quarter], &samples[samples.len() - quarter..]);
    let memory = |samples: &[Sample]| median(samples, |sample| sample.used.memory_bytes as f64);
    let descriptors = |samples: &[Sample]| median(samples, |sample| sample.used.descriptors as f64);
    let p99 = |samples: &[Sample]| median(samples, |sample| sample.traffic.p99.as_secs_f64());
    let (before, after) = (memory(early), memory(late));
    let hours = f64::from(late[quarter - 1].minute - early[quarter - 1].minute) / 60.0;
    let slope = (after - before) / MIB / hours;
    let log = samples.iter().map(|sample| sample.log_bytes).max().unwrap_or_default();
    let (first, last) = (growth(&samples[quarter..samples.len() / 2 + 1]), growth(&samples[samples.len() / 2..]));
    Verdict(vec![
        (
            after <= before * (1.0 + MEMORY_PART) + MEMORY_BYTES,
            format!("memory {:.1} → {:.1} MiB, {slope:+.1} MiB an hour", before / MIB, after / MIB),
        ),
        (
            descriptors(late) <= descriptors(early) + more_descriptors as f64,
            format!("descriptors {} → {}", descriptors(early), descriptors(late)),
        ),
        (
            !latency || p99(late) <= p99(early) * LATENCY_TIMES + LATENCY.as_secs_f64(),
            format!(
                "p99 from post to arrival {:.1} → {:.1} ms{}",
                p99(early) * 1e3,
                p99(late) * 1e3,
                if latency { "" } else { ", not judged" }
            ),
        ),
        (
            last <= first * row_times + 1.0,
            format!(
                "database {first:.0} → {last:.0} bytes an event, {:.1} MiB",
                late[quarter - 1].database_bytes as f64 / MIB
            ),
        ),
        (log <= LOG_BYTES, format!("log at most {:.1} MiB", log as f64 / MIB)),
        (
            came_to.missing == 0 && came_to.acknowledged > 0,
            format!(
                "{} acknowledged, {} of them missing, {} arrived twice",
                came_to.acknowledged, came_to.missing, came_to.twice
            ),
        ),
        (came_to.refused == 0, format!("{} posts not taken", came_to.refused)),
        (stopped, "the host ended when it was asked to".to_owned()),
    ])
}

/// Bytes that an event added between the first and the last of these.
fn growth(samples: &[Sample]) -> f64 {
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let events = last.traffic.acknowledged - first.traffic.acknowledged;
    last.database_bytes.saturating_sub(first.database_bytes) as f64 / events.max(1) as f64
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
