//! Rotating an endpoint's secret.

use std::time::Duration;

use revnoxa_tests::{Endpoint, Host, Received, Receiver, verify};
use serde_json::json;
use std::sync::Arc;

async fn next_request(endpoint: &Endpoint, receiver: &Receiver) -> Arc<Received> {
    let before = receiver.received().len();
    endpoint.tenant.event("incident.created", json!({})).await;
    receiver.wait_for(before + 1).await[before].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_overlap_the_old_secret_is_worthless_at_once() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let rotated = endpoint.post("/rotate-secret", json!({"overlap_seconds": 0})).await.expect(200);
    let request = next_request(&endpoint, &receiver).await;
    verify::both_signatures(rotated.text_of("secret"), &request, host.now());
    assert!(verify::standard_webhooks(&endpoint.secret, &request, host.now()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn during_an_overlap_both_secrets_verify() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let rotated = endpoint.post("/rotate-secret", json!({"overlap_seconds": 3600})).await.expect(200);
    let new_secret = rotated.text_of("secret");

    host.advance(Duration::from_secs(3_599)).await;
    let during = next_request(&endpoint, &receiver).await;
    let signatures = during.header("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    verify::standard_webhooks(&endpoint.secret, &during, host.now()).unwrap();
    verify::both_signatures(new_secret, &during, host.now());

    host.advance(Duration::from_secs(1)).await;
    let after = next_request(&endpoint, &receiver).await;
    verify::both_signatures(new_secret, &after, host.now());
    assert!(verify::standard_webhooks(&endpoint.secret, &after, host.now()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_rotation_without_overlap_ends_the_first_ones() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let first = endpoint.post("/rotate-secret", json!({"overlap_seconds": 3600})).await.expect(200);
    let second = endpoint.post_empty("/rotate-secret").await.expect(200);
    let request = next_request(&endpoint, &receiver).await;
    verify::both_signatures(second.text_of("secret"), &request, host.now());
    for old in [endpoint.secret.as_str(), first.text_of("secret")] {
        assert!(verify::standard_webhooks(old, &request, host.now()).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_is_at_most_seven_days() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    endpoint.post("/rotate-secret", json!({"overlap_seconds": 604_801})).await.expect_problem(422, "unprocessable");
    for malformed in [json!({"overlap_seconds": "1h"}), json!({"overlap_seconds": -1}), json!({"overlap": 1})] {
        endpoint.post("/rotate-secret", malformed).await.expect_problem(400, "invalid-request");
    }
    let request = next_request(&endpoint, &receiver).await;
    verify::both_signatures(&endpoint.secret, &request, host.now());
    endpoint.post("/rotate-secret", json!({"overlap_seconds": 604_800})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_outlives_a_restart_and_so_does_the_overlap() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let rotated = endpoint.post("/rotate-secret", json!({"overlap_seconds": 60})).await.expect(200);
    host.restart().await;
    let request = next_request(&endpoint, &receiver).await;
    verify::both_signatures(rotated.text_of("secret"), &request, host.now());
    verify::standard_webhooks(&endpoint.secret, &request, host.now()).unwrap();
}
