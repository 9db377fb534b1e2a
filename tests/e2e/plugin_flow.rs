//! Plugins on the way of an event: filters, transforms, chains, failures and what is kept of them.

use std::time::Duration;

use revnoxa_tests::{Endpoint, Host, Receiver, Reply, Tenant, verify};
use serde_json::{Value, json};

const REDACT: &str = "redact-fields";
const FILTER: &str = "only-matching";

/// The component of a built-in plugin, to be uploaded as a tenant's own.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let path = format!("{}/../host/built-in/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

pub(crate) async fn upload(tenant: &Tenant, plugin: &str, component: Vec<u8>) -> Reply {
    let path = format!("/plugins/{plugin}/versions");
    tenant.request("POST", &path).body_of(Some("application/wasm"), component).send().await
}

/// Makes a plugin of the tenant with these versions; gives their digests.
pub(crate) async fn plugin(tenant: &Tenant, name: &str, versions: &[&str]) -> Vec<String> {
    tenant.post("/plugins", json!({"name": name})).await.expect(201);
    let mut digests = Vec::new();
    for version in versions {
        digests.push(upload(tenant, name, component(version)).await.expect(201).text_of("version").to_owned());
    }
    digests
}

pub(crate) async fn attach(endpoint: &Endpoint, attachments: Value) -> Reply {
    endpoint.request("PUT", "/plugins").json(&attachments).send().await
}

pub(crate) fn redact(fields: &[&str]) -> Value {
    json!({"plugin": REDACT, "settings": {"fields": fields}})
}

