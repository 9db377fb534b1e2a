//! A host that stands still beyond its leases, as a virtual machine does that is moved: another makes its attempts, and what it
//! says when it goes on is too late.

use std::{iter::repeat_n, time::Duration};

use rand::RngExt;
use revnoxa_tests::{Answer, Endpoint, Event, Gate, Machine, Receiver, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    AT_ONCE,
    customers::{Cost, Customers, TENANTS, attempted, event},
    database, hasty,
    load::{Posted, Tally},
    random, rounds,
};

const DELIVERIES: usize = 5;
/// Events at once, more than are attempted at once.
const EVENTS: usize = 80;

#[tokio::test(flavor = "multi_thread")]
async fn a_late_failure_does_not_undo_a_success() {
    the_late_twins_results_are_ignored(500, &[200]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_success_does_not_hide_a_failure() {
    the_late_twins_results_are_ignored(200, &[500, 200]).await;
}

/// One host gets the answer `late`, too late; the other, which took over, gets `others` for each delivery.
async fn the_late_twins_results_are_ignored(late: u16, others: &[u16]) {
    let Some((_server, url)) = database() else { return };
    let (slow, other) = (hasty(&url), hasty(&url));
    let (slow_process, _other_process) = (slow.serve().await, other.serve().await);
    let tenant = slow.tenant("acme").await;
    for round in 0..rounds(2) {
        // Each time a new one: an endpoint that was slow is asked for less at once.
        let receiver = Receiver::answering([200]).await;
        let endpoint = tenant.endpoint(&receiver).await;
        let gate = Gate::closed();
        let first = repeat_n(Answer::status(late).behind(&gate), DELIVERIES);
        let then = others.iter().flat_map(|status| repeat_n(Answer::status(*status), DELIVERIES));
        receiver.answer(first.chain(then).chain([200.into()]));
        let mut events = Vec::new();
        for number in 0..DELIVERIES {
            events.push(tenant.event("incident.created", json!({"number": number})).await);
        }
        receiver.wait_for(DELIVERIES).await;
        let ended = attempted(&slow).await;
        slow_process.freeze();
        let made = DELIVERIES * (1 + others.len());
        receiver.wait_for(made).await;
        for event in &events {
            assert_history(&succeeded(&other, &endpoint, event).await, others);
        }
        gate.open();
        slow_process.thaw();
        eventually("the late attempts to end", async || {
            (attempted(&slow).await >= ended + DELIVERIES as u64).then_some(())
        })
        .await;
        // What it records now is written after what it had to say about those.
        let marker = tenant.event("incident.created", json!("marker")).await;
        succeeded(&slow, &endpoint, &marker).await;
        for event in &events {
            assert_history(&succeeded(&other, &endpoint, event).await, others);
        }
        assert_eq!(receiver.received().len(), made + 1, "round {round}");
        endpoint.delete("").await.expect(204);
    }
}

/// The delivery as `host` tells it, once it has succeeded.
async fn succeeded(host: &Machine, endpoint: &Endpoint, event: &Event) -> Value {
    let tenant = host.operator().below(&format!("/v1/tenants/{}", endpoint.tenant.id));
    eventually("a success", async || {
        let all = tenant.all(&format!("/events/{}/deliveries", event.id)).await;
        let id = all[0]["id"].as_str().unwrap();
        (all[0]["state"] == "succeeded").then_some(tenant.get(&format!("/deliveries/{id}")).await.expect(200).json)
    })
    .await
}

fn assert_history(delivery: &Value, statuses: &[u16]) {
    let history = delivery["history"].as_array().unwrap();
    let answered: Vec<&Value> = history.iter().map(|attempt| &attempt["status_code"]).collect();
    assert_eq!(answered, statuses.iter().map(|status| json!(status)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("succeeded"), &json!(statuses.len())));
}

/// What a host had leased and not begun is no longer its own when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stood_still_does_not_begin_what_it_had_queued() {
    let Some((_server, url)) = database() else { return };
    let (slow, other) = (hasty(&url), hasty(&url));
    let (slow_process, _other_process) = (slow.serve().await, other.serve().await);
    let customers = Customers::content(&other, &url).await;
    let (mut random, rounds) = (random(), rounds(2));
    let mut tally = Tally::default();
    for round in 0..rounds {
        customers.each("/disable").await;
        for number in 0..EVENTS {
            let id = format!("evt_{round}_{number}");
            other.producer().await.post("/v1/events", event(&id)).await.expect(202);
            tally.acknowledged.push((TENANTS[0], id));
        }
        let moment = Duration::from_millis(random.random_range(40..120));
        tokio::join!(customers.each("/enable"), async {
            customers.begin(tally.acknowledged.len() - EVENTS).await;
            sleep(moment).await;
            slow_process.freeze();
        });
        // That all have arrived is not enough: the other makes those once more whose answers the stopped host has not recorded.
        customers.done().await;
        let all = tally.acknowledged.len();
        let before = customers.arrived();
        slow_process.thaw();
        let marker = format!("evt_{round}_marker");
        slow.producer().await.post("/v1/events", event(&marker)).await.expect(202);
        customers.have(&Posted { tenant: TENANTS[0], id: marker.clone() }).await;
        tally.acknowledged.push((TENANTS[0], marker));
        let late = customers.arrived() - before - 3;
        eprintln!("{late} attempts began just when it stopped, {} were made twice", before - all * 3);
        assert!(late <= 2, "{late} attempts were begun too late");
    }
    // As many as run, and as many again whose answers are not recorded yet.
    customers.check(&tally, Cost { faults: rounds, stranded: 2 * rounds * AT_ONCE }).await;
}
