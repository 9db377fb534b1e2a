//! Rate limits of tenants: events posted for them, and calls of their own.

use std::time::Duration;

use revnoxa_host::config::Config;
use revnoxa_tests::{Client, Host, Machine, Receiver, Reply};
use serde_json::{Value, json};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

async fn host_with(change: impl FnOnce(&mut Config)) -> Host {
    Host::builder().with(change).start().await
}

/// A host that takes so many events of a tenant.
async fn taking(events: &str) -> Host {
    host_with(|config| config.event_rate_limit = Some(events.parse().unwrap())).await
}

/// A host where a tenant may call so often.
async fn answering(calls: &str) -> Host {
    host_with(|config| config.api_rate_limit = Some(calls.parse().unwrap())).await
}

fn event(tenant: &str) -> Value {
    json!({"tenant": tenant, "type": "incident.created", "data": {}})
}

async fn post(producer: &Client, tenant: &str) -> Reply {
    producer.post("/v1/events", event(tenant)).await
}

async fn post_batch(producer: &Client, tenants: &[&str]) -> Reply {
    let events: Vec<Value> = tenants.iter().map(|tenant| event(tenant)).collect();
    producer.post("/v1/events/batch", json!({"events": events})).await
}

/// What the answer tells of a tenant's limit.
#[track_caller]
fn assert_left(reply: &Reply, limit: &str) {
    assert_eq!(reply.header("ratelimit"), Some(limit), "{}: {}", reply.call, reply.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_beyond_a_tenant_s_limit_are_refused_until_time_has_passed() {
    let host = taking("3/1m").await;
    host.tenant("acme").await;
    host.tenant("other").await;
    let producer = host.producer().await;
    for (left, whole_in) in [(2, 20), (1, 40), (0, 60)] {
        let taken = post(&producer, "acme").await.expect(202);
        assert_eq!(taken.header("ratelimit-policy"), Some(r#""events";q=3;w=60"#));
        assert_left(&taken, &format!(r#""events";r={left};t={whole_in};pk=:YWNtZQ==:"#));
        assert_eq!(taken.header("retry-after"), None);
    }
    for _ in 0..2 {
        let refused = post(&producer, "acme").await.expect_problem(429, "rate-limited");
        assert_eq!(refused.header("retry-after"), Some("20"));
        assert_eq!(refused.header("ratelimit-policy"), Some(r#""events";q=3;w=60"#));
        assert_left(&refused, r#""events";r=0;t=20;pk=:YWNtZQ==:"#);
        let rule = "`acme` may have 3 events in 60 s; try again in 20 s";
        let expected = json!({
            "type": "https://revnoxa.com/problems/rate-limited",
            "title": "Too many requests",
            "status": 429,
            "detail": format!("`tenant`: {rule}"),
            "errors": [{"field": "tenant", "rule": rule}],
        });
        assert_eq!(refused.json, expected);
    }
    assert_left(&post(&producer, "other").await.expect(202), r#""events";r=2;t=20;pk=:b3RoZXI=:"#);
    // An operator's post counts like a producer's.
    post(&host.operator(), "acme").await.expect_problem(429, "rate-limited");

    host.advance(20 * S - MS).await;
    let refused = post(&producer, "acme").await.expect_problem(429, "rate-limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    host.advance(MS).await;
    post(&producer, "acme").await.expect(202);
    post(&producer, "acme").await.expect(429);

    host.advance(3_600 * S).await;
    for _ in 0..3 {
        post(&producer, "acme").await.expect(202);
    }
    post(&producer, "acme").await.expect(429);
    let metrics = host.anyone().get("/metrics").await.expect(200);
    assert!(metrics.text.contains(r#"revnoxa_rate_limited_total{limit="events"}"#), "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_one_tenant_s_limit_is_refused_whole_and_changes_nothing() {
    let host = taking("10/1m").await;
    let (for_acme, for_bob) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    host.tenant("acme").await.endpoint(&for_acme).await;
    host.tenant("bob").await.endpoint(&for_bob).await;
    let producer = host.producer().await;
    let taken = post_batch(&producer, &["acme"; 6]).await.expect(202);
    assert_left(&taken, r#""events";r=4;t=36;pk=:YWNtZQ==:"#);

    let refused = post_batch(&producer, &["bob", "acme", "acme", "bob", "acme", "acme", "acme"]).await;
    let refused = refused.expect_problem(429, "rate-limited");
    assert_eq!(refused.blamed_field(), "events[1].tenant");
    assert!(refused.text_of("detail").contains("`acme` may have 10 events in 60 s"), "{}", refused.text);
    assert_eq!(refused.header("retry-after"), Some("6"));
    assert_left(&refused, r#""events";r=4;t=6;pk=:YWNtZQ==:"#);

    // Neither has less than before; of those that are taken, the answer tells of the one with the least left.
    assert_left(&post(&producer, "bob").await.expect(202), r#""events";r=9;t=6;pk=:Ym9i:"#);
    let taken = post_batch(&producer, &["bob", "acme", "acme", "acme", "acme", "bob"]).await.expect(202);
    assert_left(&taken, r#""events";r=0;t=60;pk=:YWNtZQ==:"#);
    for_acme.wait_for(10).await;
    for_bob.wait_for(3).await;
    host.claim_round().await;
    assert_eq!((for_acme.received().len(), for_bob.received().len()), (10, 3), "nothing of what was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tenants_over_their_limits_the_one_that_waits_longer_is_named() {
    let host = taking("10/1m").await;
    host.tenant("acme").await;
    host.tenant("bob").await;
    let producer = host.producer().await;
    post_batch(&producer, &["acme", "bob"].repeat(10)).await.expect(202);
    let refused = post_batch(&producer, &["acme", "bob", "bob", "bob"]).await.expect_problem(429, "rate-limited");
    assert_eq!((refused.blamed_field(), refused.header("retry-after")), ("events[1].tenant", Some("18")));
    host.advance(18 * S).await;
    post_batch(&producer, &["acme", "bob", "bob", "bob"]).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_would_never_fit_is_not_told_to_try_again() {
    let host = taking("10/1m").await;
    host.tenant("acme").await;
    host.tenant("bob").await;
    let producer = host.producer().await;
    let tenants = [&["bob"][..], &["acme"; 11][..]].concat();
    let refused = post_batch(&producer, &tenants).await.expect_problem(422, "unprocessable");
    assert_eq!((refused.blamed_field(), refused.header("retry-after")), ("events[1].tenant", None));
    assert!(refused.text_of("detail").contains("more at once than ever fit"), "{}", refused.text);
    let taken = post_batch(&producer, &["acme"; 10]).await.expect(202);
    assert_left(&taken, r#""events";r=0;t=60;pk=:YWNtZQ==:"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_s_id_is_still_free_and_repetitions_count() {
    let host = taking("2/1m").await;
    host.tenant("acme").await;
    let producer = host.producer().await;
    let with_id = |id: &str, data: u8| json!({"tenant": "acme", "type": "incident.created", "data": data, "id": id});
    let first = producer.post("/v1/events", with_id("a", 1)).await.expect(202);
    let again = producer.post("/v1/events", with_id("a", 1)).await.expect(202);
    assert_eq!(first.json, again.json);
    producer.post("/v1/events", with_id("b", 1)).await.expect_problem(429, "rate-limited");
    host.advance(60 * S).await;
    // Refused for what it says, it is not counted.
    let unknown = json!({"tenant": "acme", "type": "no.such", "data": 1});
    producer.post("/v1/events", unknown).await.expect_problem(422, "unprocessable");
    let other = producer.post("/v1/events", with_id("b", 2)).await.expect(202);
    assert_left(&other, r#""events";r=1;t=30;pk=:YWNtZQ==:"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_a_tenant_s_limit_are_refused_until_time_has_passed() {
    let host = answering("4/1m").await;
    let (acme, other) = (host.tenant("acme").await, host.tenant("other").await);
    let second_token = host.known_tenant("acme").await;
    assert_left(&acme.get("/endpoints").await.expect(200), r#""api";r=3;t=15;pk=:YWNtZQ==:"#);
    assert_left(&acme.get("/endpoints/ep_none").await.expect(404), r#""api";r=2;t=30;pk=:YWNtZQ==:"#);
    let types = host.anyone().with_token(acme.token()).get("/v1/event-types").await.expect(200);
    assert_left(&types, r#""api";r=1;t=45;pk=:YWNtZQ==:"#);
    let plugins = second_token.get("/plugins").await.expect(200);
    assert_eq!(plugins.header("ratelimit-policy"), Some(r#""api";q=4;w=60"#));
    assert_left(&plugins, r#""api";r=0;t=60;pk=:YWNtZQ==:"#);

    for client in [&acme, &second_token] {
        let refused = client.post("/endpoints", json!({"url": "https://example.com/"})).await;
        let refused = refused.expect_problem(429, "rate-limited");
        assert_eq!(refused["detail"], "`acme` may make 4 calls in 60 s; try again in 15 s");
        assert_eq!(refused["errors"], Value::Null, "no part of the request is at fault");
        assert_eq!(refused.header("retry-after"), Some("15"));
        assert_left(&refused, r#""api";r=0;t=15;pk=:YWNtZQ==:"#);
    }
    assert_left(&other.get("/endpoints").await.expect(200), r#""api";r=3;t=15;pk=:b3RoZXI=:"#);
    // Events are another limit, here none.
    acme.event("incident.created", json!({})).await;

    host.advance(15 * S - MS).await;
    acme.get("/endpoints").await.expect(429);
    host.advance(MS).await;
    acme.get("/endpoints").await.expect(200);
    acme.get("/endpoints").await.expect(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_producers_calls_count_for_no_tenant() {
    let host = answering("2/1m").await;
    let acme = host.tenant("acme").await;
    let as_operator = acme.with_token(host.operator().token());
    for _ in 0..5 {
        let reply = as_operator.get("/endpoints").await.expect(200);
        assert_eq!((reply.header("ratelimit"), reply.header("ratelimit-policy")), (None, None));
        host.producer().await.get("/v1/event-types").await.expect(200);
    }
    assert_left(&acme.get("/endpoints").await.expect(200), r#""api";r=1;t=30;pk=:YWNtZQ==:"#);
    acme.get("/endpoints").await.expect(200);
    acme.get("/endpoints").await.expect(429);
    // Whoever has used up its calls can still be seen to.
    as_operator.get("/endpoints").await.expect(200);
    acme.portal_link().await;
    host.operator().delete("/v1/tenants/acme").await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_uses_up_another_tenant_s_calls() {
    let host = answering("3/1m").await;
    let (acme, mallory) = (host.tenant("acme").await, host.tenant("mallory").await);
    let as_mallory = acme.with_token(mallory.token());
    for _ in 0..3 {
        as_mallory.get("/endpoints").await.expect_problem(404, "not-found");
    }
    as_mallory.get("/endpoints").await.expect_problem(429, "rate-limited");
    for _ in 0..5 {
        let stranger = acme.with_token("rvx_tenant_guessed").get("/endpoints").await;
        assert_eq!(stranger.expect_problem(401, "unauthorized").header("ratelimit"), None);
    }
    assert_left(&acme.get("/endpoints").await.expect(200), r#""api";r=2;t=20;pk=:YWNtZQ==:"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_count_as_calls_and_say_when_to_come_again() {
    let host = answering("5/1m").await;
    let acme = host.tenant("acme").await;
    let reader = acme.sign_in().await;
    let page = reader.get("/settings/webhooks/plugins").await.expect(200);
    assert_eq!(page.header("ratelimit"), Some(r#""api";r=3;t=24;pk=:YWNtZQ==:"#));
    let new = reader.get("/settings/webhooks/new").await.expect(200);
    let sign_out = new.form("Sign out");
    acme.get("/endpoints").await.expect(200);
    reader.get("/settings/webhooks").await.expect(200);

    let refused = reader.get("/settings/webhooks").await.expect(429);
    assert_eq!(refused.title(), "Too many requests · Revnoxa");
    let text = refused.text();
    assert!(text.contains("`acme` may make 5 calls in 60 s; try again in 12 s."), "{text}");
    assert_eq!(refused.header("retry-after"), Some("12"));
    assert_eq!(refused.header("ratelimit"), Some(r#""api";r=0;t=12;pk=:YWNtZQ==:"#));
    assert!(refused.header("content-security-policy").is_some(), "it is a page like the others");
    sign_out.submit(&reader).await.expect(429);
    acme.get("/endpoints").await.expect(429);
    reader.get("/settings/assets/settings.css").await.expect(200);
    host.tenant("other").await.sign_in().await.get("/settings/webhooks").await.expect(200);

    host.advance(12 * S).await;
    let page = refused.follow("To your endpoints").await.expect(200);
    assert_eq!(page.title(), "Endpoints · Revnoxa");
    host.advance(12 * S).await;
    sign_out.submit(&reader).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_does_not_make_a_client_wait_before_it_follows() {
    let host = answering("5/1m").await;
    let acme = host.tenant("acme").await;
    let receiver = Receiver::answering([200]).await;
    let as_operator = acme.with_token(host.operator().token());
    let endpoint = as_operator.post("/endpoints", json!({"url": receiver.url()})).await.expect(201);
    let reader = acme.sign_in().await;
    let csrf = reader.get("/settings/webhooks").await.form("Sign out").value("csrf");
    let cookie = reader.cookies().remove(0);
    let path = format!("/settings/webhooks/endpoints/{}/delete", endpoint.text_of("id"));
    let delete = host.anyone().request("POST", &path).header("Origin", &host.url());
    let delete = delete.header("Cookie", &format!("{}={}", cookie.name, cookie.value));
    let deleted = delete.body_of(Some("application/x-www-form-urlencoded"), format!("csrf={csrf}")).send().await;
    assert_eq!((deleted.expect(303).header("ratelimit"), acme.get("/endpoints").await.status), (None, 200));
    let list = reader.get("/settings/webhooks").await.expect(200);
    assert_eq!(list.header("ratelimit"), Some(r#""api";r=0;t=60;pk=:YWNtZQ==:"#), "the redirect was counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_limit_nothing_is_told_of_one() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let (posted, read) = (post(&host.producer().await, "acme").await.expect(202), acme.get("/endpoints").await);
    for reply in [posted, read.expect(200)] {
        assert_eq!((reply.header("ratelimit"), reply.header("ratelimit-policy")), (None, None), "{}", reply.call);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_cannot_be_kept_refuse_to_start() {
    let cases = [
        ("REVNOXA_EVENT_RATE_LIMIT", "0"),
        ("REVNOXA_EVENT_RATE_LIMIT", "0/1m"),
        ("REVNOXA_EVENT_RATE_LIMIT", "100/0s"),
        ("REVNOXA_EVENT_RATE_LIMIT", "none"),
        ("REVNOXA_API_RATE_LIMIT", "600"),
        ("REVNOXA_API_RATE_LIMIT", "-5/1m"),
        ("REVNOXA_API_RATE_LIMIT", "10/500ms"),
        ("REVNOXA_API_RATE_LIMIT", "5000000/1s"),
    ];
    for (name, value) in cases {
        let refused = Machine::new().set(name, value).run(&["serve"]).await;
        assert!(!refused.status.success(), "{name}={value}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let key = name.trim_start_matches("REVNOXA_").to_lowercase();
        assert!(said.contains(&key), "{name}={value}: {said}");
        assert!(said.contains("must be `off` or COUNT/TIME such as `600/1m`"), "{name}={value}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_host_limits_calls_unless_told_otherwise_and_events_if_told() {
    let machine = Machine::new().unset("REVNOXA_API_RATE_LIMIT");
    let host = machine.serve().await;
    let acme = machine.tenant("acme").await;
    let read = acme.get("/endpoints").await.expect(200);
    assert_eq!(read.header("ratelimit-policy"), Some(r#""api";q=6000;w=60"#));
    let producer = machine.producer().await;
    assert_eq!(post(&producer, "acme").await.expect(202).header("ratelimit-policy"), None);
    host.kill9().await;

    let machine = machine.set("REVNOXA_API_RATE_LIMIT", "off").set("REVNOXA_EVENT_RATE_LIMIT", "2/1h");
    let _host = machine.serve().await;
    assert_eq!(acme.get("/endpoints").await.expect(200).header("ratelimit-policy"), None);
    for _ in 0..2 {
        post(&producer, "acme").await.expect(202);
    }
    let refused = post(&producer, "acme").await.expect_problem(429, "rate-limited");
    let retry_after: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1_700..=1_800).contains(&retry_after), "{retry_after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_tells_of_refusals() {
    let host = Host::start().await;
    let document = host.anyone().get("/openapi.json").await.expect(200);
    let mut limited = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let refusal = &operation["responses"]["429"];
            assert_eq!(refusal.is_object(), path.starts_with("/v1/"), "{method} {path}");
            let Some(reference) = refusal["$ref"].as_str() else { continue };
            let refusal = document.json.pointer(reference.trim_start_matches('#')).expect(reference);
            for header in ["Retry-After", "RateLimit-Policy", "RateLimit"] {
                assert!(refusal["headers"][header].is_object(), "{method} {path}: {header}");
            }
            assert!(refusal["content"]["application/problem+json"].is_object(), "{method} {path}");
            limited += 1;
        }
    }
    assert!(limited > 30, "{limited}");
}