pub(crate) fn only(field: &str, equals: &str) -> Value {
    json!({"plugin": FILTER, "settings": {"field": field, "equals": equals}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_changes_what_is_signed_and_sent() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let attached = attach(&endpoint, json!([redact(&["/data/email"])])).await.expect(200);
    assert_eq!(attached["items"][0]["plugin"], REDACT);
    assert!(attached["items"][0]["version"].as_str().unwrap().starts_with("sha256:"));

    let event = endpoint.tenant.event("incident.created", json!({"email": "a@example.com", "n": 1})).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    let request = &receiver.received()[0];
    assert_eq!(request.json()["data"], json!({"email": "[redacted]", "n": 1}));
    assert_eq!(request.json()["id"], event.id);
    verify::both_signatures(&endpoint.secret, request, host.now());
    assert_eq!(delivery["request_body"], request.text());
    let run = &delivery["plugins"][0];
    assert_eq!(run["plugin"], REDACT);
    assert_eq!(run["version"], attached["items"][0]["version"]);
    assert_eq!((&run["verdict"], &run["attempt"]), (&json!("deliver"), &json!(1)));
    assert!(run["duration_us"].as_u64().unwrap() > 0 && run["memory_bytes"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_drops_and_the_history_says_why() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    attach(&endpoint, json!([only("/data/severity", "high")])).await.expect(200);

    let low = endpoint.tenant.event("incident.created", json!({"severity": "low"})).await;
    let dropped = endpoint.delivery_in("dropped", &low).await;
    let high = endpoint.tenant.event("incident.created", json!({"severity": "high"})).await;
    endpoint.delivery_in("succeeded", &high).await;

    let reason = dropped["state_reason"].as_str().unwrap();
    assert!(reason.contains(FILTER) && reason.contains("/data/severity"), "{reason}");
    assert_eq!((&dropped["attempts"], &dropped["history"]), (&json!(0), &json!([])));
    assert_eq!(dropped["plugins"][0]["verdict"], "drop");
    let received: Vec<String> = receiver.received().iter().map(|request| request.event_id()).collect();
    assert_eq!(received, [high.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_run_in_order_each_on_what_the_one_before_made() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    let data = json!({"name": "Ada", "severity": "high"});

    // What was redacted does not match any more; the other way round it does.
    attach(&endpoint, json!([redact(&["/data/name"]), only("/data/name", "Ada")])).await.expect(200);
    let event = acme.event("incident.created", data.clone()).await;
    let dropped = endpoint.delivery_in("dropped", &event).await;
    let verdicts: Vec<&Value> = dropped["plugins"].as_array().unwrap().iter().map(|run| &run["verdict"]).collect();
    assert_eq!(verdicts, ["deliver", "drop"]);

    attach(&endpoint, json!([only("/data/name", "Ada"), redact(&["/data/name"])])).await.expect(200);
    let event = acme.event("incident.created", data).await;
    endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(receiver.received()[0].json()["data"]["name"], "[redacted]");

    attach(&endpoint, json!([])).await.expect(200);
    let event = acme.event("incident.created", json!({"name": "Ada"})).await;
    endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(receiver.received()[1].json()["data"]["name"], "Ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_send_the_stored_bytes() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([500, 500, 500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    let event = endpoint.tenant.event("incident.created", json!({"a": 1, "b": 2})).await;
    let first = endpoint.attempted(1, &event).await;

    // Neither other settings nor a restart nor no plugin at all changes what was decided.
    attach(&endpoint, json!([redact(&["/data/b"])])).await.expect(200);
    host.advance_to(&first["next_attempt_at"], 0).await;
    let second = endpoint.attempted(2, &event).await;
    host.restart().await;
    host.advance_to(&second["next_attempt_at"], 0).await;
    let third = endpoint.attempted(3, &event).await;
    attach(&endpoint, json!([])).await.expect(200);
    host.advance_to(&third["next_attempt_at"], 0).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;

    let requests = receiver.received();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0].json()["data"], json!({"a": "[redacted]", "b": 2}));
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    assert_eq!(delivery["plugins"].as_array().unwrap().len(), 1, "plugins ran once: {delivery:#}");
    endpoint.retry(&event).await.expect(202);
    assert_eq!(receiver.wait_for(5).await[4].body, requests[0].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_without_plugins_is_retried_without() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500, 200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({"a": 1})).await;
    let first = endpoint.attempted(1, &event).await;
    attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    host.advance_to(&first["next_attempt_at"], 0).await;
    endpoint.delivery_in("succeeded", &event).await;
    let requests = receiver.received();
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_plugin_under_each_policy() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let broken = |on_error: &str| json!([{"plugin": REDACT, "settings": {"felds": []}, "on_error": on_error}]);

    let receiver = Receiver::answering([200]).await;
    let endpoint = acme.endpoint(&receiver).await;
    attach(&endpoint, broken("retry")).await.expect(200);
    let event = acme.event("incident.created", json!({"a": 1})).await;
    let failed = endpoint.attempted(1, &event).await;
    let error = failed["history"][0]["error"].as_str().unwrap();
    assert!(error.contains("plugin `redact-fields` failed (plugin_error)") && error.contains("felds"), "{error}");
    assert_eq!((&failed["state"], &failed["history"][0]["status_code"]), (&json!("pending"), &Value::Null));
    assert_eq!(failed["plugins"][0]["error"]["kind"], "plugin_error");
    // Mended, the next attempt of the schedule delivers.
    attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    host.advance_to(&failed["next_attempt_at"], 0).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    let attempts: Vec<&Value> = delivery["plugins"].as_array().unwrap().iter().map(|run| &run["attempt"]).collect();
    assert_eq!(attempts, [1, 2]);
    assert_eq!(receiver.received()[0].json()["data"]["a"], "[redacted]");
    endpoint.delete("").await.expect(204);

    let receiver = Receiver::answering([200]).await;
    let endpoint = acme.endpoint(&receiver).await;
    attach(&endpoint, broken("skip")).await.expect(200);
    let event = acme.event("incident.created", json!({"a": 1})).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    assert_eq!(receiver.received()[0].json()["data"]["a"], 1);
    assert_eq!(delivery["plugins"][0]["verdict"], "failed");

    attach(&endpoint, broken("drop")).await.expect(200);
    let event = acme.event("incident.created", json!({"a": 1})).await;
    let dropped = endpoint.delivery_in("dropped", &event).await;
    assert!(dropped["state_reason"].as_str().unwrap().contains("plugin_error"), "{dropped:#}");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_plugins_never_disable_an_endpoint() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    attach(&endpoint, json!([{"plugin": REDACT, "settings": {"felds": []}}])).await.expect(200);
    for _ in 0..3 {
        let event = endpoint.tenant.event("incident.created", json!({})).await;
        endpoint.attempted(1, &event).await;
        host.advance(Duration::from_hours(4 * 24)).await;
    }
    assert_eq!(endpoint.state().await, "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_passes_a_filter_and_shows_a_failure() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    attach(&endpoint, json!([only("/type", "incident.created"), redact(&["/data/message"])])).await.expect(200);
    let test = endpoint.post("/test", json!({})).await.expect(200);
    assert_eq!(test["delivered"], true);
    assert_eq!(receiver.tests().last().unwrap().json()["data"]["message"], "[redacted]");

    attach(&endpoint, json!([{"plugin": REDACT, "settings": {"felds": []}}])).await.expect(200);
    let test = endpoint.post("/test", json!({})).await.expect(200);
    assert_eq!(test["delivered"], false);
    assert!(test.text_of("error").contains("plugin_error"), "{}", test.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_its_tenants_alone() {
    let host = Host::start().await;
    let (acme, other) = (host.tenant("acme").await, host.tenant("other").await);
    let versions = plugin(&acme, "mine", &[REDACT]).await;
    let endpoint = other.endpoint(&Receiver::answering([200]).await).await;

    let foreign = attach(&endpoint, json!([{"plugin": "mine", "version": versions[0]}])).await;
    let foreign = foreign.expect_problem(422, "unprocessable");
    assert_eq!(foreign.blamed_field(), "items[0].plugin");
    // Nor can its version be used under a name of one's own.
    other.post("/plugins", json!({"name": "mine"})).await.expect(201);
    let foreign = attach(&endpoint, json!([{"plugin": "mine", "version": versions[0]}])).await;
    assert_eq!(foreign.expect_problem(422, "unprocessable").blamed_field(), "items[0].version");
    let version = format!("/plugins/mine/versions/{}", versions[0]);
    other.get(&version).await.expect_problem(404, "not-found");
    other
        .post(&format!("{version}/dry-run"), json!({"event": {"type": "a", "data": 1}}))
        .await
        .expect_problem(404, "not-found");
    acme.get(&version).await.expect(200);
    let stranger = host.operator().with_token(other.token());
    for (method, path) in [("GET", ""), ("GET", "/versions"), ("DELETE", "")] {
        let path = format!("/v1/tenants/acme/plugins/mine{path}");
        stranger.request(method, &path).send().await.expect_problem(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_events_gets_the_new_version_and_going_back_is_one_call() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let acme = &endpoint.tenant;
    // Two versions of one plugin: the new one redacts, the old one passes everything on.
    let versions = plugin(acme, "mine", &[FILTER, REDACT]).await;
    let (old, new) = (&versions[0], &versions[1]);
    let both = |percent: u32| {
        json!([{"plugin": "mine", "version": new, "baseline": old, "percent": percent, "on_error": "skip",
                "settings": {"fields": ["/data/a"]}}])
    };
    attach(&endpoint, both(30)).await.expect(200);
    let mut redacted = Vec::new();
    for n in 0..60 {
        let event = acme.event("incident.created", json!({"a": n})).await;
        let delivery = endpoint.delivery_in("succeeded", &event).await;
        let run = &delivery["plugins"][0];
        assert!(run["version"] == *old || run["version"] == *new);
        redacted.push(run["version"] == *new);
    }
    let share = redacted.iter().filter(|redacted| **redacted).count();
    assert!((5..35).contains(&share), "30 % of 60 are {share}");

    attach(&endpoint, both(0)).await.expect(200);
    let event = acme.event("incident.created", json!({"a": 1})).await;
    assert_eq!(endpoint.delivery_in("succeeded", &event).await["plugins"][0]["version"], *old);
    attach(&endpoint, both(100)).await.expect(200);
    let event = acme.event("incident.created", json!({"a": 1})).await;
    assert_eq!(endpoint.delivery_in("succeeded", &event).await["plugins"][0]["version"], *new);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_metered_by_tenant_plugin_and_version() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("metered").await.endpoint(&receiver).await;
    let attached = attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    let version = attached["items"][0]["version"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let event = endpoint.tenant.event("incident.created", json!({"a": 1})).await;
        endpoint.delivery_in("succeeded", &event).await;
    }
    attach(&endpoint, json!([{"plugin": REDACT, "settings": 7, "on_error": "skip"}])).await.expect(200);
    let event = endpoint.tenant.event("incident.created", json!({"a": 1})).await;
    endpoint.delivery_in("succeeded", &event).await;

    let read = endpoint.tenant.get(&format!("/plugins/{REDACT}/versions/{version}")).await.expect(200);
    let usage = &read["usage"];
    assert_eq!((&usage["calls"], &usage["failures"]), (&json!(4), &json!({"plugin_error": 1})));
    assert!(usage["cpu_us"].as_u64().unwrap() > 0 && usage["memory_peak_bytes"].as_u64().unwrap() > 65_536);
    let metrics = host.anyone().get("/metrics").await.expect(200).text;
    let labels = format!(r#"{{tenant="metered",plugin="{REDACT}",version="{version}"}}"#);
    assert!(metrics.contains(&format!("revnoxa_plugin_calls_total{labels} 4")), "{metrics}");
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("revnoxa_plugin_failures_total{tenant=\"metered\"") && line.ends_with(" 1"))
    );
    // Another tenant sees its own use of the same built-in plugin: none.
    let other = host.tenant("unmetered").await;
    let read = other.get(&format!("/plugins/{REDACT}/versions/{version}")).await.expect(200);
    assert_eq!(read["usage"]["calls"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_cpu_budget_turns_to_the_policy_until_it_fills_again() {
    let host = Host::builder().with(|config| config.plugins.cpu_per_minute = Duration::from_nanos(1)).start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    let first = endpoint.tenant.event("incident.created", json!({"a": 1})).await;
    endpoint.delivery_in("succeeded", &first).await;
    let second = endpoint.tenant.event("incident.created", json!({"a": 1})).await;
    let failed = endpoint.attempted(1, &second).await;
    assert_eq!(failed["plugins"][0]["error"]["kind"], "over_budget");
    assert_eq!(failed["state"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_artifact_is_compiled_again_never_loaded() {
    let mut host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    attach(&endpoint, json!([redact(&["/data/a"])])).await.expect(200);
    let deliver = async |host: &Host| {
        let event = endpoint.tenant.event("incident.created", json!({"a": 1})).await;
        let delivery = endpoint.delivery_in("succeeded", &event).await;
        assert_eq!(delivery["request_body"], receiver.received().last().unwrap().text());
        assert_eq!(receiver.received().last().unwrap().json()["data"]["a"], "[redacted]");
        let folder = host.dir().join("plugins");
        let mut files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let file = files.next().expect("one artifact");
        assert_eq!(files.next(), None);
        file
    };
    let file = deliver(&host).await;
    let genuine = std::fs::read(&file).unwrap();
    let mut changed = genuine.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    host.restart().await;
    assert_eq!(deliver(&host).await, file);
    assert_eq!(std::fs::read(&file).unwrap().len(), genuine.len());
    assert_ne!(std::fs::read(&file).unwrap(), changed);
}
