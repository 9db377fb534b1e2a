//! Posting up to 1,000 events at once.

use revnoxa_tests::{Host, Receiver};
use serde_json::{Value, json};

fn event(n: usize) -> Value {
    json!({"tenant": "acme", "type": "incident.created", "data": {"n": n}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_events_are_accepted_and_delivered() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    host.tenant("acme").await.endpoint(&receiver).await;
    let events: Vec<Value> = (0..1_000).map(event).collect();
    let producer = host.producer().await;
    let reply = producer.post("/v1/events/batch", json!({"events": events})).await.expect(202);
    let accepted = reply["events"].as_array().unwrap();
    assert_eq!(accepted.len(), 1_000);
    assert!(accepted.iter().all(|event| event["deliveries"] == 1));

    let requests = receiver.wait_for(1_000).await;
    for (n, accepted) in accepted.iter().enumerate() {
        let sent = requests.iter().find(|request| request.header("webhook-id") == accepted["id"].as_str());
        assert_eq!(sent.expect("it arrived").json()["data"]["n"], n, "answers are in the order of the events");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_for_many_tenants_and_types() {
    let host = Host::start().await;
    let (acme, bob) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    host.tenant("acme").await.endpoint(&acme).await;
    let filtered = json!({"url": bob.url(), "event_types": ["incident.resolved"]});
    host.tenant("bob").await.endpoint_with(filtered).await;
    let events = json!({"events": [
        {"tenant": "acme", "type": "incident.created", "data": 1, "id": "a"},
        {"tenant": "bob", "type": "incident.created", "data": 2, "id": "b"},
        {"tenant": "bob", "type": "incident.resolved", "data": 3, "id": "c"},
    ]});
    let reply = host.producer().await.post("/v1/events/batch", events).await.expect(202);
    let expected = json!({"events": [
        {"id": "a", "deliveries": 1}, {"id": "b", "deliveries": 0}, {"id": "c", "deliveries": 1},
    ]});
    assert_eq!(reply.json, expected);
    assert_eq!(acme.wait_for(1).await[0].event_id(), "a");
    assert_eq!(bob.wait_for(1).await[0].event_id(), "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_refuses_the_whole_batch() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let taken = json!({"tenant": "acme", "type": "incident.created", "data": "first", "id": "taken"});
    producer.post("/v1/events", taken).await.expect(202);
    let bad_ones = [
        ("unknown type", json!({"tenant": "acme", "type": "no.such", "data": 1}), 422, "unprocessable", "type"),
        (
            "unknown tenant",
            json!({"tenant": "nobody", "type": "incident.created", "data": 1}),
            422,
            "unprocessable",
            "tenant",
        ),
        (
            "bad id",
            json!({"tenant": "acme", "type": "incident.created", "data": 1, "id": "a.b"}),
            422,
            "unprocessable",
            "id",
        ),
        ("wrong type", json!({"tenant": 1, "type": "incident.created", "data": 1}), 400, "invalid-request", "tenant"),
        (
            "unknown field",
            json!({"tenant": "acme", "type": "incident.created", "data": 1, "x": 1}),
            400,
            "invalid-request",
            "x",
        ),
        (
            "id in use",
            json!({"tenant": "acme", "type": "incident.created", "data": "second", "id": "taken"}),
            409,
            "idempotency-conflict",
            "",
        ),
    ];
    for (case, bad, status, slug, field) in bad_ones {
        let good = json!({"tenant": "acme", "type": "incident.created", "data": 1, "id": "good"});
        let batch = json!({"events": [good, bad, event(3)]});
        let reply = producer.post("/v1/events/batch", batch).await.expect_problem(status, slug);
        let blamed = reply.blamed_field();
        assert!(field.is_empty() || blamed.contains('1') && blamed.ends_with(field), "{case}: {}", reply.text);
    }
    let large = format!("\"{}\"", "x".repeat(256 * 1024));
    let body = format!(r#"{{"events":[{},{{"tenant":"acme","type":"incident.created","data":{large}}}]}}"#, event(1));
    let reply = producer.request("POST", "/v1/events/batch").body(body).send().await;
    assert_eq!(reply.expect_problem(422, "unprocessable").blamed_field(), "events[1].data");

    endpoint.tenant.get("/events/good/deliveries").await.expect_problem(404, "not-found");
    let marker = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &marker).await;
    assert_eq!(endpoint.deliveries("?type=incident.created").await.len(), 2, "the taken one and the marker");
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_1_to_1000_events() {
    let host = Host::start().await;
    host.tenant("acme").await;
    let producer = host.producer().await;
    for n in [0, 1_001] {
        let events: Vec<Value> = (0..n).map(event).collect();
        let reply = producer.post("/v1/events/batch", json!({"events": events})).await;
        let reply = reply.expect_problem(422, "unprocessable");
        assert_eq!(reply.blamed_field(), "events", "{n} events");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_the_same_ids_is_answered_again() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let events = ["a", "b"].map(|id| json!({"tenant": "acme", "type": "incident.created", "data": {}, "id": id}));
    let first = producer.post("/v1/events/batch", json!({"events": events})).await.expect(202);
    let second = producer.post("/v1/events/batch", json!({"events": events})).await.expect(202);
    assert_eq!(first.json, second.json);
    let marker = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &marker).await;
    assert_eq!(endpoint.deliveries("?type=incident.created").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_within_a_batch_are_one_event_if_equal_and_a_conflict_if_not() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let twin = |data: u8| json!({"tenant": "acme", "type": "incident.created", "data": data, "id": "twin"});
    let unequal = json!({"events": [twin(1), twin(2)]});
    producer.post("/v1/events/batch", unequal).await.expect_problem(409, "idempotency-conflict");
    let equal = producer.post("/v1/events/batch", json!({"events": [twin(1), twin(1)]})).await.expect(202);
    assert_eq!(equal["events"][0], equal["events"][1]);
    let marker = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &marker).await;
    assert_eq!(endpoint.deliveries("?type=incident.created").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_covers_a_whole_batch() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let producer = host.producer().await;
    let post = async |key: &str, events: Value| {
        let request = producer.request("POST", "/v1/events/batch").header("Idempotency-Key", key);
        request.json(&json!({"events": events})).send().await
    };
    let first = post("batch", json!([event(1), event(2)])).await.expect(202);
    assert_eq!(post("batch", json!([event(1), event(2)])).await.expect(202).json, first.json);
    let reused = post("batch", json!([event(1), event(3)])).await.expect_problem(422, "idempotency-key-reused");
    assert_eq!(reused.blamed_field(), "Idempotency-Key");
    // An event with an id of its own goes by that.
    let with_id = |data: u8| json!({"tenant": "acme", "type": "incident.resolved", "id": "mine", "data": data});
    producer.post("/v1/events", with_id(1)).await.expect(202);
    let conflict = post("other", json!([event(4), with_id(2)])).await.expect_problem(409, "idempotency-conflict");
    assert_eq!(conflict.blamed_field(), "events[1].id");
    receiver.wait_for(2).await;
    let marker = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &marker).await;
    assert_eq!(endpoint.deliveries("?type=incident.created").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fans_out_too_far_is_refused() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    for n in 0..101 {
        acme.endpoint_with(json!({"url": receiver.url_at(&format!("/{n}"))})).await;
    }
    let event = |n| json!({"tenant": "acme", "type": "incident.created", "data": {"n": n}});
    let events: Vec<Value> = (0..1_000).map(event).collect();
    let producer = host.producer().await;
    let refusal = producer.post("/v1/events/batch", json!({"events": events})).await;
    let refusal = refusal.expect_problem(422, "unprocessable");
    assert!(refusal["detail"].as_str().unwrap().contains("more than 100000 deliveries"), "{}", refusal.text);
    host.claim_round().await;
    assert!(receiver.received().is_empty());
    // Fewer at once are welcome.
    let accepted = producer.post("/v1/events/batch", json!({"events": events[..3]})).await.expect(202);
    assert_eq!(accepted["events"][2]["deliveries"], 101);
    receiver.wait_for(303).await;
}
