//! Hosts end, with and without warning, while others go on.

use std::time::Duration;

use rand::RngExt;
use revnoxa_tests::Machine;
use tokio::time::sleep;

use crate::{
    AT_ONCE,
    customers::{Cost, Customers, NOTHING},
    database, hasty, host,
    load::{Load, Manner},
    random, rounds,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_hosts_deliveries_are_made_by_the_other() {
    let Some((_server, url)) = database() else { return };
    let machines = [hasty(&url), hasty(&url)];
    let mut processes = [machines[0].serve().await, machines[1].serve().await].map(Some);
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Retry).await;
    let (mut random, rounds) = (random(), rounds(6));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(50..800))).await;
        let one = random.random_range(0..2);
        processes[one].take().expect("it runs").kill9().await;
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        processes[one] = Some(machines[one].serve().await);
        load.recovers(&customers).await;
    }
    let tally = load.stop().await;
    customers.check(&tally, Cost { faults: rounds, stranded: rounds * AT_ONCE }).await;
    assert_eq!(tally.refusals(), 0, "nobody alive refuses");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_killed_all_at_once_take_up_what_they_left() {
    let Some((_server, url)) = database() else { return };
    let machines = [hasty(&url), hasty(&url)];
    let mut processes = [machines[0].serve().await, machines[1].serve().await];
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Once).await;
    let (mut random, rounds) = (random(), rounds(3));
    for _ in 0..rounds {
        sleep(Duration::from_millis(random.random_range(50..800))).await;
        let [one, other] = processes;
        tokio::join!(one.kill9(), other.kill9());
        processes = [machines[0].serve().await, machines[1].serve().await];
        load.recovers(&customers).await;
    }
    let tally = load.stop().await;
    customers.check(&tally, Cost { faults: rounds, stranded: 2 * rounds * AT_ONCE }).await;
    assert_eq!(tally.refusals(), 0, "nobody alive refuses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_goes_unnoticed() {
    let Some((_server, url)) = database() else { return };
    let machines: [Machine; 2] = [host(&url), host(&url)];
    let mut processes = [machines[0].serve().await, machines[1].serve().await];
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Retry).await;
    let (mut random, rounds) = (random(), rounds(3));
    for _ in 0..rounds {
        for (machine, process) in machines.iter().zip(&mut processes) {
            sleep(Duration::from_millis(random.random_range(50..400))).await;
            process.terminate();
            let status = process.exit().await;
            assert!(status.success(), "{status}:\n{}", process.printed());
            *process = machine.serve().await;
            load.recovers(&customers).await;
        }
    }
    let tally = load.stop().await;
    customers.check(&tally, NOTHING).await;
}
