//! What the service costs, end to end: the release binary, a load and a receiver on one machine, beside the limit of what
//! this machine could do at all, which a bare loop of reqwest shows in the same run.
//!
//! ```text
//! cargo bench --workspace --bench host                      all cases, 40 minutes: a table, the goals, JSON in target/bench
//! cargo bench --workspace --bench host -- --short           a tenth of the rows in the large cases, and less time for each
//! cargo bench --workspace --bench host -- sqlite https      the cases whose name has one of these words in it
//! cargo bench --workspace --bench host -- --pages 100000    the settings pages of an endpoint with as many deliveries
//! cargo bench --workspace --bench host -- --plans 5000000   PostgreSQL's plans over as many finished deliveries
//! ```
//!
//! Everything shares the machine, so what counts are the ratios to the limit and the CPU time of each part;
//! `HISTORY.md` keeps those. What neighbours cost is told by the waits beside them ÷ those of the case "all well".
//! SQLite runs as the host sets it up (`synchronous = FULL`), PostgreSQL with its defaults (`fsync` on).

mod beside;
mod case;
mod cases;
mod companion;
mod generator;
mod goals;
mod hostile;
mod limit;
mod pages;
mod process;
mod receiver;
mod report;
mod rows;

use std::time::Duration;

use cases::Scale;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() {
    // Each of a thousand endpoints has its connections.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The other processes of a run are this program again.
        ["receive"] => runtime.block_on(receiver::run()),
        ["be-hostile", receivers] => runtime.block_on(hostile::run(receivers.parse().expect("a number"))),
        ["limit", job] => runtime.block_on(limit::run(job)),
        ["--pages", deliveries] => runtime.block_on(pages::measure(deliveries.parse().expect("a number"))),
        ["--plans", rows] => runtime.block_on(rows::plans(rows.parse().expect("a number"))),
        words => {
            let (options, words): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with("--"));
            let scale = match options[..] {
                [] => Scale { time: Duration::from_secs(10), rows: 5_000_000, backlog: 1_000_000 },
                ["--short"] => Scale { time: Duration::from_secs(5), rows: 500_000, backlog: 100_000 },
                _ => panic!("options are --short, --pages and --plans, not {options:?}"),
            };
            runtime.block_on(cases::measure(scale, &words));
        }
    }
}
