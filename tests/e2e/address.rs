//! Where the host connects to, and where never: every entry of `data/ssrf-urls.json` at its stage.
//!
//! The tests run themselves again inside a network namespace without routes. There, the forbidden addresses are on
//! the loopback device with a listener each, so that a connection the host must not make would be made, and seen;
//! and no packet can leave the machine, whatever the host does.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    process::Command,
    time::Duration,
};

use revnoxa_tests::{Answer, Authority, Endpoint, Host, HostBuilder, Receiver, StubDns, Tenant};
use serde_json::{Value, json};

/// The public address that allowed names resolve to; on the loopback device here.
const PUBLIC: &str = "93.184.216.34";
const PUBLIC_V6: &str = "2606:2800:220:1::1";

#[test]
fn forbidden_addresses_are_refused_when_an_endpoint_is_saved() {
    run_in_namespace("when_saved");
}

#[test]
fn forbidden_addresses_are_refused_when_connecting() {
    run_in_namespace("when_connecting");
}

#[test]
fn redirects_to_forbidden_addresses_are_not_followed() {
    run_in_namespace("when_redirected");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs inside the network namespace that another test makes"]
async fn when_saved() {
    let Some(net) = Net::inside_namespace().await else { return };
    let host = net.host().start().await;
    let acme = host.tenant("acme").await;
    let public = acme.endpoint_with(json!({"url": "https://pub.ssrf.example.com/"})).await;
    assert_eq!(public.created["state"], "active");
    acme.post("/endpoints", json!({"url": "http://pub.ssrf.example.com/"})).await.expect_problem(422, "unprocessable");
    let entries = entries("create");
    assert!(entries.len() > 150);
    for entry in &entries {
        let (id, url) = (&entry["id"], entry["url"].as_str().unwrap());
        let reply = acme.post("/endpoints", json!({"url": url})).await;
        if entry["verdict"] == "allow" {
            assert_eq!(reply.status, 201, "{id} {url}: {}", reply.text);
            continue;
        }
        assert_eq!(reply.status, 422, "{id} {url}: {}", reply.text);
        let reply = reply.expect_problem(422, "unprocessable");
        assert_eq!(reply.blamed_field(), "url", "{id}");
        let changed = public.patch("", json!({"url": url})).await;
        assert_eq!(changed.status, 422, "{id} {url}: {}", changed.text);
        // The scheme alone would refuse most of them: it must not be the only reason.
        if let Some(rest) = url.strip_prefix("http://") {
            let reply = acme.post("/endpoints", json!({"url": format!("https://{rest}")})).await;
            assert_eq!(reply.status, 422, "{id} https://{rest}: {}", reply.text);
            let rule = reply["errors"][0]["rule"].as_str().unwrap();
            let host = entry["whatwg_host"].as_str().unwrap();
            assert!(host.len() < 4 || !rule.contains(host), "{id}: the refusal repeats what it found: {rule}");
        }
    }
    assert_eq!(public.read().await["url"], "https://pub.ssrf.example.com/");
    net.nothing_was_trapped();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs inside the network namespace that another test makes"]
async fn when_connecting() {
    let Some(net) = Net::inside_namespace().await else { return };
    let host = net.host().start().await;
    let acme = host.tenant("acme").await;
    for entry in entries("connect") {
        let id = entry["id"].as_str().unwrap();
        let endpoint = acme.endpoint_with(json!({"url": entry["url"]})).await;
        let test = endpoint.created["test"].clone();
        match (entry["verdict"].as_str().unwrap(), entry["class"].as_str().unwrap()) {
            ("allow", _) => assert_eq!(test["delivered"], true, "{id}: {test}"),
            // The name is public at first: the turn comes later.
            (_, "rebind") => refused_in_the_end(&endpoint, id).await,
            _ if entry["dns"]["delay_s"].is_number() => assert_eq!(test["delivered"], false, "{id}: {test}"),
            _ => assert_eq!(test["error"], "address refused", "{id}: {test}"),
        }
        net.nothing_was_trapped();
    }
}

async fn refused_in_the_end(endpoint: &Endpoint, id: &str) {
    for _ in 0..3 {
        let test = endpoint.post_empty("/test").await.expect(200);
        if test["delivered"] == false {
            assert_eq!(test["error"], "address refused", "{id}");
            return;
        }
    }
    panic!("{id}: still delivered after the name had turned");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs inside the network namespace that another test makes"]
async fn when_redirected() {
    let Some(net) = Net::inside_namespace().await else { return };
    let host = net.host().start().await;
    let acme: Tenant = host.tenant("acme").await;
    for entry in entries("redirect") {
        let location = entry["url"].as_str().unwrap();
        for status in [301, 302, 303, 307, 308] {
            net.receiver.answer_tests(Answer::redirect(status, location));
            let endpoint = acme.endpoint_with(json!({"url": "https://pub.ssrf.example.com/"})).await;
            let test = &endpoint.created["test"];
            assert_eq!(test["delivered"], false, "{location}");
            assert_eq!((&test["status_code"], &test["error"]), (&json!(status), &json!("redirect not followed")));
        }
    }
    net.nothing_was_trapped();
}

/// What surrounds the host in the namespace: names, one public receiver, and traps at all that is forbidden.
struct Net {
    dns: StubDns,
    authority: Authority,
    receiver: Receiver,
    traps: Vec<(SocketAddr, Receiver)>,
}

impl Net {
    /// None when this process has a network, that is, when the test was not started by [`run_in_namespace`].
    async fn inside_namespace() -> Option<Self> {
        std::env::var_os("REVNOXA_TESTS_NAMESPACE")?;
        let routes = std::fs::read_to_string("/proc/net/route").unwrap();
        assert!(routes.lines().count() <= 1, "this namespace has routes:\n{routes}");
        let mut zone = vec![("pub.ssrf.example.com".to_owned(), json!({"A": [PUBLIC]}))];
        zone.extend(entries("connect").into_iter().map(|mut entry| {
            let name = entry["whatwg_host"].as_str().unwrap().to_owned();
            (name, entry["dns"].take())
        }));
        let names: Vec<String> = zone.iter().map(|(name, _)| name.clone()).collect();
        let dns = StubDns::start(zone).await;
        let authority = Authority::new();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tls = ("pub.ssrf.example.com", authority.acceptor(&names));
        let receiver = Receiver::listen(&format!("{PUBLIC}:443"), Some(tls), [200]).await;
        // Closes each time, so that each request has to connect, and to resolve, again.
        receiver.answer_tests(Answer::raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        let mut traps = Vec::new();
        for address in forbidden_addresses() {
            for port in [80, 443, 6379, 8443] {
                let at = SocketAddr::new(address, port);
                traps.push((at, Receiver::listen(&at.to_string(), None, [200]).await));
            }
        }
        Some(Self { dns, authority, receiver, traps })
    }

    /// A host as in production, but for its name server, its extra authority and a short time limit.
    fn host(&self) -> HostBuilder {
        let (dns, pem) = (self.dns.address, self.authority.pem_file());
        Host::builder().with(|config| {
            config.allow_insecure_endpoints = false;
            config.attempt_timeout = Duration::from_secs(1);
            config.dns_servers = vec![dns];
            config.extra_ca = Some(pem);
        })
    }

    fn nothing_was_trapped(&self) {
        for (address, trap) in &self.traps {
            assert_eq!(trap.connections(), 0, "the host connected to {address}");
        }
    }
}

fn addresses_in(spec: &Value) -> impl Iterator<Item = IpAddr> {
    let of_kind = |kind: &str| spec[kind].as_array().cloned().unwrap_or_default();
    let all = [of_kind("A"), of_kind("AAAA")].concat();
    all.into_iter().map(|address| address.as_str().unwrap().parse().unwrap())
}

/// The addresses that names resolve to and must not be connected to. The unspecified one connects to loopback.
fn forbidden_addresses() -> BTreeSet<IpAddr> {
    let entries = entries("connect");
    let turns = entries.iter().flat_map(|entry| entry["dns"]["seq"].as_array().cloned().unwrap_or_default());
    let all: Vec<Value> = entries.iter().map(|entry| entry["dns"].clone()).chain(turns).collect();
    let forbidden = |address: &IpAddr| {
        let public = [PUBLIC, PUBLIC_V6].map(|public| public.parse::<IpAddr>().unwrap());
        !address.is_unspecified() && !public.contains(address)
    };
    // A few of the many addresses of one name are enough.
    all.iter().flat_map(|spec| addresses_in(spec).filter(forbidden).take(4)).collect()
}

fn entries(stage: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../data/ssrf-urls.json")).unwrap();
    all.into_iter().filter(|entry| entry["stage"] == stage).collect()
}

/// Runs one of the ignored tests above in a network namespace of its own.
///
/// Where the system allows no such namespace (or it is not Linux) the test says so and passes, except in CI.
fn run_in_namespace(test: &str) {
    let mut setup = "ip link set lo up".to_owned();
    let public = [PUBLIC, PUBLIC_V6].map(|public| public.parse().unwrap());
    for address in forbidden_addresses().into_iter().chain(public).filter(|address| !address.is_loopback()) {
        let options = if address.is_ipv6() { "/128 dev lo nodad" } else { "/32 dev lo" };
        setup += &format!(" && ip address add {address}{options}");
    }
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", script, "sh"]);
        command
    };
    let possible = in_namespace(&setup).output();
    if !possible.as_ref().is_ok_and(|made| made.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI needs network namespaces and `ip`: {possible:?}");
        eprintln!("skipped: no network namespace can be made here: {possible:?}");
        return;
    }
    let ran = in_namespace(&format!("{setup} && exec \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("address::{test}"), "--ignored", "--nocapture"])
        .env("REVNOXA_TESTS_NAMESPACE", "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && printed.contains("1 passed"), "{printed}");
}
