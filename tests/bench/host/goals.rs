//! What the project wants to reach on two cores, and whether this run did.

use crate::report::{Figures, Waits};

/// Prints each goal whose cases were run.
pub(crate) fn print(figures: &[Figures]) {
    let case = |name: &str| figures.iter().find(|figures| figures.case == name);
    let at_least =
        |what: &str, reached: Option<f64>, goal: f64| line(what, reached, "≥", goal, |reached| reached >= goal);
    let at_most =
        |what: &str, reached: Option<f64>, goal: f64| line(what, reached, "≤", goal, |reached| reached <= goal);
    let ratio = |name: &str| case(name).map(Figures::ratio);
    println!("\ngoal                                                        | reached |   goal |");
    at_least("SQLite, one by one ÷ bare", ratio("SQLite"), 0.42);
    at_least("SQLite, batches of 100 ÷ bare", ratio("SQLite, batches of 100"), 0.60);
    at_least("PostgreSQL, one by one ÷ bare", ratio("PostgreSQL"), 0.36);
    at_least("SQLite, 5 endpoints ÷ bare", ratio("SQLite, 5 endpoints"), 0.65);
    at_least("PostgreSQL, 5 endpoints ÷ bare", ratio("PostgreSQL, 5 endpoints"), 0.50);
    at_least("SQLite, a backlog drained ÷ bare", ratio("SQLite, a backlog drained"), 0.70);
    at_most("SQLite, CPU of the host ÷ bare", case("SQLite").map(Figures::cpu_ratio), 2.5);
    let of = |name: &str, other: &str| Some(ratio(name)? / ratio(other)?);
    at_least("SQLite, redact-fields ÷ without", of("SQLite, redact-fields", "SQLite"), 0.60);
    at_least("SQLite, a full table ÷ an empty one", of("SQLite, a full table", "SQLite"), 0.95);
    at_least("PostgreSQL, a full table ÷ an empty one", of("PostgreSQL, a full table", "PostgreSQL"), 0.95);
    for name in ["SQLite, 100 events/s", "PostgreSQL, 100 events/s"] {
        let ms = |waits: fn(&Waits) -> u32| case(name).map(|case| f64::from(waits(&case.arrived)) / 1e3);
        at_most(&format!("{name}: ms to arrival, p50"), ms(|waits| waits.p50), 1.5);
        at_most(&format!("{name}: ms to arrival, p99"), ms(|waits| waits.p99), 8.0);
        if let Some((p50, p99)) = case(name).map(|case| case.fsync) {
            println!(
                "   (fsync of the disk: p50 {:.1} ms, p99 {:.1} ms)",
                p50.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3
            );
        }
    }
    for database in ["SQLite", "PostgreSQL"] {
        let p99 =
            |what: &str| case(&format!("{database}, 500/s, {what}")).map(|case| f64::from(case.arrived.p99) / 1e3);
        for other in ["1 % dead", "backlog of a dead one"] {
            if let Some(well) = p99("all well") {
                at_most(&format!("{database}: ms to arrival, p99, {other}"), p99(other), well * 1.25 + 5.0);
            }
        }
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let most = |chosen: &dyn Fn(&Figures) -> Option<u64>| figures.iter().filter_map(chosen).max().map(mib);
    at_most("MiB with nothing to do", most(&|figures| Some(figures.idle_bytes)), 30.0);
    let backlog = |figures: &Figures| figures.case.contains("backlog");
    at_most("MiB at full load", most(&|figures| (!backlog(figures)).then_some(figures.peak_bytes)), 150.0);
    at_most("MiB with a backlog", most(&|figures| backlog(figures).then_some(figures.peak_bytes)), 200.0);
    if let Some(ratio) = of("PostgreSQL, 10 tenants, 2 hosts", "PostgreSQL, 10 tenants") {
        println!("{:59} | {ratio:7.2} |        |", "PostgreSQL, 2 hosts ÷ 1 host");
    }
}

fn line(what: &str, reached: Option<f64>, sign: &str, goal: f64, is_reached: impl Fn(f64) -> bool) {
    if let Some(reached) = reached {
        let verdict = if is_reached(reached) { "" } else { "not reached" };
        println!("{what:59} | {reached:7.2} | {sign} {goal:4.2} | {verdict}");
    }
}
