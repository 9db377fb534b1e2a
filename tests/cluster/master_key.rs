//! The master key of several hosts is replaced, one host after the other, and of a database that moves.

use base64::{Engine, prelude::BASE64_STANDARD};
use revnoxa_tests::{HostProcess, Machine, Receiver, eventually};
use serde_json::json;

use crate::{
    customers::{Customers, NOTHING},
    database, host,
    load::{Load, Manner},
};

/// For the processes to come a new key, and the one that every [`Machine`] has before it.
fn with_both(machine: Machine) -> Machine {
    let old = machine.setting("REVNOXA_MASTER_KEY");
    machine.set("REVNOXA_MASTER_KEY", &BASE64_STANDARD.encode([1; 32])).set("REVNOXA_PREVIOUS_MASTER_KEYS", &old)
}

fn with_the_new(machine: Machine) -> Machine {
    machine.unset("REVNOXA_PREVIOUS_MASTER_KEYS")
}

async fn restart(machine: &Machine, process: &mut HostProcess) {
    process.terminate();
    let status = process.exit().await;
    assert!(status.success(), "{status}:\n{}", process.printed());
    *process = machine.serve().await;
}

/// What `command` says, which must not succeed.
async fn refused(machine: &Machine, command: &str) -> String {
    let output = machine.run(&[command]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command}: {said}");
    said
}

/// Connections of a host that has just ended may still be there for a moment.
async fn rekey(machine: &Machine) {
    eventually("the rekey to be through", async || machine.run(&["rekey"]).await.status.success().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_key_is_rolled_out_unnoticed() {
    let Some((_server, url)) = database() else { return };
    let machines = [host(&url), host(&url)];
    let mut processes = [machines[0].serve().await, machines[1].serve().await];
    let customers = Customers::moody(&machines[0], &url).await;
    let load = Load::on(&[&machines[0], &machines[1]], Manner::Retry).await;

    let machines = machines.map(with_both);
    restart(&machines[0], &mut processes[0]).await;
    load.recovers(&customers).await;
    let said = refused(&machines[0], "rekey").await;
    assert!(said.contains("does not know the master key"), "{said}");
    restart(&machines[1], &mut processes[1]).await;
    load.recovers(&customers).await;
    rekey(&machines[0]).await;
    load.recovers(&customers).await;
    let machines = machines.map(with_the_new);
    for (machine, process) in machines.iter().zip(&mut processes) {
        restart(machine, process).await;
        load.recovers(&customers).await;
    }
    let tally = load.stop().await;
    customers.check(&tally, NOTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_takes_the_key_along() {
    let Some((_server, to)) = database() else { return };
    let machine = Machine::on_a_file();
    let from = machine.setting("REVNOXA_DATABASE_URL");
    let receiver = Receiver::answering([200]).await;
    let mut process = machine.serve().await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    process.terminate();
    process.exit().await;

    let machine = with_both(machine.set("REVNOXA_DATABASE_URL", &to));
    let moved = machine.run(&["move", "--from", &from]).await;
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    let old = machine.setting("REVNOXA_PREVIOUS_MASTER_KEYS");
    let machine = with_the_new(machine);
    let said = refused(&machine, "migrate").await;
    assert!(said.contains("`previous_master_keys`"), "what went over is sealed as it was: {said}");

    let machine = machine.set("REVNOXA_PREVIOUS_MASTER_KEYS", &old);
    rekey(&machine).await;
    let machine = with_the_new(machine);
    let _process = machine.serve().await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &event).await;
}
