//! What is printed of each case, and kept as JSON.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::limit::Limit;

/// How long something took, of many: half of them, 99 of 100 and 999 of 1,000 took no longer than this, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Waits {
    pub(crate) p50: u32,
    pub(crate) p99: u32,
    pub(crate) p999: u32,
}

impl Waits {
    pub(crate) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| micros.get(((micros.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(0);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// Parts of a run that have a 99th percentile each.
const PARTS: usize = 10;

/// The median of the 99th percentiles of the tenths of a run, whose waits are given in the order of their end. One
/// pause of a machine that others use as well makes the 99th percentile of a whole run: 100 ms of it are one in a
/// hundred of ten seconds. A neighbour who is felt is so in most of the tenths.
pub(crate) fn steady_p99(micros: &[u32]) -> u32 {
    let tenths = micros.chunks(micros.len().div_ceil(PARTS).max(1));
    let mut p99s: Vec<u32> = tenths.map(|tenth| Waits::of(tenth.to_vec()).p99).collect();
    p99s.sort_unstable();
    p99s.get(p99s.len() / 2).copied().unwrap_or(0)
}

fn ms(micros: u32) -> String {
    match f64::from(micros) / 1e3 {
        ms if ms < 10.0 => format!("{ms:.1}"),
        ms if ms < 1e4 => format!("{ms:.0}"),
        ms => format!("{:.0}k", ms / 1e3),
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} {:>4} {:>4}", ms(self.p50), ms(self.p99), ms(self.p999))
    }
}

/// What was posted beside the measured load.
#[derive(Serialize)]
pub(crate) struct Noise {
    /// Acknowledged.
    pub(crate) events: usize,
    pub(crate) refused: usize,
    /// Connections to hostile receivers at once, at most; `None`: there were none.
    pub(crate) hostile_at_once: Option<usize>,
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "beside it {} events were taken and {} refused", self.events, self.refused)?;
        match self.hostile_at_once {
            Some(connections) => write!(f, ", and {connections} connections to hostile receivers at once"),
            None => Ok(()),
        }
    }
}

/// What a case came to.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) case: &'static str,
    /// What the machine could do.
    pub(crate) limit: Limit,
    /// Acknowledged.
    pub(crate) events: usize,
    /// Acknowledged a second.
    pub(crate) event_rate: f64,
    /// Arrived a second, from the first post to the last arrival.
    pub(crate) delivery_rate: f64,
    /// From a post to its answer.
    pub(crate) acknowledged: Waits,
    /// From a post to the arrival at a receiver that answers.
    pub(crate) arrived: Waits,
    /// The same, as [`steady_p99`] has it: by this waits are compared.
    pub(crate) steady_p99: u32,
    pub(crate) noise: Option<Noise>,
    /// CPU-ms of 1,000 deliveries.
    pub(crate) host_cpu: f64,
    /// The same; `None`: the database is in the host.
    pub(crate) database_cpu: Option<f64>,
    /// Bytes of the largest host: with nothing to do, and at most.
    pub(crate) idle_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) missing: usize,
    pub(crate) extra: usize,
    /// The disk's own time for one page: half, and 99 of 100.
    pub(crate) fsync: (Duration, Duration),
}

pub(crate) const HEAD: &str = "
                                                       |          |           |  ÷   | answered within, ms | arrived within, ms         | CPU-ms of 1,000  | ÷    |    MiB    |       |
case                                                   | events/s | deliver/s | bare |  p50  p99 p99.9     |  p50  p99 p99.9     steady |  hosts  database | bare | idle peak | lost  | twice
-------------------------------------------------------|----------|-----------|------|---------------------|----------------------------|------------------|------|-----------|-------|------";

impl Figures {
    /// Deliveries a second ÷ what the machine could do.
    pub(crate) fn ratio(&self) -> f64 {
        self.delivery_rate / self.limit.rate
    }

    /// CPU time of the hosts ÷ that of the bare loop.
    pub(crate) fn cpu_ratio(&self) -> f64 {
        self.host_cpu / self.limit.cpu
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "{:54} | {:8.0} | {:9.0} | {:.2} |      {} |      {} {:>6} | {:6.1} {:>9} | {:4.2} | {:4} {:4} | {:5} | {:4}",
            self.case,
            self.event_rate,
            self.delivery_rate,
            self.ratio(),
            self.acknowledged,
            self.arrived,
            ms(self.steady_p99),
            self.host_cpu,
            self.database_cpu.map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.1}")),
            self.cpu_ratio(),
            mib(self.idle_bytes),
            mib(self.peak_bytes),
            self.missing,
            self.extra
        )
    }
}

/// Writes all of it as JSON; gives the file.
pub(crate) fn keep(figures: &[Figures]) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.ancestors().nth(3).expect("target/<profile>/deps/<program>").join("bench");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("host.json");
    let all = json!({"date": printed("date", &["-u", "+%FT%TZ"]), "commit": commit(), "machine": machine(), "cases": figures});
    std::fs::write(&file, serde_json::to_string_pretty(&all).unwrap()).unwrap();
    file
}

/// Which machine this is, in a few words.
pub(crate) fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} × {model}, Linux {}", printed("uname", &["-r"]))
}

/// What was measured.
pub(crate) fn commit() -> String {
    printed("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
}

fn printed(program: impl AsRef<Path>, arguments: &[&str]) -> String {
    let output = Command::new(program.as_ref()).args(arguments).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
