//! The network between hosts and their database: cut, stuck, black holes, and answers to commits that get lost.

use std::time::Duration;

use rand::RngExt;
use revnoxa_tests::{HostProcess, Machine, Postgres, Proxy};
use tokio::time::sleep;

use crate::{
    AT_ONCE,
    customers::{Cost, Customers},
    database, hasty, host,
    load::{Load, Manner, Tally},
    random, rounds,
};

/// Two hosts, each with a network of its own.
struct Cluster {
    customers: Customers,
    hosts: [(Machine, HostProcess, Proxy); 2],
    _server: Postgres,
}

impl Cluster {
    async fn of(host: fn(&str) -> Machine) -> Option<Self> {
        let (server, url) = database()?;
        let hosts = [Self::host(host, &server, &url).await, Self::host(host, &server, &url).await];
        Some(Self { customers: Customers::moody(&hosts[0].0, &url).await, hosts, _server: server })
    }

    async fn host(host: fn(&str) -> Machine, server: &Postgres, url: &str) -> (Machine, HostProcess, Proxy) {
        let proxy = Proxy::to(server.port()).await;
        let machine = host(&server.through(url, proxy.port()));
        let process = machine.serve().await;
        (machine, process, proxy)
    }

    async fn load(&self, manner: Manner) -> Load {
        Load::on(&self.hosts.each_ref().map(|(machine, ..)| machine), manner).await
    }

    /// Both networks, or one of them by chance.
    fn some(&self, random: &mut impl RngExt) -> &[(Machine, HostProcess, Proxy)] {
        match random.random_range(0..3) {
            2 => &self.hosts,
            one => &self.hosts[one..=one],
        }
    }

    /// Stops the load and looks what became of it.
    async fn end(&self, load: Load, cost: Cost) -> Tally {
        let tally = load.stop().await;
        self.customers.check(&tally, cost).await;
        tally
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_costs_nothing_but_time() {
    let Some(cluster) = Cluster::of(host).await else { return };
    let load = cluster.load(Manner::Once).await;
    let (mut random, rounds) = (random(), rounds(5));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(100..500))).await;
        let cut = cluster.some(&mut random);
        cut.iter().for_each(|(.., proxy)| proxy.refuse());
        sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        cut.iter().for_each(|(.., proxy)| proxy.let_through());
        load.recovers(&cluster.customers).await;
    }
    let tally = cluster.end(load, Cost { faults: rounds, stranded: 0 }).await;
    assert!(tally.refusals() > 0, "nobody noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_stuck_costs_nothing_but_time() {
    let Some(cluster) = Cluster::of(host).await else { return };
    let load = cluster.load(Manner::Retry).await;
    let (mut random, rounds) = (random(), rounds(2));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(100..500))).await;
        let stuck = cluster.some(&mut random);
        stuck.iter().for_each(|(.., proxy)| proxy.hold());
        sleep(Duration::from_millis(random.random_range(3_000..6_000))).await;
        stuck.iter().for_each(|(.., proxy)| proxy.let_through());
        load.recovers(&cluster.customers).await;
    }
    let tally = cluster.end(load, Cost { faults: rounds, stranded: 0 }).await;
    assert!(tally.refusals() > 0, "nobody noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_turn_into_black_holes_cost_nothing_but_time() {
    let Some(cluster) = Cluster::of(host).await else { return };
    let load = cluster.load(Manner::Once).await;
    let (mut random, rounds) = (random(), rounds(3));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(100..500))).await;
        cluster.some(&mut random).iter().for_each(|(.., proxy)| proxy.swallow_open_connections());
        load.recovers(&cluster.customers).await;
    }
    let tally = cluster.end(load, Cost { faults: rounds, stranded: 0 }).await;
    assert!(tally.refusals() > 0, "nobody noticed");
}

/// A host that is cut off longer than its leases run: the other makes its attempts, and it finds out when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_cut_off_beyond_its_leases_repeats_only_what_it_could_not_record() {
    let Some(cluster) = Cluster::of(hasty).await else { return };
    let load = cluster.load(Manner::Retry).await;
    let (mut random, rounds) = (random(), rounds(2));
    for round in 0..rounds {
        sleep(Duration::from_millis(random.random_range(300..800))).await;
        let (.., proxy) = &cluster.hosts[round % 2];
        proxy.hold();
        sleep(Duration::from_millis(random.random_range(3_000..5_000))).await;
        proxy.let_through();
        load.recovers(&cluster.customers).await;
    }
    let tally = cluster.end(load, Cost { faults: rounds, stranded: rounds * AT_ONCE }).await;
    assert!(tally.refusals() > 0, "nobody noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_whose_answers_get_lost_are_neither_lost_nor_repeated() {
    let Some(cluster) = Cluster::of(host).await else { return };
    let load = cluster.load(Manner::Retry).await;
    for every in [40, 11, 5].repeat(rounds(1)) {
        cluster.hosts.iter().for_each(|(.., proxy)| proxy.lose_answers_to_commits(every));
        sleep(Duration::from_millis(1_500)).await;
        cluster.hosts.iter().for_each(|(.., proxy)| proxy.lose_answers_to_commits(0));
        load.recovers(&cluster.customers).await;
    }
    let lost = cluster.hosts.iter().map(|(.., proxy)| proxy.failed_commits()).sum::<usize>();
    assert!(lost > 10, "{lost} answers were lost");
    eprintln!("{lost} answers to commits were lost");
    cluster.end(load, Cost { faults: lost, stranded: 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_a_lost_network_leaves_open_hold_nobody_up_for_long() {
    let Some(cluster) = Cluster::of(host).await else { return };
    let load = cluster.load(Manner::Retry).await;
    let (mut random, rounds) = (random(), rounds(2));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(100..500))).await;
        let (.., proxy) = &cluster.hosts[random.random_range(0..2)];
        proxy.strand_commits(3);
        sleep(Duration::from_millis(random.random_range(50..300))).await;
        proxy.strand_commits(0);
        load.recovers(&cluster.customers).await;
    }
    let stranded = cluster.hosts.iter().map(|(.., proxy)| proxy.failed_commits()).sum::<usize>();
    assert!(stranded >= rounds, "{stranded} transactions were left open");
    cluster.end(load, Cost { faults: rounds, stranded: 0 }).await;
}
