//! The dispatch loop under faults: several hosts on one table, every step and every fault at a moment that a seed chose. The same
//! seed makes the same run.
//!
//! Real are what decides and what is written: the lanes by way of [`Handover`](crate::store::Handover), the leases of running attempts,
//! `Delivery::after` with the retry schedule, and the writer's [`Group`](crate::store::group::Group) with all its statements, here on
//! SQLite, by way of its driver or beside it, with its answers, its requests in parts and its undoing. Simulated is what stands around
//! them: clocks, the order in which tasks have their turn, processes that die, stop or stand still, the network to the database, commits
//! that are refused or whose answer is lost, and the receivers. Transactions come one after another, as SQLite has them; what PostgreSQL
//! makes of those that overlap is the matter of the tests of several hosts.
//!
//! After every commit [`ledger`] compares the table with what it knows to have happened.
//!
//! ```text
//! cargo test -p revnoxa-host --lib simulation                                                      the first 200 seeds
//! SIMULATION_SEEDS=10000 cargo test --release -p revnoxa-host --lib simulation -- --nocapture      the long form
//! SIMULATION_SEED=17 cargo test -p revnoxa-host --lib simulation -- --nocapture                    one, step by step
//! ```

mod host;
mod ledger;
mod plan;
mod table;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use crate::store::Leases;
use plan::HOSTS;
use table::Table;
use world::World;

/// How many seeds, unless somebody says.
const SEEDS: u64 = 200;

/// When every run begins, on the one true clock.
const START_MS: i64 = 1_800_000_000_000;
/// How long a host keeps what it claimed. Some attempts take longer.
const LEASE_MS: i64 = 15_000;
/// Between two renewals, as the host has them: a third of it.
const RENEWAL_MS: i64 = LEASE_MS / 3;
const RENEWAL: SignedDuration = SignedDuration::from_millis(RENEWAL_MS);
/// Before the second and later attempts.
const DELAYS_MS: [i64; 3] = [1_000, 5_000, 20_000];

/// What happened how often.
type Tally = BTreeMap<&'static str, u64>;

#[test]
fn nothing_is_lost_forgotten_or_overtaken_whatever_happens_when() {
    let one = number("SIMULATION_SEED");
    let seeds = one.map_or(0..number("SIMULATION_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    let tally = simulate_all(seeds, one.is_some());
    eprintln!("{count} seeds in {:.1?}: {tally:#?}", began.elapsed());
    if count >= SEEDS {
        for expected in EXPECTED {
            assert!(tally.get(expected).is_some_and(|times| *times > 0), "{expected}: never happened");
        }
    }
}

/// What would leave the test without meaning if it never happened.
const EXPECTED: [&str; 17] = [
    "attempts begun",
    "attempts that a plugin stopped",
    "attempts recorded as failed",
    "leases given back",
    "leases renewed",
    "leases that ran out",
    "attempts taken over",
    "commits refused",
    "commits that nobody heard of",
    "commits made again after a conflict",
    "commits out of reach",
    "commits of hosts that write beside the driver",
    "deliveries that a start made",
    "parts of requests",
    "hosts that died",
    "hosts that stopped",
    "hosts that stood still",
];

#[test]
fn the_same_seed_makes_the_same_run() {
    for seed in [3, 1_003] {
        let (first, second) = (story_of(seed), story_of(seed));
        let differs = first.iter().zip(&second).position(|(first, second)| first != second);
        assert_eq!(differs.map(|at| (&first[at], &second[at])), None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

/// The seeds on as many threads as there are processors, each with a database of its own.
fn simulate_all(seeds: Range<u64>, told: bool) -> Tally {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let share = |thread: usize| {
            let seeds = seeds.clone().skip(thread).step_by(threads);
            scope.spawn(move || simulate(seeds, told))
        };
        let running: Vec<_> = (0..threads).map(share).collect();
        let mut all = Tally::new();
        for thread in running {
            // A failed seed has said so itself.
            for (what, times) in thread.join().unwrap().1 {
                *all.entry(what).or_default() += times;
            }
        }
        all
    })
}

fn story_of(seed: u64) -> Vec<String> {
    simulate(std::iter::once(seed), false).0
}

/// Gives the story of the last seed, and what happened in all.
fn simulate(seeds: impl Iterator<Item = u64>, told: bool) -> (Vec<String>, Tally) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let table = Table::new().await;
        let (mut story, mut tally) = (Vec::new(), Tally::new());
        for seed in seeds {
            table.clear().await;
            // Outlive the hosts, whose attempts hold them.
            let leases: [Leases; HOSTS] = Default::default();
            let mut world = World::new(&table, &leases, seed, told);
            world.run().await;
            for (what, times) in world.tally() {
                *tally.entry(what).or_default() += times;
            }
            story = world.story();
        }
        (story, tally)
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// A moment so long after the start.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(START_MS + ms).unwrap()
}

/// How long after the start.
fn since_start_ms(at: Timestamp) -> i64 {
    at.as_millisecond() - START_MS
}
