//! Endpoints: create, read, change, delete, test, disable and enable.

use std::time::Duration;

use revnoxa_tests::{Answer, Gate, Host, Receiver};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_shows_its_secret_once() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint(&receiver).await;
    let secret = endpoint.secret.strip_prefix("whsec_").expect("the prefix");
    assert_eq!(secret.len(), 44, "base64 of 32 bytes");
    assert!(endpoint.id.strip_prefix("ep_").is_some_and(|hex| hex.len() == 32), "{}", endpoint.id);

    let read = endpoint.get("").await.expect(200);
    let listed = acme.get("/endpoints").await.expect(200);
    let changed = endpoint.patch("", json!({"description": "new"})).await.expect(200);
    for reply in [&read, &listed, &changed] {
        assert!(!reply.text.contains("whsec_") && !reply.text.contains(secret), "{}", reply.text);
    }
    assert_eq!(
        read.json,
        json!({
            "id": endpoint.id,
            "url": receiver.url(),
            "description": "",
            "event_types": null,
            "headers": {},
            "state": "active",
            "state_reason": null,
            "created_at": "2026-03-01T12:00:00.000Z",
        })
    );
    assert_eq!(listed["items"], json!([read.json]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_gets_only_the_types_it_wants() {
    let host = Host::start().await;
    let (some, all) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let acme = host.tenant("acme").await;
    let wanted = ["incident.resolved", "hijacker.detected"];
    let filtered = acme.endpoint_with(json!({"url": some.url(), "event_types": wanted})).await;
    acme.endpoint_with(json!({"url": all.url(), "event_types": null})).await;

    assert_eq!(acme.event("incident.created", json!({})).await.deliveries, 1);
    assert_eq!(acme.event("incident.resolved", json!({})).await.deliveries, 2);
    all.wait_for(2).await;
    assert_eq!(some.wait_for(1).await[0].header("x-revnoxa-event"), Some("incident.resolved"));

    filtered.patch("", json!({"event_types": ["incident.created"]})).await.expect(200);
    assert_eq!(acme.event("incident.resolved", json!({})).await.deliveries, 1);
    filtered.patch("", json!({"event_types": null})).await.expect(200);
    assert_eq!(acme.event("incident.resolved", json!({})).await.deliveries, 2);
    some.wait_for(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_headers_are_sent_and_can_be_changed() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let headers = json!({"Authorization": "Bearer s3cret", "X-Team": "sre"});
    let endpoint = host.tenant("acme").await.endpoint_with(json!({"url": receiver.url(), "headers": headers})).await;
    assert_eq!(receiver.tests()[0].header("x-team"), Some("sre"), "the test carries them, too");
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    assert_eq!(receiver.wait_for(1).await[0].header("authorization"), Some("Bearer s3cret"));
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    assert!(!delivery.to_string().contains("s3cret"), "the history keeps no credentials: {delivery}");

    endpoint.patch("", json!({"headers": {"X-Team": "ops"}})).await.expect(200);
    endpoint.tenant.event("incident.created", json!({})).await;
    let second = receiver.wait_for(2).await[1].clone();
    assert_eq!((second.header("x-team"), second.header("authorization")), (Some("ops"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_ten_headers_and_no_reserved_ones() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let headers = |n: usize| (0..n).map(|n| (format!("x-{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let endpoint = acme.endpoint_with(json!({"url": receiver.url(), "headers": headers(10)})).await;

    let refused = [
        json!(headers(11)),
        json!({"Host": "example.com"}),
        json!({"Content-Length": "1"}),
        json!({"content-type": "text/plain"}),
        json!({"Transfer-Encoding": "chunked"}),
        json!({"Connection": "close"}),
        json!({"User-Agent": "x"}),
        json!({"X-Revnoxa-Signature": "00"}),
        json!({"x-revnoxa-anything": "x"}),
        json!({"Webhook-Id": "x"}),
        json!({"webhook-signature": "v1,x"}),
        json!({"Proxy-Authorization": "x"}),
        json!({"a b": "x"}),
        json!({"": "x"}),
        json!({"x-a": "line\r\nx-b: smuggled"}),
        json!({"x-a": "nul\u{0}"}),
        json!({"X-A": "1", "x-a": "2"}),
    ];
    let tests_before = receiver.tests().len();
    for headers in refused {
        let body = json!({"url": receiver.url(), "headers": headers});
        let reply = acme.post("/endpoints", body).await.expect_problem(422, "unprocessable");
        assert!(reply.blamed_field().starts_with("headers"), "{headers}: {}", reply.text);
        let reply = endpoint.patch("", json!({"headers": headers})).await;
        reply.expect_problem(422, "unprocessable");
    }
    assert_eq!(acme.all("/endpoints").await.len(), 1, "a refusal makes nothing");
    assert_eq!(receiver.tests().len(), tests_before, "a refusal sends nothing");
    assert_eq!(endpoint.read().await["headers"].as_object().unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_keeps_what_it_does_not_name() {
    let host = Host::start().await;
    let (old, new) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let body = json!({"url": old.url(), "description": "ours", "event_types": ["incident.created"]});
    let endpoint = host.tenant("acme").await.endpoint_with(body).await;
    let changed = endpoint.patch("", json!({"url": new.url()})).await.expect(200);
    assert_eq!(changed["description"], "ours");
    assert_eq!(changed["event_types"], json!(["incident.created"]));
    assert_eq!(changed["url"], new.url());
    assert_eq!(changed.json, endpoint.read().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_changes_change_nothing() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let before = endpoint.read().await;
    let cases = [
        (json!({"url": "ftp://example.com/"}), 422, "unprocessable"),
        (json!({"url": "not a url"}), 422, "unprocessable"),
        (json!({"event_types": ["no.such"]}), 422, "unprocessable"),
        (json!({"description": "x".repeat(513)}), 422, "unprocessable"),
        (json!({"url": 1}), 400, "invalid-request"),
        (json!({"event_types": "incident.created"}), 400, "invalid-request"),
        (json!({"headers": ["x"]}), 400, "invalid-request"),
        (json!({"secret": "whsec_mine"}), 400, "invalid-request"),
        (json!({"state": "active"}), 400, "invalid-request"),
        (json!({"id": "ep_1"}), 400, "invalid-request"),
        (json!({"description": "good", "url": "ftp://example.com/"}), 422, "unprocessable"),
    ];
    for (body, status, slug) in cases {
        let reply = endpoint.patch("", body.clone()).await;
        let field = body.as_object().unwrap().keys().next_back().unwrap().clone();
        let reply = reply.expect_problem(status, slug);
        assert!(reply.blamed_field().starts_with(&field), "{body}: {}", reply.text);
    }
    assert_eq!(endpoint.read().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_endpoint_is_gone_with_its_history() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    endpoint.delete("").await.expect(204);

    endpoint.get("").await.expect_problem(404, "not-found");
    endpoint.delete("").await.expect_problem(404, "not-found");
    endpoint.get("/deliveries").await.expect_problem(404, "not-found");
    let delivery = format!("/deliveries/{}", delivery["id"].as_str().unwrap());
    endpoint.tenant.get(&delivery).await.expect_problem(404, "not-found");
    assert_eq!(endpoint.tenant.event("incident.created", json!({})).await.deliveries, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_while_its_owner_is_deleted_ends_quietly() {
    let host = Host::start().await;
    let gate = Gate::closed();
    let receiver = Receiver::answering([Answer::status(500).behind(&gate)]).await;
    let acme = host.tenant("acme").await.endpoint(&receiver).await;
    let bob = host.tenant("bob").await.endpoint(&receiver).await;
    for endpoint in [&acme, &bob] {
        endpoint.tenant.event("incident.created", json!({})).await;
    }
    receiver.wait_for(2).await;
    acme.delete("").await.expect(204);
    host.operator().delete("/v1/tenants/bob").await.expect(204);
    gate.open();
    host.claim_round().await;
    host.advance(Duration::from_mins(1)).await;
    host.claim_round().await;
    assert_eq!(receiver.received().len(), 2);
    assert!(acme.tenant.all("/endpoints").await.is_empty());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_endpoint_gets_no_retry() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.attempted(1, &event).await;
    endpoint.delete("").await.expect(204);
    host.advance(Duration::from_mins(1)).await;
    host.claim_round().await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_event_is_in_the_history_and_never_retried() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    receiver.answer_tests(503);
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let listed = endpoint.deliveries("?type=webhook.test").await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["state"], &listed[0]["attempts"]), (&json!("failed"), &json!(1)));
    host.advance(Duration::from_hours(8)).await;
    host.claim_round().await;
    assert_eq!(receiver.tests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_leaves_the_endpoint_pending() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    receiver.answer_tests(Answer::close());
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    assert_eq!(endpoint.created["test"]["delivered"], false);
    assert_eq!(endpoint.created["test"]["status_code"], Value::Null);
    let error = endpoint.created["test"]["error"].as_str().unwrap();
    assert!(endpoint.created["state_reason"].as_str().unwrap().contains(error), "{}", endpoint.created);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_disabled_events_are_held_and_enable_delivers_them() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let waiting = endpoint.tenant.event("incident.created", json!({"n": 1})).await;
    endpoint.attempted(1, &waiting).await;

    let disabled = endpoint.post_empty("/disable").await.expect(200);
    assert_eq!((&disabled["state"], &disabled["state_reason"]), (&json!("disabled"), &json!("disabled by request")));
    endpoint.post_empty("/disable").await.expect(200);
    let held = endpoint.tenant.event("incident.resolved", json!({"n": 2})).await;
    assert_eq!(held.deliveries, 1);
    for event in [&waiting, &held] {
        assert_eq!(endpoint.delivery(event).await["state"], "held");
    }
    assert_eq!(endpoint.deliveries("?state=held").await.len(), 2);
    assert_eq!(endpoint.deliveries("?state=pending").await.len(), 0);
    endpoint.retry(&held).await.expect_problem(409, "conflict");
    host.advance(Duration::from_hours(1)).await;
    host.claim_round().await;
    assert_eq!(receiver.received().len(), 1, "nothing is sent to a disabled endpoint");

    let enabled = endpoint.post_empty("/enable").await.expect(200);
    assert_eq!((&enabled["state"], &enabled["state_reason"]), (&json!("active"), &Value::Null));
    for event in [&waiting, &held] {
        endpoint.delivery_in("succeeded", event).await;
    }
    endpoint.post_empty("/enable").await.expect(200);
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn enable_can_drop_what_was_held() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    endpoint.post_empty("/disable").await.expect(200);
    let held = endpoint.tenant.event("incident.created", json!({"n": 1})).await;
    endpoint.post("/enable", json!({"held": "shred"})).await.expect_problem(400, "invalid-request");
    assert_eq!(endpoint.state().await, "disabled");
    endpoint.post("/enable", json!({"held": "drop"})).await.expect(200);
    let dropped = endpoint.delivery(&held).await;
    assert_eq!((&dropped["state"], &dropped["attempts"]), (&json!("dropped"), &json!(0)));
    assert_eq!(dropped["state_reason"], "dropped when the endpoint was enabled");

    let fresh = endpoint.tenant.event("incident.created", json!({"n": 2})).await;
    endpoint.delivery_in("succeeded", &fresh).await;
    let requests = receiver.received();
    assert_eq!(requests.iter().map(|request| request.event_id()).collect::<Vec<_>>(), [fresh.id]);
    endpoint.retry(&held).await.expect(202);
    assert_eq!(endpoint.delivery_in("succeeded", &held).await["state_reason"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_deliveries_outlive_a_restart() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    endpoint.post_empty("/disable").await.expect(200);
    let held = endpoint.tenant.event("incident.created", json!({})).await;
    host.restart().await;
    assert_eq!(endpoint.delivery(&held).await["state"], "held");
    endpoint.post("/enable", json!({"held": "deliver"})).await.expect(200);
    endpoint.delivery_in("succeeded", &held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_on_the_receivers_side_loses_nothing() {
    let host = Host::builder().with(|config| config.disable_after_failing_for = Duration::from_mins(1)).start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(endpoint.tenant.event("incident.created", json!({"n": n})).await);
        endpoint.attempted(1, &events[n]).await;
        host.advance(Duration::from_secs(25)).await;
        endpoint.attempted(1, &events[n]).await;
    }
    while endpoint.state().await == "active" {
        host.advance(Duration::from_mins(6)).await;
        host.claim_round().await;
    }
    events.push(endpoint.tenant.event("incident.created", json!({"n": 3})).await);

    receiver.answer([200]);
    endpoint.post_empty("/enable").await.expect(200);
    // What had been tried before waits for its time, as it would have anyway.
    host.advance(Duration::from_hours(1)).await;
    for event in &events {
        endpoint.delivery_in("succeeded", event).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_endpoint_is_tested_not_enabled() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    receiver.answer_tests(500);
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    endpoint.post_empty("/enable").await.expect_problem(409, "conflict");
    assert_eq!(endpoint.state().await, "pending");
    // Nor disabled: enabling it again would make it active without an answered test.
    endpoint.post_empty("/disable").await.expect_problem(409, "conflict");
    assert_eq!(endpoint.state().await, "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_does_not_enable_a_disabled_endpoint() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    endpoint.post_empty("/disable").await.expect(200);
    assert_eq!(endpoint.post_empty("/test").await.expect(200)["delivered"], true);
    assert_eq!(endpoint.state().await, "disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_lets_the_attempt_under_way_finish() {
    let host = Host::start().await;
    let gate = Gate::closed();
    let receiver = Receiver::answering([Answer::status(200).behind(&gate)]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    receiver.wait_for(1).await;
    endpoint.post_empty("/disable").await.expect(200);
    gate.open();
    endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(endpoint.state().await, "disabled");
}
