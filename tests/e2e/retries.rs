//! When a failed delivery is tried again, and when no more.

use std::time::Duration;

use jiff::Timestamp;
use revnoxa_tests::{Answer, Endpoint, Event, Host, Receiver};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);

/// The delay, in whole seconds rounded down, between now and the delivery's next attempt.
fn delay(host: &Host, delivery: &Value) -> i64 {
    let next: Timestamp = delivery["next_attempt_at"].as_str().expect("another attempt").parse().unwrap();
    (next.as_millisecond() - host.now().as_millisecond()) / 1_000
}

/// Lets the delivery's attempts come due until it has `n` of them.
async fn attempt_until(n: usize, host: &Host, endpoint: &Endpoint, event: &Event) -> Value {
    let mut delivery = endpoint.attempted(1, event).await;
    for made in 2..=n {
        host.advance_to(&delivery["next_attempt_at"], 0).await;
        delivery = endpoint.attempted(made, event).await;
    }
    delivery
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_at_any_attempt_ends_it() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    for success_at in 1..=5 {
        let answers = (1..=success_at).map(|attempt| if attempt == success_at { 200 } else { 500 });
        let receiver = Receiver::answering(answers).await;
        let endpoint = acme.endpoint(&receiver).await;
        let event = acme.event("incident.created", json!({})).await;
        let delivery = attempt_until(success_at, &host, &endpoint, &event).await;
        assert_eq!(delivery["state"], "succeeded");
        assert_eq!(delivery["attempts"], success_at);
        assert_eq!(delivery["next_attempt_at"], Value::Null);

        host.advance(Duration::from_hours(3)).await;
        host.claim_round().await;
        assert_eq!(receiver.received().len(), success_at);
        endpoint.delete("").await.expect(204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_delays_are_a_setting() {
    let delays = vec![Duration::from_secs(1), Duration::from_secs(7)];
    let host = Host::builder().with(|config| config.retry_delays = delays).start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    assert_eq!(delay(&host, &endpoint.attempted(1, &event).await), 1);
    assert_eq!(delay(&host, &attempt_until(2, &host, &endpoint, &event).await), 7);
    let last = endpoint.attempted(2, &event).await;
    host.advance_to(&last["next_attempt_at"], 0).await;
    assert_eq!(endpoint.attempted(3, &event).await["state"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_lengthens_a_delay_up_to_two_hours_and_never_shortens_it() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let in_an_hour = "Sun, 01 Mar 2026 13:00:00 GMT";
    let cases = [
        ("429 with seconds", 429, "60", 60..=66),
        ("503 with seconds", 503, "3600", 3_600..=3_960),
        ("503 with a date", 503, in_an_hour, 3_600..=3_960),
        ("shorter than ours", 503, "1", 30..=33),
        ("in the past", 429, "Sun, 01 Mar 2026 11:00:00 GMT", 30..=33),
        ("more than two hours", 503, "86400", 7_200..=7_920),
        ("a number beyond all bounds", 429, "99999999999999999999999", 30..=7_920),
        ("no time at all", 503, "soon", 30..=33),
        ("negative", 429, "-5", 30..=33),
        ("another status may not ask", 500, "3600", 30..=33),
    ];
    for (case, status, retry_after, seconds) in cases {
        let receiver = Receiver::answering([Answer::status(status).header("Retry-After", retry_after)]).await;
        let endpoint = acme.endpoint(&receiver).await;
        let event = acme.event("incident.created", json!({})).await;
        let next = delay(&host, &endpoint.attempted(1, &event).await);
        assert!(seconds.contains(&next), "{case}: {next} s");
        endpoint.delete("").await.expect(204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_does_not_cut_a_long_delay() {
    let host = Host::start().await;
    let receiver = Receiver::answering([Answer::status(503).header("Retry-After", "60")]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let fourth = attempt_until(4, &host, &endpoint, &event).await;
    let next = delay(&host, &fourth);
    assert!((7_200..=7_920).contains(&next), "{next} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_disables_the_endpoint_and_says_so() {
    let host = Host::start().await;
    let receiver = Receiver::answering([410]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let delivery = endpoint.delivery_in("failed", &event).await;
    assert_eq!(delivery["attempts"], 1);

    let disabled = endpoint.comes_to("disabled").await;
    assert!(disabled["state_reason"].as_str().unwrap().contains("410"), "{disabled}");
    host.advance(Duration::from_hours(3)).await;
    host.claim_round().await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_days_without_one_success_disable_the_endpoint() {
    let host = Host::builder().with(|config| config.retry_delays = vec![MINUTE]).start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    fail_once_more(&host, &endpoint).await;

    host.advance(Duration::from_hours(5 * 24) - 30 * MINUTE).await;
    fail_once_more(&host, &endpoint).await;
    assert_eq!(endpoint.state().await, "active", "not yet five days");
    host.advance(31 * MINUTE).await;
    fail_once_more(&host, &endpoint).await;
    let disabled = endpoint.comes_to("disabled").await;
    let reason = disabled["state_reason"].as_str().unwrap();
    assert!(reason.contains("5 d") || reason.contains("120 h"), "it says why: {reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_success_starts_the_five_days_anew() {
    let host = Host::builder().with(|config| config.retry_delays = vec![MINUTE]).start().await;
    let receiver = Receiver::answering([500, 500, 200, 500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    fail_once_more(&host, &endpoint).await;
    host.advance(Duration::from_hours(4 * 24)).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &event).await;
    host.advance(Duration::from_hours(2 * 24)).await;
    fail_once_more(&host, &endpoint).await;
    assert_eq!(endpoint.state().await, "active");
    host.advance(Duration::from_hours(4 * 24)).await;
    fail_once_more(&host, &endpoint).await;
    assert_eq!(endpoint.state().await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_enabled_again_has_its_five_days_anew() {
    let host = Host::builder().with(|config| config.retry_delays = vec![MINUTE]).start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    fail_once_more(&host, &endpoint).await;
    host.advance(Duration::from_hours(6 * 24)).await;
    fail_once_more(&host, &endpoint).await;
    endpoint.comes_to("disabled").await;

    endpoint.post("/enable", json!({"held": "drop"})).await.expect(200);
    fail_once_more(&host, &endpoint).await;
    assert_eq!(endpoint.state().await, "active", "one failure after it was enabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_an_endpoint_may_fail_is_a_setting() {
    let change = |config: &mut revnoxa_host::config::Config| {
        config.retry_delays = vec![MINUTE];
        config.disable_after_failing_for = 60 * MINUTE;
    };
    let host = Host::builder().with(change).start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    fail_once_more(&host, &endpoint).await;
    host.advance(61 * MINUTE).await;
    fail_once_more(&host, &endpoint).await;
    endpoint.comes_to("disabled").await;
}

/// Posts an event and sees its delivery through both of its failures, or as far as the endpoint's state lets it.
async fn fail_once_more(host: &Host, endpoint: &Endpoint) {
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let failed = endpoint.attempted(1, &event).await;
    if failed["state"] == "pending" && endpoint.state().await == "active" {
        host.advance_to(&failed["next_attempt_at"], 0).await;
        endpoint.attempted(2, &event).await;
    }
}
