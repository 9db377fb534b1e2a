//! Stopping the real binary.

use std::time::{Duration, Instant};

use revnoxa_tests::{Answer, Gate, HostProcess, Machine, Receiver, eventually};
use serde_json::json;

/// Its attempts would outlast a prompt stop; the leases end in time for the next process all the same.
fn slow_machine() -> Machine {
    Machine::new().set("REVNOXA_ATTEMPT_TIMEOUT", "15s").set("REVNOXA_LEASE", "16s")
}

/// Stops within well under the 15 s that an attempt may take.
async fn exits_promptly(host: &mut HostProcess) {
    let asked = Instant::now();
    host.exit().await;
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}:\n{}", asked.elapsed(), host.printed());
}

/// Returns when the stopping host takes no new requests.
async fn takes_nothing_new(machine: &Machine) {
    eventually("the host to take nothing new", async || {
        let event = json!({"tenant": "acme", "type": "incident.created", "data": "too late"});
        let answer = machine.operator().request("POST", "/v1/events").json(&event).try_send().await;
        answer.map_or(true, |reply| reply.status != 202).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_attempt_under_way_and_exits_0() {
    let machine = Machine::new();
    let mut host = machine.serve().await;
    let gate = Gate::closed();
    let receiver = Receiver::answering([Answer::status(200).behind(&gate)]).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    receiver.wait_for(1).await;

    host.terminate();
    takes_nothing_new(&machine).await;
    assert!(host.is_running(), "it waits for the attempt:\n{}", host.printed());
    gate.open();
    let status = host.exit().await;
    assert!(status.success(), "{status}:\n{}", host.printed());

    let _host = machine.serve().await;
    let delivery = endpoint.delivery(&event).await;
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("succeeded"), &json!(1)));
    let sent = receiver.received();
    assert_eq!(sent.iter().filter(|request| request.event_id() == event.id).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_host_stops_at_once() {
    let machine = Machine::new();
    let mut host = machine.serve().await;
    host.terminate();
    let status = host.exit().await;
    assert!(status.success(), "{status}:\n{}", host.printed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_drops_at_once_and_nothing_is_lost() {
    let machine = slow_machine().set("REVNOXA_SHUTDOWN_GRACE", "60s");
    let mut host = machine.serve().await;
    let receiver = Receiver::answering([Answer::hang(), 200.into()]).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    receiver.wait_for(1).await;
    host.terminate();
    takes_nothing_new(&machine).await;
    assert!(host.is_running());
    host.terminate();
    exits_promptly(&mut host).await;

    let _host = machine.serve().await;
    endpoint.delivery_in("succeeded", &event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_no_longer_than_its_grace() {
    let machine = slow_machine().set("REVNOXA_SHUTDOWN_GRACE", "1s");
    let mut host = machine.serve().await;
    let receiver = Receiver::answering([Answer::hang(), 200.into()]).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    receiver.wait_for(1).await;
    host.terminate();
    exits_promptly(&mut host).await;
    let _host = machine.serve().await;
    endpoint.delivery_in("succeeded", &event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_nothing() {
    let machine = Machine::new().set("REVNOXA_LEASE", "2s").set("REVNOXA_ATTEMPT_TIMEOUT", "1s");
    let mut host = machine.serve().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let mut events = Vec::new();
    for n in 0..200 {
        events.push(endpoint.tenant.event("incident.created", json!({"n": n})).await);
    }
    host.terminate();
    let status = host.exit().await;
    assert!(status.success(), "{status}:\n{}", host.printed());
    let _host = machine.serve().await;
    for event in &events {
        endpoint.delivery_in("succeeded", event).await;
    }
}
