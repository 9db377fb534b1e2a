//! Making the schema, and bringing it up to date: killed at any moment, and several commands at once.

use std::os::unix::process::ExitStatusExt;

use rand::RngExt;
use revnoxa_tests::{Disk, Machine, Receiver, on_postgres};
use serde_json::json;

use crate::load::random;

/// So many of the first writes and syncs from one kill to the next; a schema takes hundreds.
const STEP: usize = 17;

#[tokio::test(flavor = "multi_thread")]
async fn migrations_killed_at_any_write_are_finished_by_the_next_start() {
    if on_postgres() {
        return;
    }
    let (mut random, mut kills) = (random(), 0);
    for writes in (0_usize..).step_by(STEP) {
        let (machine, disk) = Disk::under(Machine::on_a_file());
        let machine = machine.set(Disk::DIES_AFTER, &writes.to_string());
        let cut_short = machine.run(&["migrate"]).await;
        if cut_short.status.success() {
            break;
        }
        assert_eq!(cut_short.status.signal(), Some(9), "{cut_short:?}");
        kills += 1;
        // Every other time the power goes as well, and a part of what was not synced.
        if kills % 2 == 0 {
            disk.cut_power(|| random.random_bool(0.5));
        }
        let machine = machine.unset(Disk::DIES_AFTER);
        let finished = machine.run(&["migrate"]).await;
        let printed = String::from_utf8_lossy(&finished.stderr);
        assert!(finished.status.success(), "after {writes} writes: {printed}");
        // A start takes long; the moments in between are as good.
        if kills % 4 == 0 {
            delivers(&machine).await;
        }
    }
    assert!(kills > 5, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_make_the_file_at_the_same_time_wait_for_each_other() {
    if on_postgres() {
        return;
    }
    let machine = Machine::on_a_file();
    let migrate = || machine.run(&["migrate"]);
    let (one, other, third) = tokio::join!(migrate(), migrate(), migrate());
    for migrated in [one, other, third] {
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    }
    delivers(&machine).await;
}

async fn delivers(machine: &Machine) {
    let _host = machine.serve().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &event).await;
}
