//! Several hosts on one PostgreSQL, and what goes wrong between them: processes, the database, the network, the clock. Each test
//! has a server of its own. `CLUSTER_ROUNDS=50` makes each fault happen so often.

mod backup;
mod changes;
mod clock;
mod customers;
mod database;
mod healthy;
mod load;
mod master_key;
mod migrations;
mod moving;
mod network;
mod plans;
mod processes;
mod twins;

use std::io::Write;

use rand::{SeedableRng, rngs::StdRng};
use revnoxa_tests::{HOW_TO_INSTALL, Machine, Postgres};

/// A new, empty database and the server it is on. `None`: there is no PostgreSQL here, and the test says so.
fn database() -> Option<(Postgres, String)> {
    let Some(server) = Postgres::start() else {
        skipped();
        return None;
    };
    let url = server.database();
    Some((server, url))
}

/// Not with `eprintln!`, which is not shown of a test that passes.
fn skipped() {
    let _ = writeln!(std::io::stderr(), "\n  SKIPPED: a test of several hosts. {HOW_TO_INSTALL}.\n");
}

/// A host on this database whose leases outlast the faults.
fn host(url: &str) -> Machine {
    Machine::on(url)
        .set("REVNOXA_LEASE", "12s")
        .set("REVNOXA_ATTEMPT_TIMEOUT", "1s")
        .set("REVNOXA_RETRY_DELAYS", "500ms,500ms,500ms,500ms,500ms,500ms")
}

/// Attempts under way at once on a hasty host.
const AT_ONCE: usize = 32;

/// A host on this database whose leases run out soon, so that another takes over.
fn hasty(url: &str) -> Machine {
    host(url)
        .set("REVNOXA_LEASE", "2s")
        .set("REVNOXA_MAX_IN_FLIGHT", &AT_ONCE.to_string())
        .set("REVNOXA_MAX_IN_FLIGHT_PER_ENDPOINT", &AT_ONCE.to_string())
}

/// How often a fault happens.
fn rounds(usually: usize) -> usize {
    std::env::var("CLUSTER_ROUNDS").map_or(usually, |rounds| rounds.parse().expect("CLUSTER_ROUNDS is a number"))
}

/// The moments of faults, the same in every run.
fn random() -> StdRng {
    StdRng::seed_from_u64(0x5eed)
}
