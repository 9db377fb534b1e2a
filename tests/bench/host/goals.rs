//! What the project wants to reach on two cores, and whether this run did.

use crate::report::Figures;

/// The case whose memory is compared as well.
const HOSTILE: &str = "1,000 hostile receivers";

/// Prints each goal whose cases were run.
pub(crate) fn print(figures: &[Figures]) {
    let case = |name: &str| figures.iter().find(|figures| figures.case == name);
    let at_least =
        |what: &str, reached: Option<f64>, goal: f64| line(what, reached, "≥", goal, |reached| reached >= goal);
    let at_most =
        |what: &str, reached: Option<f64>, goal: f64| line(what, reached, "≤", goal, |reached| reached <= goal);
    let ratio = |name: &str| case(name).map(Figures::ratio);
    println!("\n{:69} | reached |   goal |", "goal");
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
        let ms = |micros: fn(&Figures) -> u32| case(name).map(|case| f64::from(micros(case)) / 1e3);
        at_most(&format!("{name}: ms to arrival, p50"), ms(|case| case.arrived.p50), 1.5);
        at_most(&format!("{name}: ms to arrival, p99"), ms(|case| case.steady_p99), 8.0);
        if let Some((p50, p99)) = case(name).map(|case| case.fsync) {
            println!(
                "   (fsync of the disk: p50 {:.1} ms, p99 {:.1} ms)",
                p50.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3
            );
        }
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for database in ["SQLite", "PostgreSQL"] {
        let case = |what: &str| case(&format!("{database}, 500/s, {what}"));
        let p99 = |case: &Figures| f64::from(case.steady_p99) / 1e3;
        let Some(well) = case("all well") else { continue };
        for (other, more_ms) in [
            ("1 % dead", 5.0),
            ("backlog of a dead one", 5.0),
            ("one tenant at 10 × its quota", 0.0),
            ("10,000 dead endpoints of one tenant", 0.0),
            (HOSTILE, 5.0),
        ] {
            let goal = p99(well) * 1.25 + more_ms;
            at_most(&format!("{database}: ms to arrival, p99, {other}"), case(other).map(p99), goal);
        }
        let more = case(HOSTILE).map(|hostile| mib(hostile.peak_bytes) - mib(well.peak_bytes));
        at_most(&format!("{database}: MiB more than all well, {HOSTILE}"), more, 128.0);
    }
    let most = |chosen: &dyn Fn(&Figures) -> Option<u64>| figures.iter().filter_map(chosen).max().map(mib);
    at_most("MiB with nothing to do", most(&|figures| Some(figures.idle_bytes)), 30.0);
    // What goes to ten thousand endpoints at once waits in the table for the most part.
    let backlog = |figures: &Figures| ["backlog", "dead endpoints"].iter().any(|word| figures.case.contains(word));
    let full_load = |figures: &Figures| !backlog(figures) && !figures.case.contains(HOSTILE);
    at_most("MiB at full load", most(&|figures| full_load(figures).then_some(figures.peak_bytes)), 150.0);
    at_most("MiB with a backlog", most(&|figures| backlog(figures).then_some(figures.peak_bytes)), 200.0);
    if let Some(ratio) = of("PostgreSQL, 10 tenants, 2 hosts", "PostgreSQL, 10 tenants") {
        println!("{:69} | {ratio:7.2} |        |", "PostgreSQL, 2 hosts ÷ 1 host");
    }
}

fn line(what: &str, reached: Option<f64>, sign: &str, goal: f64, is_reached: impl Fn(f64) -> bool) {
    if let Some(reached) = reached {
        let verdict = if is_reached(reached) { "" } else { "not reached" };
        println!("{what:69} | {reached:7.2} | {sign} {goal:4.2} | {verdict}");
    }
}
