//! Posting one event.

use std::time::Duration;

use revnoxa_tests::{Host, Receiver, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_give_id_and_timestamp() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    host.tenant("acme").await.endpoint(&receiver).await;
    let event = json!({
        "tenant": "acme", "type": "incident.created", "data": {}, "id": "core-42_a", "timestamp": "2026-02-28T23:00:00.5+01:00",
    });
    let reply = host.producer().await.post("/v1/events", event).await.expect(202);
    assert_eq!(reply.json, json!({"id": "core-42_a", "deliveries": 1}));
    let request = receiver.wait_for(1).await[0].clone();
    assert_eq!(request.json()["id"], "core-42_a");
    assert_eq!(request.header("webhook-id"), Some("core-42_a"));
    assert_eq!(request.json()["timestamp"], "2026-02-28T22:00:00.500Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_endpoints_is_accepted() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let event = acme.event("approval.approved", Value::Null).await;
    assert_eq!(event.deliveries, 0);
    assert!(event.id.strip_prefix("evt_").is_some_and(|hex| hex.len() == 32), "{}", event.id);
    assert_eq!(acme.all(&format!("/events/{}/deliveries", event.id)).await, Vec::<Value>::new());
    acme.get("/events/evt_unknown/deliveries").await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_and_body_is_answered_again_and_delivered_once() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let event = |data: Value| json!({"tenant": "acme", "type": "incident.created", "id": "once", "data": data});
    let first = producer.post("/v1/events", event(json!(1))).await.expect(202);
    let second = producer.post("/v1/events", event(json!(1))).await.expect(202);
    assert_eq!(first.json, second.json);
    producer.post("/v1/events", event(json!(2))).await.expect_problem(409, "idempotency-conflict");
    let other_type = json!({"tenant": "acme", "type": "incident.resolved", "id": "once", "data": 1});
    producer.post("/v1/events", other_type).await.expect_problem(409, "idempotency-conflict");

    let marker = endpoint.tenant.event("incident.created", json!("marker")).await;
    endpoint.delivery_in("succeeded", &marker).await;
    assert_eq!(receiver.received().iter().filter(|request| request.event_id() == "once").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_belongs_to_each_tenant_alone() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let producer = host.producer().await;
    for (tenant, data) in [("acme", 1), ("bob", 2)] {
        host.tenant(tenant).await.endpoint(&receiver).await;
        let event = json!({"tenant": tenant, "type": "incident.created", "id": "mine", "data": data});
        let reply = producer.post("/v1/events", event).await.expect(202);
        assert_eq!(reply["deliveries"], 1, "{tenant}");
    }
    receiver.wait_for(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_kept_for_a_day_and_through_a_restart() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    host.tenant("acme").await.endpoint(&receiver).await;
    host.tenant("bob").await;
    let producer = host.producer().await;
    let post = async |key: &str, tenant: &str, data: u8| {
        let event = json!({"tenant": tenant, "type": "incident.created", "data": data});
        producer.request("POST", "/v1/events").header("Idempotency-Key", key).json(&event).send().await
    };
    let first = post("key 1", "acme", 1).await.expect(202);
    assert_eq!(post("key 1", "acme", 1).await.expect(202).json, first.json);
    assert_ne!(post("key 2", "acme", 1).await.expect(202)["id"], first["id"], "another key, another event");
    assert_ne!(post("key 1", "bob", 1).await.expect(202)["id"], first["id"], "keys belong to a tenant");
    post("key 1", "acme", 2).await.expect_problem(422, "idempotency-key-reused");

    host.restart().await;
    host.advance(Duration::from_hours(23)).await;
    assert_eq!(post("key 1", "acme", 1).await.expect(202).json, first.json);
    post("key 1", "acme", 2).await.expect_problem(422, "idempotency-key-reused");
    assert_eq!(receiver.wait_for(2).await.len(), 2);
}

/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>
#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_a_string_in_quotes_or_bare() {
    let host = Host::start().await;
    host.tenant("acme").await;
    let producer = host.producer().await;
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    let post = |key: &str| producer.request("POST", "/v1/events").header("Idempotency-Key", key).json(&event);
    let first = post(r#""8e03978e""#).send().await.expect(202);
    for same in ["8e03978e", r#""8e03978e";attempt=2"#] {
        assert_eq!(post(same).send().await.expect(202).json, first.json, "{same}");
    }
    for none in ["", r#""""#, r#""8e03978e"#, r#""a", "b""#, "schlüssel", &"k".repeat(256)] {
        let refused = post(none).send().await.expect_problem(400, "invalid-request");
        assert_eq!(refused.blamed_field(), "Idempotency-Key", "{none}");
    }
    let twice = post("a").header("Idempotency-Key", "b").send().await.expect_problem(400, "invalid-request");
    assert_eq!(twice.blamed_field(), "Idempotency-Key");
    let batch = json!({"events": [event]});
    let batch =
        producer.request("POST", "/v1/events/batch").header("Idempotency-Key", r#"""#).json(&batch).send().await;
    batch.expect_problem(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_of_one_key_at_the_same_time_make_one_event() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let mut posts = JoinSet::new();
    for _ in 0..32 {
        let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
        let request = producer.request("POST", "/v1/events").header("Idempotency-Key", "race").json(&event);
        posts.spawn(request.send());
    }
    let replies = posts.join_all().await;
    for reply in &replies {
        assert_eq!(reply.clone().expect(202).json, replies[0].json);
    }
    endpoint.tenant.event("incident.created", json!("marker")).await;
    let requests = receiver.wait_until("the marker", |all| all.iter().any(|one| one.json()["data"] == "marker")).await;
    let once = eventually("both deliveries to succeed", async || {
        let done = endpoint.deliveries("?state=succeeded&type=incident.created").await;
        (done.len() >= 2).then_some(done)
    })
    .await;
    assert_eq!((once.len(), requests.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_events_id_wins_over_an_idempotency_key() {
    let host = Host::start().await;
    host.tenant("acme").await;
    let producer = host.producer().await;
    for id in ["one", "two"] {
        let event = json!({"tenant": "acme", "type": "incident.created", "data": {}, "id": id});
        let reply = producer.request("POST", "/v1/events").header("Idempotency-Key", "same").json(&event).send().await;
        assert_eq!(reply.expect(202)["id"], id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_breaks_a_rule_is_refused_and_the_field_named() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let good = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    let cases = [
        ("tenant", json!("nobody"), 422),
        ("tenant", json!("Not An Id"), 422),
        ("type", json!("no.such.type"), 422),
        ("type", json!("webhook.test"), 422),
        ("id", json!(""), 422),
        ("id", json!("has.a.dot"), 422),
        ("id", json!("x".repeat(129)), 422),
        ("id", json!("nul\u{0}"), 422),
        ("tenant", json!(7), 400),
        ("type", json!(["incident.created"]), 400),
        ("id", json!(7), 400),
        ("surprise", json!(1), 400),
    ];
    for (field, value, status) in cases {
        let mut event = good.clone();
        event[field] = value;
        let reply = producer.post("/v1/events", event.clone()).await;
        let slug = if status == 422 { "unprocessable" } else { "invalid-request" };
        let reply = reply.expect_problem(status, slug);
        assert_eq!(reply.blamed_field(), field, "{event}: {}", reply.text);
    }
    for timestamp in [json!("yesterday"), json!("2026-02-30T00:00:00Z"), json!(1_772_000_000)] {
        let mut event = good.clone();
        event["timestamp"] = timestamp;
        let reply = producer.post("/v1/events", event.clone()).await;
        assert!([400, 422].contains(&reply.status), "{event}: {}", reply.text);
        assert_eq!(reply.blamed_field(), "timestamp", "{event}: {}", reply.text);
    }
    for missing in ["tenant", "type", "data"] {
        let mut event = good.clone();
        event.as_object_mut().unwrap().remove(missing);
        producer.post("/v1/events", event).await.expect_problem(400, "invalid-request");
    }
    let marker = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &marker).await;
    assert_eq!(receiver.received().len(), 1, "nothing of what was refused is delivered");
    assert_eq!(endpoint.deliveries("?type=incident.created").await.len(), 1);
}
