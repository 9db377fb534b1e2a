//! The catalogue of event types.

use revnoxa_tests::{Host, Receiver};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_seeded() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let types = host.anyone().with_token(acme.token()).all("/v1/event-types").await;
    let mut names: Vec<_> = types.iter().map(|known| known["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let expected = [
        "approval.approved",
        "approval.rejected",
        "hijacker.detected",
        "incident.acknowledged",
        "incident.created",
        "incident.resolved",
        "webhook.test",
    ];
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_can_be_added_used_and_retired() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let operator = host.operator();
    let body = json!({"name": "service.deployed", "description": "A service was deployed"});
    let added = operator.post("/v1/event-types", body.clone()).await.expect(201);
    assert_eq!((&added["name"], &added["description"]), (&body["name"], &body["description"]));
    operator.post("/v1/event-types", body).await.expect_problem(409, "conflict");

    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint_with(json!({"url": receiver.url(), "event_types": ["service.deployed"]})).await;
    let event = acme.event("service.deployed", json!({})).await;
    endpoint.delivery_in("succeeded", &event).await;

    operator.delete("/v1/event-types/service.deployed").await.expect(204);
    operator.delete("/v1/event-types/service.deployed").await.expect_problem(404, "not-found");
    let late = json!({"tenant": "acme", "type": "service.deployed", "data": {}});
    let producer = host.producer().await;
    producer.post("/v1/events", late.clone()).await.expect_problem(422, "unprocessable");
    let unknown = json!({"url": receiver.url(), "event_types": ["service.deployed"]});
    let reply = acme.post("/endpoints", unknown).await.expect_problem(422, "unprocessable");
    assert!(reply.blamed_field().starts_with("event_types"), "{}", reply.text);
    assert_eq!(endpoint.delivery(&event).await["event_type"], "service.deployed", "history stays");
    host.restart().await;
    producer.post("/v1/events", late).await.expect_problem(422, "unprocessable");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_type_stays_and_names_follow_the_rule() {
    let host = Host::start().await;
    let operator = host.operator();
    operator.delete("/v1/event-types/webhook.test").await.expect_problem(409, "conflict");
    operator.delete("/v1/event-types/no.such").await.expect_problem(404, "not-found");
    let too_long = "a".repeat(65);
    for name in ["", "A.b", "a b", "a..b", ".a", "a.", "ä", "nul\u{0}", &too_long] {
        let reply = operator.post("/v1/event-types", json!({"name": name})).await;
        assert_eq!(reply.expect_problem(422, "unprocessable").blamed_field(), "name", "{name:?}");
    }
    operator.post("/v1/event-types", json!({"name": 1})).await.expect_problem(400, "invalid-request");
    operator.post("/v1/event-types", json!({"name": "a.b", "x": 1})).await.expect_problem(400, "invalid-request");
    assert_eq!(operator.all("/v1/event-types").await.len(), 7);
}
