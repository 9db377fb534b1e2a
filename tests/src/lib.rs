//! The harness of the end-to-end tests: a real host, real receivers with scripted answers, a clock moved by hand.
//!
//! ```text
//! Host      the host in this process: own directory and database, port 0, manual clock; fails the test on a dead task
//! Machine   where the real binary runs: directory and settings that outlive a killed process
//! Api       what both offer: operator and producer clients, tenants, endpoints, deliveries
//! Receiver  a customer's server: answers as told, keeps every request as it came in
//! verify    signature checks that share no code with the host
//! ```
//!
//! Only the outside is faked. A test moves time with [`Host::advance`] and waits with [`eventually`] or
//! [`Receiver::wait_for`]; nothing sleeps for a fixed time.

mod answer;
mod api;
mod authority;
mod client;
mod dns;
mod host;
mod machine;
mod npm;
mod receiver;
pub mod verify;
mod wait;

pub use answer::{Answer, Gate};
pub use api::{Api, Endpoint, Event, Tenant};
pub use authority::Authority;
pub use client::{Client, Reply, Request};
pub use dns::StubDns;
pub use host::{Host, HostBuilder, START};
pub use machine::{HostProcess, Machine, binary};
pub use receiver::{Received, Receiver};
pub use wait::{WAIT, eventually};
