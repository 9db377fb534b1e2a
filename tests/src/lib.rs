//! The harness of the end-to-end tests: a real host, real receivers with scripted answers, a clock moved by hand.
//!
//! ```text
//! Host      the host in this process: own directory and database, port 0, manual clock; fails the test on a dead task
//! Machine   where the real binary runs: directory and settings that outlive a killed process
//! Api       what both offer: operator and producer clients, tenants, endpoints, deliveries
//! Receiver  a customer's server: answers as told, keeps every request as it came in
//! HostileReceiver  one that goes by a script of bytes, down to the connection, instead of by HTTP
//! Postgres  a throw-away database server; the end-to-end tests run on SQLite, and once more on one of these
//! Browser   a real Chromium and its user; axe looks for what shuts people out
//! Reader    the user of a browser without script: pages, links and forms over plain HTTP
//! Disk      what is under a SQLite file: full, failing, or without power
//! Proxy     the network between a host and its database: cut, stuck, or losing answers
//! verify    signature checks that share no code with the host
//! ```
//!
//! Only the outside is faked. A test moves time with [`Host::advance`] and waits with [`eventually`] or
//! [`Receiver::wait_for`]; nothing sleeps for a fixed time.

mod answer;
mod api;
mod authority;
mod browser;
mod client;
mod disk;
mod dns;
mod host;
mod hostile;
mod keeper;
mod machine;
mod npm;
mod page;
mod postgres;
mod proxy;
mod receiver;
pub mod verify;
mod wait;

pub use answer::{Answer, Gate};
pub use api::{Api, Endpoint, Event, Tenant};
pub use authority::Authority;
pub use browser::{Browser, BrowserBuilder, Element, Sent, axe};
pub use client::{Client, Reply, Request};
pub use disk::Disk;
pub use dns::StubDns;
pub use host::{Host, HostBuilder, START};
pub use hostile::{HostileReceiver, Script, Step, gzip_bomb, zstd_bomb};
pub use machine::{HostProcess, Machine, binary};
pub use page::{Cookie, Form, Page, Part, Reader};
pub use postgres::{HOW_TO_INSTALL, POSTGRES, Postgres};
pub use proxy::Proxy;
pub use receiver::{Received, Receiver};
pub use wait::{WAIT, eventually};

/// Whether the tests of this process run on PostgreSQL.
pub fn on_postgres() -> bool {
    std::env::var_os(POSTGRES).is_some()
}

/// Where a host of this test keeps its data: a SQLite file in `folder`, or a database of its own on the server that
/// [`POSTGRES`] names.
fn database_url(folder: &std::path::Path) -> String {
    match std::env::var(POSTGRES) {
        Ok(server) => postgres::new_database(&server),
        Err(_) => sqlite_url(folder),
    }
}

fn sqlite_url(folder: &std::path::Path) -> String {
    format!("sqlite://{}/revnoxa.db", folder.display())
}
