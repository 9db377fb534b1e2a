//! Every way to make the host send something judges the address anew, whatever was judged before.

use std::time::Duration;

use revnoxa_tests::{Answer, Authority, Endpoint, Host, HostProcess, Machine, Receiver, START, StubDns};
use serde_json::{Value, json};

/// The cloud's metadata, which no setting opens.
const FORBIDDEN: &str = "169.254.169.254";
const NAME: &str = "turns.example.com";

/// The last attempt of `delivery`, which the host must not have made.
#[track_caller]
fn refused(delivery: &Value) -> &Value {
    let attempt = delivery["history"].as_array().and_then(|history| history.last()).expect("an attempt");
    assert_eq!((&attempt["error"], &attempt["status_code"]), (&json!("address refused"), &Value::Null), "{delivery:#}");
    delivery
}

async fn test_is_refused(endpoint: &Endpoint) {
    let test = endpoint.post_empty("/test").await.expect(200);
    assert_eq!((&test["delivered"], &test["error"]), (&json!(false), &json!("address refused")), "{}", test.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_turns_to_a_forbidden_address_is_refused_on_every_way() {
    let receiver = Receiver::answering([200]).await;
    // A connection that is kept needs no address: only one that is made does.
    receiver.answer_tests(Answer::raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    let turning = json!({"ttl": 0, "seq": [{"A": ["127.0.0.1"]}, {"A": [FORBIDDEN]}]});
    let dns = StubDns::start([(NAME.to_owned(), turning)]).await;
    let host = Host::builder().with(|config| {
        config.dns_servers = vec![dns.address];
        config.retry_delays = vec![Duration::from_secs(30)];
    });
    let host = host.start().await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint_with(json!({"url": receiver.url().replace("127.0.0.1", NAME)})).await;
    assert_eq!(endpoint.created["test"]["delivered"], true, "its name is good: {}", endpoint.created);

    // A delivery, and its retry.
    let event = acme.event("incident.created", json!({"a": 1})).await;
    let mut delivery = endpoint.attempted(1, &event).await;
    host.advance_to(&refused(&delivery)["next_attempt_at"], 0).await;
    delivery = endpoint.attempted(2, &event).await;
    assert_eq!(refused(&delivery)["state"], "failed");
    // A retry by hand.
    endpoint.retry(&event).await.expect(202);
    delivery = endpoint.attempted(3, &event).await;
    host.advance_to(&refused(&delivery)["next_attempt_at"], 0).await;
    refused(&endpoint.attempted(4, &event).await);
    // All that failed, once more.
    assert_eq!(endpoint.post("/recover", json!({"since": START})).await.expect(202)["deliveries"], 1);
    refused(&endpoint.attempted(5, &event).await);
    // What was held.
    endpoint.post_empty("/disable").await.expect(200);
    let held = acme.event("incident.created", json!({"a": 2})).await;
    endpoint.delivery_in("held", &held).await;
    endpoint.post_empty("/enable").await.expect(200);
    refused(&endpoint.attempted(1, &held).await);
    // A test event, over the API and on the page.
    test_is_refused(&endpoint).await;
    let reader = acme.sign_in().await;
    let page = reader.get(&format!("/settings/webhooks/endpoints/{}", endpoint.id)).await;
    let page = page.form("Send test event").submit(&reader).await.expect(200);
    assert!(page.text().contains("The test event was not delivered: address refused"), "{}", page.text());
    // The same URL for another endpoint.
    let another = acme.endpoint_with(json!({"url": endpoint.created["url"]})).await;
    assert_eq!(another.created["test"]["error"], "address refused", "{}", another.created);

    // A trial of a plugin sends nothing, so it asks for no address either.
    let asked = dns.asked(NAME);
    let versions = acme.all("/plugins/redact-fields/versions").await;
    let version = format!("/plugins/redact-fields/versions/{}", versions[0]["version"].as_str().unwrap());
    let settings = json!({"fields": ["/data/a"]});
    let replay = json!({"endpoint": endpoint.id, "last": 10, "settings": settings});
    acme.post(&format!("{version}/replay"), replay).await.expect(200);
    let dry_run = json!({"event_id": event.id, "settings": settings});
    acme.post(&format!("{version}/dry-run"), dry_run).await.expect(200);
    assert_eq!(dns.asked(NAME), asked);
    assert_eq!(receiver.connections(), 1, "it was reached while its name was good");
}

async fn stop(mut host: HostProcess) {
    host.terminate();
    assert!(host.exit().await.success());
}

/// As by an older version, whose rules allowed more.
fn save_url(machine: &Machine, endpoint: &Endpoint, url: &str) {
    machine.sql(&format!("UPDATE endpoints SET url = '{url}' WHERE id = '{}'", endpoint.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_saved_before_its_rule_is_refused_and_stands_in_nobodys_way() {
    let receiver = Receiver::answering([200]).await;
    let port = receiver.url_at("").rsplit(':').next().unwrap().to_owned();
    let urls = [
        format!("http://{FORBIDDEN}/latest/meta-data/"),
        "http://100.100.100.200/latest/meta-data/".to_owned(),
        "http://[fe80::1]/".to_owned(),
        format!("http://[::ffff:7f00:1]:{port}/"),
        format!("http://[64:ff9b::7f00:1]:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://user:password@127.0.0.1:{port}/"),
        format!("gopher://127.0.0.1:{port}/"),
        "mailto:hook@127.0.0.1".to_owned(),
    ];
    let machine = Machine::new();
    let host = machine.serve().await;
    let acme = machine.tenant("acme").await;
    let healthy = acme.endpoint(&receiver).await;
    let mut saved = Vec::new();
    for _ in &urls {
        saved.push(acme.endpoint(&receiver).await);
    }
    stop(host).await;
    for (endpoint, url) in saved.iter().zip(&urls) {
        save_url(&machine, endpoint, url);
    }

    let host = machine.serve().await;
    assert_eq!(acme.all("/endpoints").await.len(), 1 + urls.len());
    let event = acme.event("incident.created", json!({})).await;
    healthy.delivery_in("succeeded", &event).await;
    for (endpoint, url) in saved.iter().zip(&urls) {
        assert_eq!(endpoint.read().await["url"], url.as_str());
        refused(&endpoint.attempted(1, &event).await);
        test_is_refused(endpoint).await;
    }
    assert_eq!(receiver.received().len(), 1, "the healthy one's");
    // What is refused can be mended.
    saved[0].patch("", json!({"url": receiver.url()})).await.expect(200);
    saved[0].retry(&event).await.expect(202);
    saved[0].delivery_in("succeeded", &event).await;
    stop(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_saved_in_development_is_refused_in_production() {
    let receiver = Receiver::answering([200]).await;
    let machine = Machine::new();
    let host = machine.serve().await;
    let endpoint = machine.tenant("acme").await.endpoint(&receiver).await;
    stop(host).await;

    let (authority, name) = (Authority::new(), "REVNOXA_EXTRA_CA");
    let machine = machine.set("REVNOXA_ALLOW_INSECURE_ENDPOINTS", "false");
    let machine = machine.set(name, authority.pem_file().to_str().unwrap());
    let host = machine.serve().await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    refused(&endpoint.attempted(1, &event).await);
    test_is_refused(&endpoint).await;
    assert_eq!((receiver.received().len(), receiver.connections()), (0, 1));
    stop(host).await;
}
