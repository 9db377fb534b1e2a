//! Secrets, tokens and payloads stay where they belong, whatever a host does and however much it logs.

use revnoxa_tests::{Answer, Authority, Endpoint, Machine, Receiver, Reply, Tenant, verify};
use serde_json::{Value, json};

use crate::plugin_flow::{attach, redact, upload};
use guest::Guest;

#[path = "../sandbox/guest.rs"]
#[expect(dead_code, reason = "the sandbox's own tests need more of it")]
mod guest;

/// In every text of the scenario that is nobody else's business.
const QUIET: &str = "in-no-log";

#[tokio::test(flavor = "multi_thread")]
async fn secrets_tokens_and_payloads_are_in_no_log_metric_or_refusal_and_secrets_and_tokens_in_no_database() {
    let authority = Authority::new();
    let machine = Machine::new()
        .set("RUST_LOG", "trace")
        .set("REVNOXA_RETRY_DELAYS", "1h,1h")
        .set("REVNOXA_EXTRA_CA", authority.pem_file().to_str().unwrap());
    let url = machine.setting("REVNOXA_DATABASE_URL");
    let url = url.replace("postgres://postgres@", "postgres://postgres:password-in-no-log@");
    let machine = machine.set("REVNOXA_DATABASE_URL", &url);
    let host = machine.serve().await;
    let acme = machine.tenant("acme").await;
    let failing = Receiver::answering([
        Answer::status(500).header("Set-Cookie", "id=answer-in-no-log").body("answer-in-no-log"),
        Answer::raw("answer-in-no-log\r\n\r\n"),
        Answer::status(200).body("answer-in-no-log"),
    ])
    .await;
    let headers = json!({"Authorization": "Bearer credential-in-no-log"});
    let endpoint =
        acme.endpoint_with(json!({"url": failing.url_at("/hook?key=query-in-no-log"), "headers": headers})).await;
    attach(&endpoint, json!([redact(&["/data/settings-in-no-log"])])).await.expect(200);
    let rotated = endpoint.post("/rotate-secret", json!({"overlap_seconds": 3600})).await.expect(200);
    let tls = Receiver::answering_https(&authority, [200]).await;
    let over_tls = acme.endpoint_with(json!({"url": tls.url_at("/?key=query-in-no-log"), "headers": headers})).await;
    let gone = Receiver::answering([200]).await.url();
    acme.post("/endpoints", json!({"url": gone, "headers": headers})).await.expect(201);

    let talks_to = Receiver::answering([200]).await;
    let talks = acme.endpoint(&talks_to).await;
    acme.post("/plugins", json!({"name": "talkative"})).await.expect(201);
    let version = upload(&acme, "talkative", talkative()).await.expect(201).text_of("version").to_owned();
    let settings = json!({"token": "told-in-no-log"});
    attach(&talks, json!([{"plugin": "talkative", "settings": settings}])).await.expect(200);
    let sample = json!({"type": "incident.created", "data": "payload-in-no-log"});
    let run = json!({"event": sample, "settings": settings});
    acme.post(&format!("/plugins/talkative/versions/{version}/dry-run"), run).await.expect(200);

    let event = acme.event("incident.created", json!({"settings-in-no-log": "payload-in-no-log"})).await;
    endpoint.attempted(1, &event).await;
    endpoint.retry(&event).await.expect(202);
    endpoint.attempted(2, &event).await;
    endpoint.retry(&event).await.expect(202);
    let delivery = endpoint.delivery_in("succeeded", &event).await;
    over_tls.delivery_in("succeeded", &event).await;
    let told = talks.attempted(1, &event).await["plugins"][0].to_string();
    assert!(told.contains("payload-in-no-log") && told.contains("told-in-no-log"), "the plugin did talk: {told}");
    let replay = json!({"endpoint": talks.id, "last": 10, "settings": settings});
    acme.post(&format!("/plugins/talkative/versions/{version}/replay"), replay).await.expect(200);

    let (producer, operator) = (machine.producer().await, machine.operator());
    let revoked = operator.post("/v1/tokens", json!({"scope": "producer"})).await.expect(201);
    operator.delete(&format!("/v1/tokens/{}", revoked.text_of("id"))).await.expect(204);
    let (reader, link) = (acme.sign_in().await, acme.portal_link().await);
    let delivery_page = format!("/settings/webhooks/deliveries/{}", delivery["id"].as_str().unwrap());
    for path in ["/settings/webhooks", &format!("/settings/webhooks/endpoints/{}", endpoint.id), &delivery_page] {
        reader.get(path).await.expect(200);
    }
    let session = reader.cookies()[0].value.clone();
    for refused in refusals(&machine, &acme, &endpoint).await {
        assert!((400..500).contains(&refused.status), "{}: {} {}", refused.call, refused.status, refused.text);
        assert!(!refused.text.contains(QUIET), "{}: {}", refused.call, refused.text);
    }
    let unknown = machine.reader().get("/settings/sign-in/token-in-no-log").await.expect(401);
    assert!(!unknown.html.contains(QUIET), "{}", unknown.html);
    for path in ["/metrics", "/readyz", "/livez"] {
        let shown = machine.anyone().get(path).await.expect(200).text;
        assert!(!shown.contains(QUIET), "{path}: {shown}");
    }

    let last = acme.event("incident.created", json!({"settings-in-no-log": "payload-in-no-log"})).await;
    let last = over_tls.delivery_in("succeeded", &last).await["id"].as_str().unwrap().to_owned();
    host.line("the last attempt", |line| (line.contains(&last) && line.contains("attempted")).then_some(())).await;
    let printed = host.printed();
    assert!(printed.contains("\"level\":\"TRACE\""), "it logs all it can");
    let secrets = [
        session.as_str(),
        link.rsplit('/').next().unwrap(),
        endpoint.secret.as_str(),
        rotated.text_of("secret"),
        over_tls.secret.as_str(),
        acme.token(),
        producer.token(),
        revoked.text_of("token"),
        operator.token(),
    ]
    .map(random_part);
    let key = machine.setting("REVNOXA_MASTER_KEY");
    for quiet in secrets.iter().copied().chain([QUIET, key.as_str()]) {
        let lines: Vec<&str> = printed.lines().filter(|line| line.contains(quiet)).take(3).collect();
        assert!(lines.is_empty(), "{quiet} is in the log: {lines:#?}");
    }
    host.kill9().await;
    for (place, bytes) in database(&machine) {
        for secret in secrets {
            assert!(!contains(&bytes, secret.as_bytes()), "a secret or token in {place}");
            assert!(!contains(&bytes, hex(secret.as_bytes()).as_bytes()), "a secret or token, in hex, in {place}");
            if let Ok(raw) = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, secret) {
                assert!(!contains(&bytes, &raw), "a secret's bytes in {place}");
                assert!(!contains(&bytes, hex(&raw).as_bytes()), "a secret's bytes, in hex, in {place}");
            }
        }
        for sealed in ["credential-in-no-log", "/data/settings-in-no-log", "token-in-no-log", "password-in-no-log"] {
            assert!(!contains(&bytes, sealed.as_bytes()), "{sealed} in {place}");
        }
    }
}

