//! Trying a plugin before it counts: upload, dry run, replay.

use revnoxa_tests::{Endpoint, Host, Receiver, Reply, Tenant};
use serde_json::{Value, json};

use crate::plugin_flow::{attach, component, plugin, redact, upload};

async fn dry_run(tenant: &Tenant, name: &str, version: &str, request: Value) -> Reply {
    tenant.post(&format!("/plugins/{name}/versions/{version}/dry-run"), request).await
}

async fn replay(endpoint: &Endpoint, name: &str, version: &str, last: usize, settings: Value) -> Reply {
    let request = json!({"endpoint": endpoint.id, "last": last, "settings": settings});
    endpoint.tenant.post(&format!("/plugins/{name}/versions/{version}/replay"), request).await.expect(200)
}

async fn newest(tenant: &Tenant, name: &str) -> String {
    tenant.all(&format!("/plugins/{name}/versions")).await[0]["version"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_becomes_a_version_named_by_its_digest() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let bytes = component("redact-fields");
    let first = upload(&acme, "mine", bytes.clone()).await.expect(201);
    assert_eq!(first["created"], true);
    let again = upload(&acme, "mine", bytes.clone()).await.expect(200);
    assert_eq!((&again["version"], &again["created"]), (&first["version"], &json!(false)));
    let versions = acme.all("/plugins/mine/versions").await;
    assert_eq!(versions.len(), 1);
    assert_eq!((&versions[0]["version"], &versions[0]["size_bytes"]), (&first["version"], &json!(bytes.len())));
    let read = acme.get(&format!("/plugins/mine/versions/{}", first.text_of("version"))).await.expect(200);
    assert_eq!(read["version"], first["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_with_the_reason() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    let mut cut_off = component("redact-fields");
    cut_off.truncate(cut_off.len() / 2);
    let cases = [
        (b"(component)".to_vec(), "does not begin as one does"),
        (core_module, "core module"),
        (b"\x7fELF\x02\x01\x01".to_vec(), "compiled already"),
        (empty_component, "does not export `revnoxa:webhook/handler@1.0.0`"),
        (cut_off, "invalid component"),
        (Vec::new(), "does not begin as one does"),
    ];
    for (bytes, reason) in cases {
        let refused = upload(&acme, "mine", bytes).await.expect_problem(422, "unprocessable");
        assert!(refused.text.contains(reason), "{reason}: {}", refused.text);
    }
    let as_json = acme.request("POST", "/plugins/mine/versions").body(component("redact-fields")).send().await;
    as_json.expect_problem(415, "unsupported-media-type");
    upload(&acme, "absent", component("redact-fields")).await.expect_problem(404, "not-found");
    upload(&acme, "redact-fields", component("redact-fields")).await.expect_problem(409, "conflict");
    assert_eq!(acme.all("/plugins/mine/versions").await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_is_told_before_anything_is_compiled() {
    let host = Host::builder().with(|config| config.plugins.upload = 65_536).start().await;
    let acme = host.tenant("acme").await;
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let refused = upload(&acme, "mine", component("redact-fields")).await.expect_problem(413, "payload-too-large");
    assert!(refused.text.contains("65536"), "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_tells_of_its_progress_to_who_asks() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    acme.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let lines = async |bytes: Vec<u8>| {
        let request = acme.request("POST", "/plugins/mine/versions").header("accept", "application/x-ndjson");
        let told = request.body_of(Some("application/wasm"), bytes).send().await.expect(200);
        assert_eq!(told.header("content-type"), Some("application/x-ndjson"));
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        told.text.lines().map(line).collect::<Vec<Value>>()
    };
    let told = lines(component("redact-fields")).await;
    let (last, before) = told.split_last().unwrap();
    assert!(before.iter().all(|line| line["state"] == "compiling" && line["elapsed_ms"].is_u64()), "{told:?}");
    assert_eq!((&last["state"], &last["created"]), (&json!("ready"), &json!(true)));
    let told = lines(b"\0asm\x0d\0\x01\0".to_vec()).await;
    assert_eq!(told.last().unwrap()["state"], "refused");
    assert_eq!(told.last().unwrap()["problem"]["status"], 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_attached_stays() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let versions = plugin(&acme, "mine", &["redact-fields", "only-matching"]).await;
    let endpoint = acme.endpoint(&Receiver::answering([200]).await).await;
    let both = json!([{"plugin": "mine", "version": versions[0], "percent": 10, "baseline": versions[1]}]);
    attach(&endpoint, both).await.expect(200);
    let refused = acme.delete("/plugins/mine").await.expect_problem(409, "conflict");
    assert!(refused.text.contains("1 endpoint"), "{}", refused.text);
    for version in &versions {
        acme.delete(&format!("/plugins/mine/versions/{version}")).await.expect_problem(409, "conflict");
    }
    attach(&endpoint, json!([])).await.expect(200);
    acme.delete(&format!("/plugins/mine/versions/{}", versions[0])).await.expect(204);
    acme.delete("/plugins/mine").await.expect(204);
    acme.get("/plugins/mine").await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_would_happen_and_nothing_does() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    let version = newest(acme, "redact-fields").await;

    let sample = json!({"event": {"type": "incident.created", "data": {"a": 1}}, "settings": {"fields": ["/data/a"]}});
    let run = dry_run(acme, "redact-fields", &version, sample).await.expect(200);
    let sent: Value = serde_json::from_str(run["request"]["body"].as_str().unwrap()).unwrap();
    assert_eq!((&run["verdict"], &sent["data"]), (&json!("deliver"), &json!({"a": "[redacted]"})));
    assert!(run["duration_us"].as_u64().unwrap() > 0 && run["memory_bytes"].as_u64().unwrap() > 0);

    let event = acme.event("incident.created", json!({"secret": "x"})).await;
    endpoint.delivery_in("succeeded", &event).await;
    let past = json!({"event_id": event.id, "settings": {"fields": ["/data/secret"]}});
    let run = dry_run(acme, "redact-fields", &version, past).await.expect(200);
    assert!(run["request"]["body"].as_str().unwrap().contains(&format!(r#""id":"{}""#, event.id)));
    assert!(!run.text.contains("\\\"x\\\""), "{}", run.text);

    let wrong = json!({"event_id": event.id, "settings": {"felds": []}});
    let run = dry_run(acme, "redact-fields", &version, wrong).await.expect(200);
    assert_eq!((&run["verdict"], &run["error"]["kind"]), (&json!("failed"), &json!("plugin_error")));
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(endpoint.delivery(&event).await["plugins"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_dry_run_names_the_field() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let version = newest(&acme, "redact-fields").await;
    let event = json!({"type": "incident.created", "data": 1});
    let cases = [
        (json!({}), 422, "event"),
        (json!({"event": event, "event_id": "evt_1"}), 422, "event"),
        (json!({"event_id": "evt_1"}), 422, "event_id"),
        (json!({"event": {"type": "Incident", "data": 1}}), 422, "event.type"),
        (json!({"event": {"type": "a", "data": 1, "id": "a.b"}}), 422, "event.id"),
        (json!({"event": {"type": "a", "data": 1, "timestamp": "today"}}), 422, "event.timestamp"),
        (json!({"event": {"type": "a"}}), 400, "event"),
        (json!({"event": event, "seting": {}}), 400, "seting"),
        (json!({"event": event, "settings": "x".repeat(70_000)}), 413, ""),
    ];
    for (request, status, field) in cases {
        let refused = dry_run(&acme, "redact-fields", &version, request.clone()).await.expect(status);
        assert!(field.is_empty() || refused.blamed_field() == field, "{request}: {}", refused.text);
    }
    let absent = format!("sha256:{}", "0".repeat(64));
    dry_run(&acme, "redact-fields", &absent, json!({"event": event})).await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_shows_what_a_version_would_change() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    let mut events = Vec::new();
    for data in [json!({"a": 1}), json!({"b": 2}), json!({"a": 3, "b": 4})] {
        let event = acme.event("incident.created", data).await;
        endpoint.delivery_in("succeeded", &event).await;
        events.push(event.id);
    }
    let redact_fields = newest(acme, "redact-fields").await;
    let diff = replay(&endpoint, "redact-fields", &redact_fields, 10, json!({"fields": ["/data/b"]})).await;
    assert_eq!(diff["summary"], json!({"unchanged": 0, "changed": 3, "dropped": 0, "failed": 0}));
    assert_eq!(diff["complete"], true);
    let newest_first: Vec<&str> =
        diff["items"].as_array().unwrap().iter().map(|item| item["event_id"].as_str().unwrap()).collect();
    assert_eq!(newest_first, [&events[2], &events[1], &events[0]]);
    let body = |side: &str| -> Value {
        serde_json::from_str(diff["items"][0][side]["request"]["body"].as_str().unwrap()).unwrap()
    };
    assert_eq!(body("before")["data"], json!({"a": "[redacted]", "b": 4}));
    assert_eq!(body("after")["data"], json!({"a": 3, "b": "[redacted]"}));

    let same = replay(&endpoint, "redact-fields", &redact_fields, 2, json!({"fields": ["/data/a"]})).await;
    assert_eq!(same["summary"], json!({"unchanged": 2, "changed": 0, "dropped": 0, "failed": 0}));
    let only_matching = newest(acme, "only-matching").await;
    let b_only = json!({"field": "/data/b", "exists": true});
    let drops = replay(&endpoint, "only-matching", &only_matching, 10, b_only).await;
    assert_eq!(drops["summary"], json!({"unchanged": 2, "changed": 0, "dropped": 1, "failed": 0}));
    assert!(drops["items"][2]["detail"].as_str().unwrap().contains("/data/b"), "{}", drops.text);
    let fails = replay(&endpoint, "redact-fields", &redact_fields, 1, json!({"felds": []})).await;
    assert_eq!(fails["items"][0]["result"], "failed");
    // Nothing was sent, and nothing was changed.
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(endpoint.get("/plugins").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_ones_own_endpoint_and_a_thousand_events_at_most() {
    let host = Host::start().await;
    let (acme, other) = (host.tenant("acme").await, host.tenant("other").await);
    let foreign = other.endpoint(&Receiver::answering([200]).await).await;
    let own = acme.endpoint(&Receiver::answering([200]).await).await;
    let version = newest(&acme, "redact-fields").await;
    let path = format!("/plugins/redact-fields/versions/{version}/replay");
    for (request, field) in [
        (json!({"endpoint": foreign.id}), "endpoint"),
        (json!({"endpoint": "x"}), "endpoint"),
        (json!({"endpoint": own.id, "last": 0}), "last"),
        (json!({"endpoint": own.id, "last": 1_001}), "last"),
    ] {
        let refused = acme.post(&path, request).await.expect_problem(422, "unprocessable");
        assert_eq!(refused.blamed_field(), field);
    }
    let none = acme.post(&path, json!({"endpoint": own.id})).await.expect(200);
    assert_eq!(none["items"], json!([]));
}
