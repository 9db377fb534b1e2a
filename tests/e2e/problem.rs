//! What a caller reads when something is refused (RFC 9457), word for word.

use revnoxa_tests::{Host, Reply};
use serde_json::json;

/// The body, readable, members in alphabetical order.
fn body(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    serde_json::to_string_pretty(&reply.json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_token() {
    let host = Host::start().await;
    insta::assert_snapshot!(body(&host.anyone().get("/v1/tenants").await), @r#"
    {
      "detail": "send a valid token as `Authorization: Bearer …`",
      "status": 401,
      "title": "A valid token is needed",
      "type": "https://revnoxa.com/problems/unauthorized"
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_of_the_wrong_scope() {
    let host = Host::start().await;
    insta::assert_snapshot!(body(&host.producer().await.get("/v1/tenants").await), @r#"
    {
      "detail": "this token's scope does not cover this call",
      "status": 403,
      "title": "The token may not do this",
      "type": "https://revnoxa.com/problems/forbidden"
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_there_and_not_yours() {
    let host = Host::start().await;
    insta::assert_snapshot!(body(&host.operator().get("/v1/tenants/nobody").await), @r#"
    {
      "detail": "there is no such thing here",
      "status": 404,
      "title": "Not found",
      "type": "https://revnoxa.com/problems/not-found"
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_field_and_a_wrong_type() {
    let host = Host::start().await;
    let operator = host.operator();
    insta::assert_snapshot!(body(&operator.post("/v1/tenants", json!({"id": "acme", "colour": "red"})).await), @r#"
    {
      "detail": "`colour`: unknown field `colour`, expected `id` or `name`",
      "errors": [
        {
          "field": "colour",
          "rule": "unknown field `colour`, expected `id` or `name`"
        }
      ],
      "status": 400,
      "title": "The request is not readable",
      "type": "https://revnoxa.com/problems/invalid-request"
    }
    "#);
    insta::assert_snapshot!(body(&operator.post("/v1/tenants", json!({"id": 7})).await), @r#"
    {
      "detail": "`id`: invalid type: integer `7`, expected a string",
      "errors": [
        {
          "field": "id",
          "rule": "invalid type: integer `7`, expected a string"
        }
      ],
      "status": 400,
      "title": "The request is not readable",
      "type": "https://revnoxa.com/problems/invalid-request"
    }
    "#);
    let malformed = operator.request("POST", "/v1/tenants").body("{\"id\":").send().await;
    insta::assert_snapshot!(body(&malformed), @r#"
    {
      "detail": "`id`: not JSON: EOF while parsing a value at line 1 column 6",
      "errors": [
        {
          "field": "id",
          "rule": "not JSON: EOF while parsing a value at line 1 column 6"
        }
      ],
      "status": 400,
      "title": "The request is not readable",
      "type": "https://revnoxa.com/problems/invalid-request"
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_rule_in_a_batch() {
    let host = Host::start().await;
    host.tenant("acme").await;
    let events = json!({"events": [
        {"tenant": "acme", "type": "incident.created", "data": 1},
        {"tenant": "acme", "type": "no.such", "data": 2},
    ]});
    insta::assert_snapshot!(body(&host.producer().await.post("/v1/events/batch", events).await), @r#"
    {
      "detail": "`events[1].type`: no such event type",
      "errors": [
        {
          "field": "events[1].type",
          "rule": "no such event type"
        }
      ],
      "status": 422,
      "title": "The request breaks a rule",
      "type": "https://revnoxa.com/problems/unprocessable"
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_refused_says_nothing_of_what_is_there() {
    let host = Host::builder().with(|config| config.allow_insecure_endpoints = false).start().await;
    let acme = host.tenant("acme").await;
    let refused = acme.post("/endpoints", json!({"url": "https://127.0.0.1/"})).await;
    insta::assert_snapshot!(body(&refused), @r#"
    {
      "detail": "`url`: host is not a public name or address",
      "errors": [
        {
          "field": "url",
          "rule": "host is not a public name or address"
        }
      ],
      "status": 422,
      "title": "The request breaks a rule",
      "type": "https://revnoxa.com/problems/unprocessable"
    }
    "#);
    for other in ["10.0.0.1", "[::1]", "169.254.169.254", "192.168.1.1:8443", "localhost", "metadata.google.internal"] {
        let reply = acme.post("/endpoints", json!({"url": format!("https://{other}/")})).await;
        assert_eq!(reply.text, refused.text, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts() {
    let host = Host::start().await;
    host.tenant("acme").await;
    insta::assert_snapshot!(body(&host.operator().post("/v1/tenants", json!({"id": "acme"})).await), @r#"
    {
      "detail": "the tenant `acme` exists already",
      "status": 409,
      "title": "Contradicts what is there",
      "type": "https://revnoxa.com/problems/conflict"
    }
    "#);
    let producer = host.producer().await;
    let event = |n: u8| json!({"tenant": "acme", "type": "incident.created", "data": n, "id": "mine"});
    producer.post("/v1/events", event(1)).await.expect(202);
    insta::assert_snapshot!(body(&producer.post("/v1/events", event(2)).await), @r#"
    {
      "detail": "`id`: was used before with another body",
      "errors": [
        {
          "field": "id",
          "rule": "was used before with another body"
        }
      ],
      "status": 409,
      "title": "Used before with another body",
      "type": "https://revnoxa.com/problems/idempotency-conflict"
    }
    "#);
    let keyed = |n: u8| {
        let event = json!({"tenant": "acme", "type": "incident.created", "data": n});
        producer.request("POST", "/v1/events").header("Idempotency-Key", "\"8e03978e\"").json(&event).send()
    };
    keyed(1).await.expect(202);
    insta::assert_snapshot!(body(&keyed(2).await), @r#"
    {
      "detail": "`Idempotency-Key`: was used before with another request",
      "errors": [
        {
          "field": "Idempotency-Key",
          "rule": "was used before with another request"
        }
      ],
      "status": 422,
      "title": "Used before with another request",
      "type": "https://revnoxa.com/problems/idempotency-key-reused"
    }
    "#);
    let unreadable =
        producer.request("POST", "/v1/events").header("Idempotency-Key", "\"").json(&event(1)).send().await;
    insta::assert_snapshot!(body(&unreadable), @r#"
    {
      "detail": "`Idempotency-Key`: must be one string of 1 to 255 visible ASCII characters, in double quotes or bare",
      "errors": [
        {
          "field": "Idempotency-Key",
          "rule": "must be one string of 1 to 255 visible ASCII characters, in double quotes or bare"
        }
      ],
      "status": 400,
      "title": "The request is not readable",
      "type": "https://revnoxa.com/problems/invalid-request"
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_method_media_type_or_size() {
    let host = Host::start().await;
    let operator = host.operator();
    insta::assert_snapshot!(body(&operator.request("PUT", "/v1/tenants").send().await), @r#"
    {
      "detail": "this path does not have this method",
      "status": 405,
      "title": "Method not allowed",
      "type": "https://revnoxa.com/problems/method-not-allowed"
    }
    "#);
    let text = operator.request("POST", "/v1/tenants").body_of(Some("text/plain"), "{}").send().await;
    insta::assert_snapshot!(body(&text), @r#"
    {
      "detail": "the body must be sent as `Content-Type: application/json`",
      "status": 415,
      "title": "Unsupported media type",
      "type": "https://revnoxa.com/problems/unsupported-media-type"
    }
    "#);
    let long = operator.request("POST", "/v1/tenants").body(vec![b' '; 64 * 1024 + 1]).send().await;
    insta::assert_snapshot!(body(&long), @r#"
    {
      "detail": "the body must be at most 65536 bytes",
      "status": 413,
      "title": "Too large",
      "type": "https://revnoxa.com/problems/payload-too-large"
    }
    "#);
}
