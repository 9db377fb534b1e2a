//! The cases, and what is printed of them.

use std::time::Duration;

use revnoxa_tests::{HOW_TO_INSTALL, Postgres};

use crate::{
    beside::Beside,
    case::{Case, Database, Kind},
    goals,
    receiver::Receiver,
    report,
};

/// How large a run is.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Of each load.
    pub(crate) time: Duration,
    /// Finished deliveries in a full table.
    pub(crate) rows: usize,
    /// Deliveries in a backlog.
    pub(crate) backlog: usize,
}

const MANY: Kind = Kind::Saturated { batch: 100 };

/// Waits of a hundred tenants, well below what the machine can do, to be compared with those beside nothing.
fn waits(beside: Beside, case: Case) -> Case {
    Case { tenants: 100, kind: Kind::Paced(500), beside, ..case }
}

fn all(scale: Scale) -> Vec<Case> {
    let (sqlite, postgres) = (Case::sqlite, Case::postgres);
    vec![
        sqlite("SQLite"),
        Case { kind: MANY, ..sqlite("SQLite, batches of 100") },
        Case { endpoints: 5, ..sqlite("SQLite, 5 endpoints") },
        Case { tenants: 100, endpoints: 10, addresses: true, ..sqlite("SQLite, 1,000 endpoints of 100 tenants") },
        Case { https: true, ..sqlite("SQLite, HTTPS") },
        Case { plugin: true, ..sqlite("SQLite, redact-fields") },
        Case { kind: Kind::Drain(scale.backlog), ..sqlite("SQLite, a backlog drained") },
        Case { rows: scale.rows, ..sqlite("SQLite, a full table") },
        Case { kind: Kind::Paced(100), ..sqlite("SQLite, 100 events/s") },
        waits(Beside::Nothing, sqlite("SQLite, 500/s, all well")),
        waits(Beside::DeadTenants(1), sqlite("SQLite, 500/s, 1 % dead")),
        waits(Beside::Backlog(scale.backlog), sqlite("SQLite, 500/s, backlog of a dead one")),
        waits(Beside::OverQuota, sqlite("SQLite, 500/s, one tenant at 10 × its quota")),
        waits(Beside::DeadEndpoints(10_000), sqlite("SQLite, 500/s, 10,000 dead endpoints of one tenant")),
        waits(Beside::Hostile(1_000), sqlite("SQLite, 500/s, 1,000 hostile receivers")),
        postgres("PostgreSQL"),
        Case { kind: MANY, ..postgres("PostgreSQL, batches of 100") },
        Case { endpoints: 5, ..postgres("PostgreSQL, 5 endpoints") },
        Case { tenants: 100, endpoints: 10, addresses: true, ..postgres("PostgreSQL, 1,000 endpoints of 100 t.") },
        Case { https: true, ..postgres("PostgreSQL, HTTPS") },
        Case { plugin: true, ..postgres("PostgreSQL, redact-fields") },
        Case { kind: Kind::Drain(scale.backlog), ..postgres("PostgreSQL, a backlog drained") },
        Case { rows: scale.rows, ..postgres("PostgreSQL, a full table") },
        Case { kind: Kind::Paced(100), ..postgres("PostgreSQL, 100 events/s") },
        waits(Beside::Nothing, postgres("PostgreSQL, 500/s, all well")),
        waits(Beside::DeadTenants(1), postgres("PostgreSQL, 500/s, 1 % dead")),
        waits(Beside::Backlog(scale.backlog), postgres("PostgreSQL, 500/s, backlog of a dead one")),
        waits(Beside::OverQuota, postgres("PostgreSQL, 500/s, one tenant at 10 × its quota")),
        waits(Beside::DeadEndpoints(10_000), postgres("PostgreSQL, 500/s, 10,000 dead endpoints of one tenant")),
        waits(Beside::Hostile(1_000), postgres("PostgreSQL, 500/s, 1,000 hostile receivers")),
        Case { tenants: 10, ..postgres("PostgreSQL, 10 tenants") },
        Case { tenants: 10, hosts: 2, ..postgres("PostgreSQL, 10 tenants, 2 hosts") },
    ]
}

/// Runs the cases with one of these names, and those that have one of these words in their name; or all.
pub(crate) async fn measure(scale: Scale, words: &[&str]) {
    let all = all(scale);
    let is_name = |word: &str| all.iter().any(|case| case.name == word);
    let chosen = |case: &&Case| {
        let chooses = |word: &&str| if is_name(word) { case.name == *word } else { case.name.contains(word) };
        words.is_empty() || words.iter().any(chooses)
    };
    let cases: Vec<&Case> = all.iter().filter(chosen).collect();
    let needs_server = cases.iter().any(|case| case.database == Database::Postgres);
    let server = needs_server.then(|| Postgres::start_with(&[])).flatten();
    if needs_server && server.is_none() {
        eprintln!("SKIPPED, those on PostgreSQL: {HOW_TO_INSTALL}");
    }
    let mut receiver = Receiver::start().await;
    println!("{}, {}\n{}", report::machine(), report::commit(), report::HEAD);
    let mut figures = Vec::new();
    for case in cases.iter().filter(|case| server.is_some() || case.database == Database::Sqlite) {
        let of_case = case.run(scale, &mut receiver, server.as_ref()).await;
        println!("{of_case}");
        if let Some(noise) = &of_case.noise {
            println!("   ({noise})");
        }
        figures.push(of_case);
    }
    goals::print(&figures);
    println!("\nall of it: {}", report::keep(&figures).display());
}
