//! From an event to its deliveries.

use std::time::Duration;

use revnoxa_tests::{Answer, Authority, Gate, Host, Receiver, eventually, on_postgres};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_to_every_endpoint_that_wants_it() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let mut receivers = Vec::new();
    for _ in 0..5 {
        let receiver = Receiver::answering([200]).await;
        receivers.push((acme.endpoint(&receiver).await, receiver));
    }
    let event = acme.event("incident.created", json!({})).await;
    assert_eq!(event.deliveries, 5);
    for (endpoint, receiver) in &receivers {
        endpoint.delivery_in("succeeded", &event).await;
        assert_eq!(receiver.received().len(), 1);
    }
    let mut deliveries: Vec<_> = receivers
        .iter()
        .map(|(_, receiver)| receiver.received()[0].header("x-revnoxa-delivery").unwrap().to_owned())
        .collect();
    deliveries.sort();
    deliveries.dedup();
    assert_eq!(deliveries.len(), 5, "each delivery has its own id");
    let signatures = receivers.iter().map(|(_, receiver)| receiver.received()[0].clone());
    let signatures: std::collections::HashSet<_> =
        signatures.map(|request| request.header("x-revnoxa-signature").unwrap().to_owned()).collect();
    assert_eq!(signatures.len(), 5, "each endpoint has its own secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_endpoint_does_not_repeat_the_others() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let (good, bad) = (Receiver::answering([200]).await, Receiver::answering([500, 200]).await);
    let (steady, shaky) = (acme.endpoint(&good).await, acme.endpoint(&bad).await);
    let event = acme.event("incident.created", json!({})).await;
    steady.delivery_in("succeeded", &event).await;
    let failed = shaky.attempted(1, &event).await;
    host.advance_to(&failed["next_attempt_at"], 0).await;
    shaky.delivery_in("succeeded", &event).await;
    assert_eq!((good.received().len(), bad.received().len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_retry_outlives_a_restart() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let before = endpoint.attempted(1, &event).await;
    host.restart().await;
    assert_eq!(endpoint.delivery(&event).await, before);
    host.claim_round().await;
    assert_eq!(receiver.received().len(), 1, "not earlier than before the restart");
    host.advance_to(&before["next_attempt_at"], 0).await;
    assert_eq!(endpoint.delivery_in("succeeded", &event).await["attempts"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_came_due_while_the_host_was_down_is_sent_at_once() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.attempted(1, &event).await;
    host.restart_after(Duration::from_hours(1)).await;
    endpoint.delivery_in("succeeded", &event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_url_counts_for_the_retry() {
    let host = Host::start().await;
    let (old, new) = (Receiver::answering([500]).await, Receiver::answering([200]).await);
    let endpoint = host.tenant("acme").await.endpoint(&old).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let failed = endpoint.attempted(1, &event).await;
    endpoint.patch("", json!({"url": new.url()})).await.expect(200);
    host.advance_to(&failed["next_attempt_at"], 0).await;
    endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(new.received()[0].body, old.received()[0].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_permitted_attempts_run_at_once() {
    let change = |config: &mut revnoxa_host::config::Config| {
        config.max_in_flight = 8;
        config.max_in_flight_per_endpoint = 3;
    };
    let host = Host::builder().with(change).start().await;
    let acme = host.tenant("acme").await;
    let gate = Gate::closed();
    let receiver = Receiver::answering([Answer::status(200).behind(&gate)]).await;
    let endpoint = acme.endpoint(&receiver).await;
    for n in 0..20 {
        acme.event("incident.created", json!({"n": n})).await;
    }
    let most = 20;
    for done in 0..most {
        let requests = receiver.wait_for((done + 1).min(most)).await.len();
        assert!(requests <= done + 3, "{requests} requests after {done} answers");
        gate.let_one_pass();
    }
    let last = acme.event("incident.created", json!("last")).await;
    gate.open();
    endpoint.delivery_in("succeeded", &last).await;
}

/// Another host may have begun its own attempt by then.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_lease_runs_out_while_it_connects_is_not_begun() {
    if on_postgres() {
        return;
    }
    let authority = Authority::new();
    let host = Host::builder().with(|config| config.extra_ca = Some(authority.pem_file())).start().await;
    let receiver = Receiver::answering_https(&authority, [200]).await;
    receiver.answer_tests(Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let gate = Gate::closed();
    receiver.hold_connections(&gate);
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    eventually("the attempt to connect", async || (receiver.connections() == 2).then_some(())).await;

    // Nor can it be renewed.
    let file = SqliteConnectOptions::new().filename(host.dir().join("revnoxa.db"));
    let mut lock = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    host.advance(Duration::from_secs(61)).await;
    gate.open();
    eventually("the connection to be closed, or used", async || {
        (receiver.ended() == 2 || !receiver.received().is_empty()).then_some(())
    })
    .await;
    assert_eq!(receiver.received().len(), 0);
    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    assert_eq!((&delivery["attempts"], receiver.received().len()), (&json!(1), 1));
}
