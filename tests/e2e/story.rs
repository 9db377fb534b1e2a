//! The whole story, as a customer lives it.

use revnoxa_tests::{Answer, Host, Receiver, verify};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_story() {
    let host = Host::start().await;
    let receiver = Receiver::answering([Answer::status(200).body("thanks")]).await;
    let acme = host.tenant("acme").await;

    let endpoint = acme.endpoint(&receiver).await;
    assert_eq!(endpoint.created["test"]["delivered"], true);
    assert_eq!(endpoint.created["test"]["status_code"], 200);
    assert_eq!(endpoint.created["state"], "active");
    let test = &receiver.tests()[0];
    assert_eq!(test.json()["type"], "webhook.test");
    verify::both_signatures(&endpoint.secret, test, host.now());

    let data = json!({"incident": "inc_1", "severity": "high"});
    let event = acme.event("incident.created", data.clone()).await;
    assert_eq!(event.deliveries, 1);
    let request = &receiver.wait_for(1).await[0];
    assert_eq!(request.json()["id"], event.id.as_str());
    assert_eq!(request.json()["data"], data);
    verify::both_signatures(&endpoint.secret, request, host.now());

    endpoint.delivery_in("succeeded", &event).await;
    let history = endpoint.deliveries("").await;
    assert_eq!(history.len(), 2, "the event and the test: {history:#?}");
    assert_eq!(history[0]["event_type"], "incident.created");
    assert_eq!(history[1]["event_type"], "webhook.test");
    let attempt = &endpoint.delivery(&event).await["history"][0];
    assert_eq!(attempt["started_at"], "2026-03-01T12:00:00.000Z");
    assert_eq!(attempt["status_code"], 200);
    assert_eq!(attempt["response_body"], "thanks");
    host.stop().await;
}