/// A plugin that puts all it is given into its log, and fails with the rest.
fn talkative() -> Vec<u8> {
    let handle = "(call $log (i32.const 1) (local.get $body) (local.get $body_length))
                  (call $log (i32.const 3) (local.get $settings) (local.get $settings_length))
                  (call $fail (local.get $body) (local.get $body_length))";
    Guest::handling(handle).component()
}

/// Requests that are refused, each with something in it that must not come back.
async fn refusals(machine: &Machine, acme: &Tenant, endpoint: &Endpoint) -> Vec<Reply> {
    let (producer, operator) = (machine.producer().await, machine.operator());
    let mut replies = Vec::new();
    let large =
        format!(r#"{{"tenant":"acme","type":"incident.created","data":"payload-in-no-log{}"}}"#, "x".repeat(1 << 20));
    for event in [
        r#"{"tenant":"acme","type":"incident.created","data":"payload-in-no-log"#,
        r#"{"tenant":["payload-in-no-log"],"type":"incident.created","data":1}"#,
        r#"{"tenant":"payload-in-no-log!","type":"incident.created","data":1}"#,
        r#"{"tenant":"acme","type":"payload-in-no-log!","data":1}"#,
        r#"{"tenant":"acme","type":"incident.created","timestamp":"payload-in-no-log","data":1}"#,
        r#"{"tenant":"acme","type":"incident.created","id":"payload in-no-log","data":1}"#,
        r#""payload-in-no-log""#,
        r#"["payload-in-no-log"]"#,
        &large,
    ] {
        replies.push(producer.request("POST", "/v1/events").body(event).send().await);
        replies
            .push(producer.request("POST", "/v1/events/batch").body(format!("{{\"events\":[{event}]}}")).send().await);
    }
    let plain = producer.request("POST", "/v1/events").body_of(Some("text/plain"), "payload-in-no-log");
    replies.push(plain.send().await);
    let with_headers = |headers: Value| json!({"url": "http://127.0.0.1:9/", "headers": headers});
    for new in [
        json!({"url": "http://user:credential-in-no-log@127.0.0.1/"}),
        json!({"url": ["credential-in-no-log"]}),
        json!("credential-in-no-log"),
        with_headers(json!("Bearer credential-in-no-log")),
        with_headers(json!({"Authorization": ["credential-in-no-log"]})),
        with_headers(json!({"Host": "credential-in-no-log"})),
        with_headers(json!({"Authorization": "credential-in-no-log\n"})),
        json!({"url": "http://127.0.0.1:9/", "event_types": "credential-in-no-log"}),
        json!({"url": "http://127.0.0.1:9/", "event_types": ["credential-in-no-log!"]}),
    ] {
        replies.push(acme.post("/endpoints", new.clone()).await);
        replies.push(endpoint.patch("", new).await);
    }
    replies.push(endpoint.post("/rotate-secret", json!({"overlap_seconds": "credential-in-no-log"})).await);
    replies.push(endpoint.post("/recover", json!({"since": "credential-in-no-log"})).await);
    for wrong in ["on_error", "percent", "version", "baseline", "plugin"] {
        let mut attachment = redact(&["/data/settings-in-no-log"]);
        attachment[wrong] = json!("credential-in-no-log!");
        replies.push(attach(endpoint, json!([attachment])).await);
    }
    replies.push(attach(endpoint, json!("credential-in-no-log")).await);
    replies.push(upload(acme, "talkative", b"payload-in-no-log".to_vec()).await);
    replies.push(operator.post("/v1/tokens", json!({"scope": "token-in-no-log"})).await);
    replies.push(operator.post("/v1/event-types", json!({"name": ["token-in-no-log"]})).await);
    replies.push(machine.anyone().with_token("token-in-no-log").get("/v1/tenants").await);
    let basic = machine.anyone().request("GET", "/v1/tenants").header("Authorization", "Basic token-in-no-log");
    replies.push(basic.send().await);
    for path in ["/endpoints?cursor=token-in-no-log", "/endpoints?limit=token-in-no-log"] {
        replies.push(acme.get(path).await);
    }
    replies
}

/// All that the database holds, by where it is: the files of the data folder and, on PostgreSQL, a dump.
fn database(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(machine.dir().join("data")).unwrap().map(|entry| entry.unwrap().path());
    // Machine code is in a folder of its own.
    let files =
        files.filter(|path| path.is_file()).map(|path| (path.display().to_string(), std::fs::read(path).unwrap()));
    let kept: Vec<(String, Vec<u8>)> = files.chain(machine.database_dump()).collect();
    assert!(!kept.is_empty());
    kept
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Without the prefix, which may appear anywhere.
fn random_part(secret: &str) -> &str {
    ["whsec_", "rvx_tenant_", "rvx_producer_"].iter().find_map(|prefix| secret.strip_prefix(prefix)).unwrap_or(secret)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_anothers_secret_is_sent_nothing_and_the_others_go_on() {
    let machine = Machine::new()
        .set("REVNOXA_LEASE", "2s")
        .set("REVNOXA_ATTEMPT_TIMEOUT", "1s")
        .set("REVNOXA_RETRY_DELAYS", "1500ms,100ms");
    let mut host = machine.serve().await;
    let (ours, theirs) = (Receiver::answering([500, 200]).await, Receiver::answering([200]).await);
    let (acme, mallory) = (machine.tenant("acme").await, machine.tenant("mallory").await);
    let (victim, thief) = (acme.endpoint(&ours).await, mallory.endpoint(&theirs).await);
    let event = acme.event("incident.created", json!({})).await;
    victim.attempted(1, &event).await;
    host.terminate();
    host.exit().await;
    machine.sql(&format!(
        "CREATE TABLE taken AS SELECT id, secret FROM endpoints;
         UPDATE endpoints SET secret = (SELECT t.secret FROM taken t WHERE t.id = '{}') WHERE id = '{}';",
        thief.id, victim.id
    ));

    let mut host = machine.serve().await;
    let unreadable = format!("unreadable secret of endpoints {}", victim.id);
    host.line("the retry to be given up for now", |line| line.contains(&unreadable).then_some(())).await;
    let posted = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    machine.producer().await.post("/v1/events", posted).await.expect_problem(503, "unavailable");
    victim.get("").await.expect_problem(500, "internal");
    let others = mallory.event("incident.created", json!({})).await;
    thief.delivery_in("succeeded", &others).await;
    assert_eq!(ours.received().len(), 1, "what was sent before");
    host.terminate();
    host.exit().await;

    machine.sql(&format!(
        "UPDATE endpoints SET secret = (SELECT t.secret FROM taken t WHERE t.id = '{0}') WHERE id = '{0}';
         DROP TABLE taken;",
        victim.id
    ));
    let _host = machine.serve().await;
    victim.delivery_in("succeeded", &event).await;
    let sent = &ours.received()[1];
    assert_eq!(sent.header("x-revnoxa-signature").unwrap(), verify::openssl_hmac(&victim.secret, &sent.body));
}
