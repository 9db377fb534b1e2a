//! Old history goes, on its own, and nothing that is still to be delivered.

use std::time::Duration;

use revnoxa_tests::{Event, Host, Receiver, Tenant, eventually};
use serde_json::json;

const DAY: Duration = Duration::from_hours(24);

async fn is_gone(tenant: &Tenant, event: &Event) {
    eventually("the event to be gone", async || {
        let deliveries = tenant.get(&format!("/events/{}/deliveries", event.id)).await;
        (deliveries.status == 404).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_deliveries_go_after_thirty_days() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let secret_marker = "payload-that-must-go-7f3a9c";
    let old = endpoint.tenant.event("incident.created", json!(secret_marker)).await;
    let delivery = endpoint.delivery_in("succeeded", &old).await["id"].as_str().unwrap().to_owned();
    let nobodys = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &nobodys).await;

    host.advance(29 * DAY).await;
    let young = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &young).await;
    assert_eq!(endpoint.delivery(&old).await["state"], "succeeded", "not yet");

    host.advance(2 * DAY).await;
    is_gone(&endpoint.tenant, &old).await;
    is_gone(&endpoint.tenant, &nobodys).await;
    endpoint.tenant.get(&format!("/deliveries/{delivery}")).await.expect_problem(404, "not-found");
    assert_eq!(endpoint.delivery(&young).await["state"], "succeeded");
    assert_eq!(endpoint.state().await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_however_old() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let done = endpoint.tenant.event("incident.created", json!("done")).await;
    endpoint.delivery_in("succeeded", &done).await;
    endpoint.post_empty("/disable").await.expect(200);
    let held = endpoint.tenant.event("incident.created", json!("held")).await;

    host.advance(40 * DAY).await;
    is_gone(&endpoint.tenant, &done).await;
    assert_eq!(endpoint.delivery(&held).await["state"], "held");
    endpoint.post_empty("/enable").await.expect(200);
    endpoint.delivery_in("succeeded", &held).await;
    assert_eq!(receiver.received().last().unwrap().json()["data"], "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_history_is_kept_is_a_setting_and_many_batches_are_no_matter() {
    let host = Host::builder().with(|config| config.retention = DAY).start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let events: Vec<_> = (0..1_000).map(|n| json!({"tenant": "acme", "type": "incident.created", "data": n})).collect();
    let producer = host.producer().await;
    for _ in 0..3 {
        producer.post("/v1/events/batch", json!({"events": events})).await.expect(202);
    }
    eventually("all to be delivered", async || {
        let waiting = endpoint.get("/deliveries?state=pending&limit=1").await;
        waiting["items"].as_array()?.is_empty().then_some(())
    })
    .await;
    host.advance(2 * DAY).await;
    eventually("all to be gone", async || {
        let left = endpoint.get("/deliveries?limit=1").await;
        left["items"].as_array()?.is_empty().then_some(())
    })
    .await;
}
