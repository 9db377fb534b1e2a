//! An acknowledged event survives `kill -9`, whenever it comes, and a power cut. `CRASH_ROUNDS=200` kills and cuts so often.

use std::time::Duration;

use rand::RngExt;
use revnoxa_tests::{Disk, Machine, eventually, on_postgres};
use tokio::time::sleep;

use crate::load::{Load, hasty, random, rounds};

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_delivered_after_kill_9_at_random_moments() {
    let machine = hasty(Machine::new());
    let mut host = machine.serve().await;
    let mut load = Load::on(&machine).await;
    let (mut random, crashes) = (random(), rounds(20));
    for _ in 0..crashes {
        load.begin();
        // The moment is the point of this test, not something to wait for.
        sleep(Duration::from_millis(random.random_range(5..250))).await;
        host.kill9().await;
        load.end().await;
        host = machine.serve().await;
    }
    load.check(crashes).await;
}

/// On SQLite its deliveries are made in several transactions.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cut_short_by_kill_9_is_whole_when_it_is_posted_again() {
    let machine = hasty(Machine::new());
    let mut host = machine.serve().await;
    let load = Load::on(&machine).await;
    let (mut random, crashes) = (random(), rounds(6));
    for crash in 0..crashes {
        let (producer, key) = (load.producer(), format!("batch {crash}"));
        let posting = tokio::spawn(async move { Load::batch(producer, &key, 300).await });
        sleep(Duration::from_millis(random.random_range(5..120))).await;
        host.kill9().await;
        posting.await.unwrap();
        host = machine.serve().await;
        let events = Load::batch(load.producer(), &format!("batch {crash}"), 300).await.expect("the host lives");
        let lost = load.lost(&events).await;
        assert!(lost.is_empty(), "{} of {} events are not whole: {lost:?}", lost.len(), events.len());
    }
}

/// What the kernel had and the disk had not is gone, all of it or some.
#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_delivered_after_power_cuts_at_random_moments() {
    if on_postgres() {
        return;
    }
    let (machine, disk) = Disk::under(hasty(Machine::on_a_file()));
    let mut host = machine.serve().await;
    let mut load = Load::on(&machine).await;
    let (mut random, crashes) = (random(), rounds(6));
    for crash in 0..crashes {
        load.begin();
        sleep(Duration::from_millis(random.random_range(5..400))).await;
        host.kill9().await;
        let acknowledged = load.end().await;
        disk.cut_power(|| crash % 2 == 1 && random.random_bool(0.5));
        host = machine.serve().await;
        // At once: what was delivered before the cut is to be remembered, too.
        let lost = load.lost(&acknowledged).await;
        assert!(lost.is_empty(), "{} of {} events are lost: {lost:?}", lost.len(), acknowledged.len());
    }
    load.check(crashes).await;
}

/// The test above can fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_only_says_that_it_synced_loses_events() {
    if on_postgres() {
        return;
    }
    let (machine, disk) = Disk::under(hasty(Machine::on_a_file()));
    let host = machine.serve().await;
    let mut load = Load::on(&machine).await;
    disk.lie();
    load.begin();
    eventually("some events", async || (load.acknowledged() >= 20).then_some(())).await;
    host.kill9().await;
    let acknowledged = load.end().await;
    disk.cut_power(|| false);
    let _host = machine.serve().await;
    assert_eq!(load.lost(&acknowledged).await.len(), acknowledged.len());
}
