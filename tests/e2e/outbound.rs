//! The requests that leave the host, and receivers that misbehave.

use std::time::Duration;

use revnoxa_tests::{Answer, Authority, Endpoint, Event, Host, HostBuilder, Machine, Receiver};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

/// A host that gives a receiver half a second.
fn hasty() -> HostBuilder {
    Host::builder().with(|config| config.attempt_timeout = Duration::from_millis(500))
}

/// The only attempt of the delivery.
async fn first_attempt(endpoint: &Endpoint, event: &Event) -> Value {
    endpoint.attempted(1, event).await["history"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_drips_its_head_is_timed_out_after_ten_seconds() {
    let host = Host::start().await;
    let receiver = Receiver::answering([Answer::drip_head()]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let started = std::time::Instant::now();
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let attempt = first_attempt(&endpoint, &event).await;
    assert_eq!(attempt["error"], "timed out after 10 s");
    assert_eq!(attempt["status_code"], Value::Null);
    let ms = attempt["duration_ms"].as_u64().unwrap();
    assert!((10_000..12_000).contains(&ms), "{ms} ms");
    assert!(started.elapsed() >= Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_drips_its_body_has_succeeded_and_is_cut_off_at_the_deadline() {
    let host = hasty().start().await;
    let receiver = Receiver::answering([Answer::drip_body()]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let attempt = first_attempt(&endpoint, &event).await;
    assert_eq!((&attempt["status_code"], &attempt["error"]), (&json!(200), &Value::Null));
    assert_eq!(attempt["response_truncated"], true);
    assert!(attempt["response_body"].as_str().unwrap().starts_with("bb"), "{attempt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_not_answering_is_named() {
    let host = hasty().start().await;
    let acme = host.tenant("acme").await;
    let cases = [
        ("silence", Answer::hang(), Some("timed out after 0.5 s")),
        ("a dripping head", Answer::drip_head(), Some("timed out after 0.5 s")),
        ("hints for ever", Answer::endless_hints(), Some("timed out after 0.5 s")),
        ("hung up", Answer::close(), None),
        ("hung up in the head", Answer::raw("HTTP/1.1 200 OK\r\nContent-"), None),
        ("not HTTP", Answer::raw("220 smtp.example.com ESMTP\r\n"), None),
        ("a head without end", Answer::raw(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2 << 20))), None),
        ("a status that is none", Answer::raw("HTTP/1.1 2x0 OK\r\n\r\n"), None),
    ];
    for (case, answer, error) in cases {
        let receiver = Receiver::answering([answer]).await;
        let endpoint = acme.endpoint(&receiver).await;
        let event = acme.event("incident.created", json!({})).await;
        let attempt = first_attempt(&endpoint, &event).await;
        let said = attempt["error"].as_str().unwrap_or_else(|| panic!("{case}: {attempt}"));
        assert!(error.is_none_or(|error| error == said), "{case}: {said}");
        assert!(!said.contains("127.0.0.1") && !said.contains("hyper"), "{case}: {said}");
        assert_eq!(attempt["status_code"], Value::Null, "{case}");
        endpoint.delete("").await.expect(204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_a_failure() {
    let host = Host::start().await;
    // Bound, so that nobody else gets the port, but not listening.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", bound.local_addr().unwrap());
    let endpoint = host.tenant("acme").await.endpoint_with(json!({"url": url})).await;
    assert_eq!(endpoint.created["test"]["error"], "connection refused");
    assert_eq!(endpoint.created["state"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_failures_and_never_followed() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let target = Receiver::answering([200]).await;
    for status in [301, 302, 303, 307, 308] {
        let receiver = Receiver::answering([Answer::redirect(status, &target.url())]).await;
        let endpoint = acme.endpoint(&receiver).await;
        let event = acme.event("incident.created", json!({})).await;
        let delivery = endpoint.attempted(1, &event).await;
        assert_eq!(delivery["state"], "pending", "{status}");
        let attempt = &delivery["history"][0];
        assert_eq!((&attempt["status_code"], &attempt["error"]), (&json!(status), &json!("redirect not followed")));
        endpoint.delete("").await.expect(204);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn https_with_the_extra_authority() {
    let authority = Authority::new();
    let pem = authority.pem_file();
    let host = Host::builder().with(|config| config.extra_ca = Some(pem)).start().await;
    let receiver = Receiver::answering_https(&authority, [200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    assert_eq!(endpoint.created["test"]["delivered"], true, "{}", endpoint.created);
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &event).await;
    assert!(receiver.url().starts_with("https://localhost:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let host = Host::start().await;
    let receiver = Receiver::answering_https(&Authority::new(), [200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let error = endpoint.created["test"]["error"].as_str().unwrap();
    assert!(error.starts_with("TLS error: "), "{error}");
    assert!(receiver.tests().is_empty(), "nothing is said to a stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_refused() {
    let authority = Authority::new();
    let pem = authority.pem_file();
    let host = Host::builder().with(|config| config.extra_ca = Some(pem)).start().await;
    let other = ("localhost", authority.acceptor(&["somebody.example.com"]));
    let receiver = Receiver::listen("127.0.0.1:0", Some(other), [200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let error = endpoint.created["test"]["error"].as_str().unwrap();
    assert!(error.starts_with("TLS error: "), "{error}");
    assert!(receiver.tests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_a_tls_port_and_the_reverse_are_failures() {
    let authority = Authority::new();
    let host = hasty().start().await;
    let acme = host.tenant("acme").await;
    let (plain, tls) = (Receiver::answering([200]).await, Receiver::answering_https(&authority, [200]).await);
    for url in [plain.url().replace("http:", "https:"), tls.url().replace("https:", "http:")] {
        let endpoint = acme.endpoint_with(json!({"url": url})).await;
        assert_eq!(endpoint.created["test"]["delivered"], false, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_kib_of_the_response_are_kept() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let kib = 1_024;
    for (length, kept, cut) in
        [(0, 0, false), (16 * kib, 16 * kib, false), (16 * kib + 1, 16 * kib, true), (4 << 20, 16 * kib, true)]
    {
        let receiver = Receiver::answering([Answer::status(200).body("x".repeat(length))]).await;
        let endpoint = acme.endpoint(&receiver).await;
        let event = acme.event("incident.created", json!({})).await;
        let attempt = first_attempt(&endpoint, &event).await;
        assert_eq!(attempt["response_body"].as_str().unwrap_or("").len(), kept, "of {length}");
        assert_eq!(attempt["response_truncated"], cut, "of {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_response_is_not_asked_for_and_not_unpacked() {
    let host = Host::start().await;
    let bomb = b"\x1f\x8b\x08 not really gzip".to_vec();
    let answer = Answer::status(200).header("Content-Encoding", "gzip").body(bomb);
    let receiver = Receiver::answering([answer]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let attempt = first_attempt(&endpoint, &event).await;
    assert!(attempt["response_body"].as_str().unwrap().contains("not really gzip"), "{attempt}");
    let request = &receiver.received()[0];
    assert!(request.header("accept-encoding").is_none_or(|coding| coding == "identity"), "{request:?}");
    for name in ["referer", "cookie", "authorization"] {
        assert_eq!(request.header(name), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_of_a_receiver_are_not_sent_back() {
    let host = Host::start().await;
    let receiver = Receiver::answering([Answer::status(200).header("Set-Cookie", "a=b; Path=/")]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    for n in 1..=2 {
        let event = endpoint.tenant.event("incident.created", json!({})).await;
        endpoint.delivery_in("succeeded", &event).await;
        assert_eq!(receiver.received()[n - 1].header("cookie"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_for_the_next_delivery() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    for n in 0..20 {
        let event = endpoint.tenant.event("incident.created", json!({"n": n})).await;
        endpoint.delivery_in("succeeded", &event).await;
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_not_used() {
    let (proxy, receiver) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let mut machine = Machine::new();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        machine = machine.set(name, &proxy.url_at(""));
    }
    let machine = machine.set("NO_PROXY", "");
    let _host = machine.serve().await;
    machine.tenant("acme").await.endpoint(&receiver).await;
    assert_eq!((receiver.tests().len(), proxy.connections()), (1, 0));
}
