//! How the service scales: one host on SQLite, then one, two and four on one PostgreSQL, each under the same load.
//!
//! ```text
//! cargo bench -p revnoxa-tests --bench scale                    all four, with an empty database
//! cargo bench -p revnoxa-tests --bench scale -- --rows 5000000  PostgreSQL with as many finished deliveries, and plans
//! cargo bench -p revnoxa-tests --bench scale -- --pages 100000  the settings pages of an endpoint with as many deliveries
//! ```
//!
//! Host processes are the release binary; the database, the load and the receiver run on the same machine, so what counts
//! are the ratios between the lines and the CPU time of each part, not the rates. PostgreSQL has its defaults, fsync on.

mod cpu;
mod load;
mod pages;
mod receiver;
mod rows;

use std::time::Duration;

use revnoxa_tests::{HOW_TO_INSTALL, HostProcess, Machine, Postgres};

use load::Run;
use receiver::Counter;

const TENANTS: usize = 10;
const PRODUCERS: usize = 64;
const TIME: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        arguments.iter().position(|argument| argument == name).map(|at| arguments[at + 1].parse::<usize>().unwrap())
    };
    if let Some(deliveries) = number("--pages") {
        return measure_pages(deliveries).await;
    }
    let rows = number("--rows");
    println!("{}", Run::HEAD);
    match rows {
        None => {
            let machine = Machine::on_a_file();
            let host = machine.serve().await;
            println!("{}", run("SQLite, 1 host", &[machine], &[host], None).await);
            for hosts in [1, 2, 4] {
                let Some(server) = Postgres::start_with(&[]) else { return eprintln!("SKIPPED: {HOW_TO_INSTALL}") };
                println!("{}", on_postgres(&server, hosts, &server.database()).await);
            }
        }
        Some(rows) => {
            let plans = ["shared_preload_libraries=auto_explain", "auto_explain.log_analyze=on", "max_wal_size=8GB"];
            let Some(server) = Postgres::start_with(&plans) else { return eprintln!("SKIPPED: {HOW_TO_INSTALL}") };
            let database = server.database();
            println!("{}", on_postgres(&server, 1, &database).await);
            rows::fill(&database, rows);
            println!("{}", on_postgres(&server, 1, &database).await);
            rows::explain(&server, &database).await;
        }
    }
}

async fn measure_pages(deliveries: usize) {
    let machine = Machine::on_a_file();
    let host = machine.serve().await;
    pages::measure("SQLite", &machine, deliveries).await;
    drop(host);
    let Some(server) = Postgres::start_with(&[]) else { return eprintln!("SKIPPED: {HOW_TO_INSTALL}") };
    let machine = Machine::on(&server.database());
    let _host = machine.serve().await;
    pages::measure("PostgreSQL", &machine, deliveries).await;
}

async fn on_postgres(server: &Postgres, hosts: usize, database: &str) -> Run {
    let machines: Vec<Machine> = (0..hosts).map(|_| Machine::on(database)).collect();
    let mut processes = Vec::new();
    for machine in &machines {
        processes.push(machine.serve().await);
    }
    run(&format!("PostgreSQL, {hosts} host{}", if hosts == 1 { "" } else { "s" }), &machines, &processes, Some(server))
        .await
}

async fn run(what: &str, machines: &[Machine], hosts: &[HostProcess], server: Option<&Postgres>) -> Run {
    let receiver = Counter::start().await;
    let targets = load::prepare(machines, &receiver).await;
    let pids: Vec<u32> = hosts.iter().map(HostProcess::pid).collect();
    let before = (cpu::of(&pids), server.map(|server| cpu::of_family(server.pid())));
    let mut run = load::run(what, &targets, &receiver).await;
    run.host_cpu = cpu::of(&pids) - before.0;
    run.database_cpu = server.map(|server| cpu::of_family(server.pid()) - before.1.expect("there is a server"));
    run
}
