//! What a service shows besides its API: health, its description, its metrics.

use revnoxa_tests::{Host, Receiver, on_postgres};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_it_lives_and_is_ready() {
    let host = Host::start().await;
    assert_eq!(host.anyone().get("/livez").await.expect(200).json, json!({"status": "ok"}));
    let mut ready = host.anyone().get("/readyz").await.expect(200).json;
    let skew_ms = ready.as_object_mut().unwrap().remove("clock_skew_ms").and_then(|skew| skew.as_i64());
    assert_eq!(ready, json!({"status": "ok"}));
    assert_eq!(skew_ms.is_some(), on_postgres());
    assert!(skew_ms.is_none_or(|skew| skew.abs() < 1_000), "both are on this machine: {skew_ms:?}");
}

/// Every route of the design that there is yet.
const ROUTES: [(&str, &[&str]); 34] = [
    ("/v1/events", &["post"]),
    ("/v1/events/batch", &["post"]),
    ("/v1/tenants", &["get", "post"]),
    ("/v1/tenants/{}", &["get", "delete"]),
    ("/v1/tenants/{}/tokens", &["get", "post"]),
    ("/v1/tenants/{}/tokens/{}", &["delete"]),
    ("/v1/tenants/{}/portal-links", &["post"]),
    ("/v1/tokens", &["get", "post"]),
    ("/v1/tokens/{}", &["delete"]),
    ("/v1/event-types", &["get", "post"]),
    ("/v1/event-types/{}", &["delete"]),
    ("/v1/tenants/{}/endpoints", &["get", "post"]),
    ("/v1/tenants/{}/endpoints/{}", &["get", "patch", "delete"]),
    ("/v1/tenants/{}/endpoints/{}/test", &["post"]),
    ("/v1/tenants/{}/endpoints/{}/rotate-secret", &["post"]),
    ("/v1/tenants/{}/endpoints/{}/enable", &["post"]),
    ("/v1/tenants/{}/endpoints/{}/disable", &["post"]),
    ("/v1/tenants/{}/endpoints/{}/recover", &["post"]),
    ("/v1/tenants/{}/endpoints/{}/deliveries", &["get"]),
    ("/v1/tenants/{}/events/{}/deliveries", &["get"]),
    ("/v1/tenants/{}/deliveries/{}", &["get"]),
    ("/v1/tenants/{}/deliveries/{}/retry", &["post"]),
    ("/v1/tenants/{}/plugins", &["get", "post"]),
    ("/v1/tenants/{}/plugins/{}", &["get", "delete"]),
    ("/v1/tenants/{}/plugins/{}/versions", &["get", "post"]),
    ("/v1/tenants/{}/plugins/{}/versions/{}", &["get", "delete"]),
    ("/v1/tenants/{}/plugins/{}/versions/{}/dry-run", &["post"]),
    ("/v1/tenants/{}/plugins/{}/versions/{}/replay", &["post"]),
    ("/v1/tenants/{}/endpoints/{}/plugins", &["get", "put"]),
    ("/livez", &["get"]),
    ("/readyz", &["get"]),
    ("/metrics", &["get"]),
    ("/openapi.json", &[]),
    ("/docs", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_describes_every_route() {
    let host = Host::start().await;
    let document = host.anyone().get("/openapi.json").await.expect(200);
    assert!(document.text_of("openapi").starts_with("3.1"), "{}", document["openapi"]);
    let paths = document["paths"].as_object().expect("paths");
    let described = |wanted: &str| paths.iter().find(|(path, _)| without_names(path) == wanted).map(|(_, item)| item);
    for (route, methods) in ROUTES {
        for method in methods {
            let item = described(route).unwrap_or_else(|| panic!("{route} is missing"));
            let operation = &item[*method];
            assert!(operation.is_object(), "{method} {route} is missing");
            let answers = operation["responses"].as_object().expect("answers");
            assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {route}: {answers:?}");
            assert!(operation["summary"].is_string(), "{method} {route} has no summary");
            if route.starts_with("/v1") {
                assert!(answers.contains_key("401"), "{method} {route} does not mention 401");
            }
        }
    }
    let known: Vec<_> = ROUTES.iter().filter_map(|(route, methods)| (!methods.is_empty()).then_some(*route)).collect();
    assert_eq!(paths.len(), known.len(), "nothing is described that the design does not name: {:?}", paths.keys());
    for reference in references(&document.json) {
        let pointer = reference.strip_prefix('#').expect("a reference into the document");
        assert!(document.json.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

/// The path with `{}` for each parameter.
fn without_names(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(to) if name == "$ref" => vec![to.as_str()],
                other => references(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_route_exists_and_wants_a_token() {
    let host = Host::start().await;
    let document = host.anyone().get("/openapi.json").await.expect(200);
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| key.as_str() != "parameters") {
            let path = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
            let path = path.collect::<Vec<_>>().join("/");
            let reply = host.anyone().request(&method.to_uppercase(), &path).send().await;
            let expected = if path.starts_with("/v1") { 401 } else { 200 };
            assert_eq!(reply.status, expected, "{}: {}", reply.call, reply.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_can_be_read_by_people() {
    let host = Host::start().await;
    let mut path = "/docs".to_owned();
    let page = loop {
        let page = host.anyone().get(&path).await;
        match page.header("location") {
            Some(next) => path = next.to_owned(),
            None => break page.expect(200),
        }
    };
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(!page.text.contains("src=\"http") && !page.text.contains("href=\"http"), "it loads nothing from elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_there_and_name_no_tenant() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("tenant-in-no-metric").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &event).await;
    let metrics = host.anyone().get("/metrics").await.expect(200);
    assert!(!metrics.text.contains("tenant-in-no-metric") && !metrics.text.contains(&endpoint.id), "{}", metrics.text);
}
