//! One test for each promise of the design; the other modules go into their corners.

use std::{collections::HashSet, time::Duration};

use revnoxa_tests::{Answer, Gate, Host, Machine, Receiver, eventually, on_postgres, verify};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_the_request_is_a_signed_json_post() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event_raw(r#"{"b": 1.0, "a": [ ]}"#).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    let request = &receiver.wait_for(1).await[0];

    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook"));
    let body = format!(
        r#"{{"id":"{}","type":"incident.created","timestamp":"2026-03-01T12:00:00.000Z","data":{{"b": 1.0, "a": [ ]}}}}"#,
        event.id
    );
    assert_eq!(request.text(), body);
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-revnoxa-event"), Some("incident.created"));
    assert_eq!(request.header("x-revnoxa-delivery"), delivery["id"].as_str());
    assert_eq!(request.header("x-revnoxa-attempt"), Some("1"));
    assert!(request.header("user-agent").is_some_and(|agent| agent.contains("Revnoxa")), "{request:?}");
    assert_eq!(request.header("webhook-id"), Some(event.id.as_str()));
    let timestamp = host.now().as_second().to_string();
    assert_eq!(request.header("webhook-timestamp"), Some(timestamp.as_str()));
    let standard = request.header("webhook-signature").unwrap();
    assert!(standard.starts_with("v1,") && !standard.contains(' '), "{standard}");

    let hex = request.header("x-revnoxa-signature").unwrap();
    assert_eq!(hex, verify::openssl_hmac(&endpoint.secret, &request.body));
    verify::standard_webhooks(&endpoint.secret, request, host.now()).unwrap();

    // The checks above can say no: another body, another secret.
    assert_ne!(hex, verify::openssl_hmac(&endpoint.secret, b"{}"));
    let forged = revnoxa_tests::Received { body: b"{}".into(), ..request.as_ref().clone() };
    assert!(verify::standard_webhooks(&endpoint.secret, &forged, host.now()).is_err());
    let other_secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(verify::standard_webhooks(other_secret, request, host.now()).is_err());
    let later = host.now() + Duration::from_secs(301);
    assert!(verify::standard_webhooks(&endpoint.secret, request, later).is_err(), "a replay");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_only_a_2xx_in_time_is_a_success() {
    let host = Host::builder().with(|config| config.attempt_timeout = Duration::from_millis(500)).start().await;
    let acme = host.tenant("acme").await;
    let cases = [
        ("200", Answer::status(200), "succeeded"),
        ("201", Answer::status(201), "succeeded"),
        ("204", Answer::status(204), "succeeded"),
        ("299", Answer::status(299), "succeeded"),
        ("2xx whose body outlasts the deadline", Answer::drip_body(), "succeeded"),
        ("300", Answer::status(300), "pending"),
        ("304", Answer::status(304), "pending"),
        ("307", Answer::redirect(307, "http://127.0.0.1:9/"), "pending"),
        ("400", Answer::status(400), "pending"),
        ("404", Answer::status(404), "pending"),
        ("500", Answer::status(500), "pending"),
        ("no answer", Answer::hang(), "pending"),
        ("a head that never ends", Answer::drip_head(), "pending"),
        ("interim answers for ever", Answer::endless_hints(), "pending"),
        ("hung up", Answer::close(), "pending"),
        ("not HTTP", Answer::raw("SSH-2.0-OpenSSH_9.2\r\n"), "pending"),
    ];
    for (case, answer, state) in cases {
        let receiver = Receiver::answering([answer]).await;
        let endpoint = acme.endpoint(&receiver).await;
        let event = acme.event("incident.created", json!({"case": case})).await;
        let delivery = endpoint.attempted(1, &event).await;
        assert_eq!(delivery["state"], state, "{case}: {delivery:#}");
        endpoint.delete("").await.expect(204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_five_attempts_at_their_times_with_the_same_bytes() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({"n": 1})).await;
    for (failures, seconds) in [(1, 30), (2, 300), (3, 1_800), (4, 7_200)] {
        let failed_at = host.now();
        let delivery = endpoint.attempted(failures, &event).await;
        assert_eq!(delivery["state"], "pending");
        let next: jiff::Timestamp = delivery["next_attempt_at"].as_str().unwrap().parse().unwrap();
        let delay_ms = next.as_millisecond() - failed_at.as_millisecond();
        assert!((seconds * 1_000..=seconds * 1_100).contains(&delay_ms), "after {failures}: {delay_ms} ms");

        host.advance_to(&delivery["next_attempt_at"], -1).await;
        host.claim_round().await;
        assert_eq!(receiver.received().len(), failures, "a millisecond early");
        host.advance(Duration::from_millis(1)).await;
        receiver.wait_for(failures + 1).await;
    }
    let delivery = endpoint.delivery_in("failed", &event).await;
    assert_eq!(delivery["attempts"], 5);
    assert_eq!(delivery["next_attempt_at"], Value::Null);
    host.advance(Duration::from_hours(24)).await;
    host.claim_round().await;

    let requests = receiver.received();
    assert_eq!(requests.len(), 5);
    for (number, request) in (1..).zip(&requests) {
        assert_eq!(request.body, requests[0].body, "attempt {number}");
        assert_eq!(request.header("x-revnoxa-attempt"), Some(number.to_string().as_str()));
        assert_eq!(without_what_may_differ(request), without_what_may_differ(&requests[0]));
    }
    let sent_at: HashSet<_> = requests.iter().map(|request| request.header("webhook-timestamp")).collect();
    assert_eq!(sent_at.len(), 5, "each attempt carries its own time");
}

fn without_what_may_differ(request: &revnoxa_tests::Received) -> Vec<(String, String)> {
    let may_differ = ["x-revnoxa-attempt", "webhook-timestamp", "webhook-signature"];
    let headers = request.headers.iter();
    headers.filter(|(name, _)| !may_differ.contains(&name.to_ascii_lowercase().as_str())).cloned().collect()
}

/// The long form, under load and many times, is in `durability`.
#[tokio::test(flavor = "multi_thread")]
async fn promise_4_durable_before_202() {
    let machine = Machine::new()
        // What the dead process had leased is taken back at the start, not when the lease ends; on PostgreSQL, where others
        // may work under theirs, when it ends.
        .set("REVNOXA_LEASE", if on_postgres() { "2s" } else { "10m" })
        .set("REVNOXA_ATTEMPT_TIMEOUT", "1s")
        // Whether the first attempt, which gets no answer, is made before the kill or after it, is chance.
        .set("REVNOXA_RETRY_DELAYS", "1s,1s,1s,1s");
    let host = machine.serve().await;
    let never = Gate::closed();
    let receiver = Receiver::answering([Answer::status(200).behind(&never), 200.into()]).await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    host.kill9().await;

    let _host = machine.serve().await;
    endpoint.delivery_in("succeeded", &event).await;
    assert!(receiver.received().iter().all(|request| request.event_id() == event.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_5_a_new_endpoint_is_tested_at_once_and_pending_until_it_answers() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    receiver.answer_tests(Answer::status(500).body("not yet"));
    let acme = host.tenant("acme").await;

    let endpoint = acme.endpoint(&receiver).await;
    assert_eq!(endpoint.created["test"]["delivered"], false);
    assert_eq!(endpoint.created["test"]["status_code"], 500);
    assert_eq!(endpoint.created["state"], "pending");
    assert!(endpoint.created["state_reason"].as_str().unwrap().contains("500"), "{}", endpoint.created);
    assert_eq!(acme.event("incident.created", json!({})).await.deliveries, 0, "only active endpoints get events");

    receiver.answer_tests(204);
    let again = endpoint.post_empty("/test").await.expect(200);
    assert_eq!(again["delivered"], true);
    assert_eq!(again["status_code"], 204);
    let endpoint_now = endpoint.read().await;
    assert_eq!((&endpoint_now["state"], &endpoint_now["state_reason"]), (&json!("active"), &Value::Null));
    assert_eq!(acme.event("incident.created", json!({})).await.deliveries, 1);
    assert_eq!(receiver.wait_for(1).await.len(), 1, "what came while it was pending is not sent");
    assert_eq!(receiver.tests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_rotation_counts_for_all_later_requests_retries_included() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let failed = endpoint.attempted(1, &event).await;

    let rotated = endpoint.post_empty("/rotate-secret").await.expect(200);
    let new_secret = rotated.text_of("secret");
    assert_ne!(new_secret, endpoint.secret);
    host.advance_to(&failed["next_attempt_at"], 0).await;
    let retry = &receiver.wait_for(2).await[1];
    verify::both_signatures(new_secret, retry, host.now());
    assert!(verify::standard_webhooks(&endpoint.secret, retry, host.now()).is_err(), "no overlap was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_the_history_shows_everything_newest_first() {
    let host = Host::start().await;
    let long = "x".repeat(16 * 1024 + 1);
    let receiver = Receiver::answering([Answer::status(500).body("no"), Answer::status(200).body(long)]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let older = endpoint.tenant.event("incident.created", json!({"n": 1})).await;
    let failed = endpoint.attempted(1, &older).await;
    host.advance_to(&failed["next_attempt_at"], 0).await;
    let delivery = endpoint.delivery_in("succeeded", &older).await;
    let newer = endpoint.tenant.event("incident.resolved", json!({"n": 2})).await;

    let listed = endpoint.deliveries("").await;
    let events: Vec<_> = listed.iter().map(|delivery| delivery["event_id"].as_str().unwrap()).collect();
    assert_eq!(events[..2], [newer.id, older.id]);

    assert_eq!(delivery["event_type"], "incident.created");
    assert_eq!(delivery["attempts"], 2);
    let requests = receiver.received();
    assert_eq!(delivery["request_body"].as_str().unwrap(), requests[0].text());
    for (number, request) in [(0, &requests[0]), (1, &requests[1])] {
        let attempt = &delivery["history"][number];
        assert_eq!(attempt["number"], number + 1);
        assert!(attempt["duration_ms"].is_u64(), "{attempt}");
        assert_eq!(attempt["error"], Value::Null, "there was an answer");
        for (name, value) in attempt["request_headers"].as_object().expect("headers") {
            assert_eq!(request.header(name), value.as_str(), "{name} as it was sent");
        }
        let recorded = &attempt["request_headers"];
        for name in ["X-Revnoxa-Signature", "webhook-signature", "X-Revnoxa-Attempt", "Content-Type"] {
            let known = recorded.as_object().unwrap().keys().any(|key| key.eq_ignore_ascii_case(name));
            assert!(known, "{name} is missing in {recorded}");
        }
    }
    let (first, second) = (&delivery["history"][0], &delivery["history"][1]);
    assert_eq!(first["started_at"], "2026-03-01T12:00:00.000Z");
    assert_eq!(second["started_at"], failed["next_attempt_at"]);
    assert_eq!((&first["status_code"], &first["response_body"]), (&json!(500), &json!("no")));
    assert_eq!(first["response_truncated"], false);
    assert_eq!(second["response_body"].as_str().unwrap().len(), 16 * 1024);
    assert_eq!(second["response_truncated"], true);
}

/// Attempts may hang longer than a test waits.
fn patient(config: &mut revnoxa_host::config::Config) {
    config.attempt_timeout = Duration::from_secs(60);
    config.lease = Duration::from_secs(300);
}

/// More of it: `tenant` (seeing), `fairness` (slowing).
#[tokio::test(flavor = "multi_thread")]
async fn promise_8_no_tenant_can_see_slow_or_stop_another() {
    let host = Host::builder().with(patient).start().await;
    let (silent, healthy) = (Receiver::answering([Answer::hang()]).await, Receiver::answering([200]).await);
    let mallory = host.tenant("mallory").await;
    let hanging = mallory.endpoint(&silent).await;
    let mut stuck = Vec::new();
    for n in 0..300 {
        stuck.push(mallory.event("incident.created", json!({"n": n})).await);
    }
    silent.wait_for(1).await;

    let acme = host.tenant("acme").await.endpoint(&healthy).await;
    let event = acme.tenant.event("incident.created", json!({})).await;
    acme.delivery_in("succeeded", &event).await;
    assert_eq!(hanging.delivery(&stuck[0]).await["history"], json!([]), "it still hangs");

    let theirs = acme.delivery(&event).await["id"].as_str().unwrap().to_owned();
    mallory.get(&format!("/deliveries/{theirs}")).await.expect_problem(404, "not-found");
    mallory.post_empty(&format!("/endpoints/{}/disable", acme.id)).await.expect_problem(404, "not-found");
    mallory.delete("").await.expect_problem(403, "forbidden");
    assert_eq!(acme.state().await, "active");
    drop(silent);
    eventually("the hung attempts to end", async || {
        (!hanging.delivery(&stuck[0]).await["history"].as_array()?.is_empty()).then_some(())
    })
    .await;
}
