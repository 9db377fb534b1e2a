//! A host under a steady load for long: does anything grow, slow down or get lost?
//!
//! ```text
//! cargo bench --workspace --bench soak                               5 minutes on SQLite
//! cargo bench --workspace --bench soak -- --minutes 120              before a release
//! cargo bench --workspace --bench soak -- --rate 200 --postgres      200 events a second, on a throw-away server
//! cargo bench --workspace --bench soak -- --shared                   where other things run, too: less strict, latency not judged
//! ```
//!
//! Prints a line a minute and a verdict, and exits with 1 when that is bad. Of the tenants most answer at once, one has a plugin, one is
//! moody, one slow, and one's receiver is gone. Load and receivers run on the same machine: without `--shared`, let nothing else run on it.

mod load;
mod process;
mod receiver;
mod verdict;

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use revnoxa_tests::{HOW_TO_INSTALL, Machine, Postgres};

use load::Load;
use verdict::{Sample, Tolerance};

const MINUTE: Duration = Duration::from_secs(60);
/// After the last post: retries included, all that was acknowledged has arrived by then.
const REST: Duration = Duration::from_secs(30);

struct Options {
    minutes: u32,
    rate: u32,
    postgres: bool,
    shared: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let server = if options.postgres { Postgres::start_with(&[]) } else { None };
    let database = server.as_ref().map(Postgres::database);
    let machine = match &database {
        Some(url) => Machine::on(url),
        None if options.postgres => {
            eprintln!("{HOW_TO_INSTALL}");
            return ExitCode::from(2);
        }
        None => Machine::on_a_file(),
    };
    let machine = machine.set("REVNOXA_RETRY_DELAYS", "1s,2s,4s");
    let mut host = machine.serve().await;
    let load = Load::start(&machine, options.rate).await;
    let mut samples: Vec<Sample> = Vec::new();
    println!("{}", Sample::HEAD);
    let mut cpu = process::of(host.pid()).cpu;
    let began = Instant::now();
    for minute in 1..=options.minutes {
        tokio::time::sleep((MINUTE * minute).saturating_sub(began.elapsed())).await;
        if !host.is_running() {
            println!("the host has ended:\n{}", host.printed());
            return ExitCode::FAILURE;
        }
        let used = process::of(host.pid());
        let (database_bytes, log_bytes) = size_bytes(&machine, database.as_deref());
        let took = used.cpu.saturating_sub(std::mem::replace(&mut cpu, used.cpu));
        samples.push(Sample { minute, traffic: load.last_minute(), used, took, database_bytes, log_bytes });
        println!("{}", samples[samples.len() - 1]);
    }
    let came_to = load.stop(REST).await;
    host.terminate();
    let stopped = host.exit().await.success();
    let tolerance = if options.shared { Tolerance::SHARED } else { Tolerance::ALONE };
    let verdict = verdict::of(&samples, &came_to, stopped, &tolerance);
    println!("{verdict}");
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { minutes: 5, rate: 50, postgres: false, shared: false };
    while let Some(argument) = arguments.next() {
        let mut number = |least: u32, most: u32| {
            let given = arguments.next().and_then(|value| value.parse().ok());
            let number = given.filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("`{argument}` wants a number from {least} to {most}"))
        };
        match argument.as_str() {
            "--minutes" => options.minutes = number(4, 24 * 60)?,
            "--rate" => options.rate = number(1, 2_000)?,
            "--postgres" => options.postgres = true,
            "--shared" => options.shared = true,
            // Cargo's own.
            "--bench" => {}
            _ => return Err(format!("`{argument}` is none of --minutes, --rate, --postgres and --shared")),
        }
    }
    Ok(options)
}

/// Of the database, and of the log that goes with a SQLite file.
fn size_bytes(machine: &Machine, database: Option<&str>) -> (u64, u64) {
    match database {
        Some(url) => {
            let size = Postgres::sql(url, "SELECT pg_database_size(current_database())");
            (size.parse().expect("a number"), 0)
        }
        None => {
            let of = |name: &str| fs::metadata(machine.dir().join("data").join(name)).map_or(0, |file| file.len());
            (of("revnoxa.db"), of("revnoxa.db-wal"))
        }
    }
}
