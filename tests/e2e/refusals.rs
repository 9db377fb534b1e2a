//! Requests that the API cannot make sense of: a clear 4xx, and nothing changes.

use revnoxa_tests::{Host, Receiver};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_body_is_checked_the_same_way() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let before = endpoint.read().await;
    let operator = host.operator();
    let at = |path: &str| format!("/v1/tenants/acme/endpoints/{}{path}", endpoint.id);
    let routes = [
        ("POST", "/v1/events".to_owned()),
        ("POST", "/v1/events/batch".to_owned()),
        ("POST", "/v1/tenants".to_owned()),
        ("POST", "/v1/tenants/acme/tokens".to_owned()),
        ("POST", "/v1/tokens".to_owned()),
        ("POST", "/v1/event-types".to_owned()),
        ("POST", "/v1/tenants/acme/endpoints".to_owned()),
        ("PATCH", at("")),
        ("POST", at("/rotate-secret")),
        ("POST", at("/enable")),
        ("POST", at("/recover")),
    ];
    let nonsense: [(&str, &[u8]); 10] = [
        ("malformed", b"{"),
        ("half a value", b"{\"id\":"),
        ("two values", b"{} {}"),
        ("a comma too many", b"{\"id\":\"x\",}"),
        ("a list", b"[]"),
        ("a list of values", b"[\"x\",\"y\"]"),
        ("a text", b"\"x\""),
        ("unknown field", b"{\"surprise\":1}"),
        ("not UTF-8", b"{\"id\":\"\xff\xfe\"}"),
        ("nested without end", &[b'['; 5_000]),
    ];
    for (method, path) in &routes {
        for (case, body) in nonsense {
            let reply = operator.request(method, path).body(body).send().await;
            assert_eq!(reply.status, 400, "{case}: {} {}", reply.call, reply.text);
            let reply = reply.expect_problem(400, "invalid-request");
            if case == "unknown field" {
                let fields = &reply["errors"];
                assert!(
                    fields.as_array().is_some_and(|all| all.iter().any(|one| one["field"] == "surprise")),
                    "{}: {}",
                    reply.call,
                    reply.text
                );
            }
        }
        for content_type in [Some("text/plain"), Some("application/x-www-form-urlencoded"), None] {
            let reply = operator.request(method, path).body_of(content_type, "{}").send().await;
            assert_eq!(reply.status, 415, "{content_type:?}: {} {}", reply.call, reply.text);
            reply.expect_problem(415, "unsupported-media-type");
        }
        let huge = format!("{{\"id\":\"{}\"}}", "x".repeat(1 << 20));
        if !path.starts_with("/v1/events") {
            let reply = operator.request(method, path).body(huge).send().await;
            reply.expect_problem(413, "payload-too-large");
        }
    }
    assert_eq!(endpoint.read().await, before);
    assert_eq!(operator.all("/v1/tenants").await.len(), 1);
    assert_eq!(operator.all("/v1/event-types").await.len(), 7);
    assert_eq!(endpoint.tenant.all("/endpoints").await.len(), 1);
    assert!(receiver.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_paths_are_refused() {
    let host = Host::start().await;
    let operator = host.operator();
    for (method, path) in [
        ("PUT", "/v1/events"),
        ("GET", "/v1/events"),
        ("DELETE", "/v1/tenants"),
        ("PATCH", "/v1/tenants/acme"),
        ("PUT", "/v1/tokens"),
        ("POST", "/livez"),
    ] {
        let reply = operator.request(method, path).send().await;
        assert_eq!(reply.status, 405, "{}: {}", reply.call, reply.text);
        let reply = reply.expect_problem(405, "method-not-allowed");
        assert!(reply.header("allow").is_some(), "{}: what would be allowed", reply.call);
    }
    for path in ["/", "/v1", "/v2/events", "/v1/nothing", "/v1/tenants/acme/nothing", "/v1/events/"] {
        let reply = operator.get(path).await;
        assert_eq!(reply.status, 404, "{}: {}", reply.call, reply.text);
        reply.expect_problem(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_in_paths_that_are_none_are_not_found() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let operator = host.operator();
    for id in ["x", "ep_", "ep_XYZ", "%00", "%ff", "..%2f..", "EP_00000000000000000000000000000001"] {
        for path in [
            format!("/v1/tenants/acme/endpoints/{id}"),
            format!("/v1/tenants/acme/deliveries/{id}"),
            format!("/v1/tenants/acme/events/{id}/deliveries"),
        ] {
            let reply = operator.get(&path).await;
            assert_eq!(reply.status, 404, "{}: {}", reply.call, reply.text);
        }
    }
    let mut bodies = Vec::new();
    for id in ["x", "ep_00000000000000000000000000000001"] {
        bodies.push(acme.get(&format!("/endpoints/{id}")).await.expect_problem(404, "not-found").text);
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_breaks_a_rule_is_refused_and_the_field_named() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    let cases = [
        ("url", json!("ftp://example.com/"), 422),
        ("url", json!("no url"), 422),
        ("url", json!(""), 422),
        ("url", json!("http://user:password@127.0.0.1/"), 422),
        ("url", json!(format!("http://127.0.0.1/{}", "x".repeat(10_000))), 422),
        ("event_types", json!(["no.such.type"]), 422),
        ("description", json!("x".repeat(513)), 422),
        ("description", json!("nul\u{0}"), 422),
        ("url", json!(1), 400),
        ("url", Value::Null, 400),
        ("event_types", json!("incident.created"), 400),
        ("event_types", json!([1]), 400),
        ("headers", json!({"x-a": 1}), 400),
        ("description", json!(1), 400),
        ("secret", json!("whsec_mine"), 400),
        ("state", json!("active"), 400),
    ];
    for (field, value, status) in cases {
        let mut body = json!({"url": receiver.url()});
        body[field] = value;
        let reply = acme.post("/endpoints", body.clone()).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.blamed_field().starts_with(field), "{body}: {}", reply.text);
    }
    acme.post("/endpoints", json!({})).await.expect_problem(400, "invalid-request");
    assert!(acme.all("/endpoints").await.is_empty());
    assert!(receiver.tests().is_empty());
}
