//! The code that a new endpoint's page offers does what it says.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use revnoxa_tests::{Endpoint, Event, Host, Receiver, Tenant, eventually, verify};
use serde_json::json;

#[expect(unreachable_pub, reason = "to be copied into another crate")]
#[path = "../../host/templates/settings/snippets/receiver.rs"]
mod rust;

/// What the page of an endpoint shows for a language.
async fn snippet(tenant: &Tenant, endpoint: &Endpoint, language: &str) -> String {
    let reader = tenant.sign_in().await;
    let page = reader.get(&format!("/settings/webhooks/endpoints/{}", endpoint.id)).await.expect(200);
    let all = page.select(".snippets details");
    let one = all.iter().find(|details| details.select("summary")[0].text() == language);
    one.expect("the language").select("pre")[0].raw_text()
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_receiver_takes_what_is_genuine_and_nothing_else() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    // The secret is known once the endpoint is there; the receiver listens after that.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = acme.endpoint_with(json!({"url": format!("http://127.0.0.1:{port}/")})).await;
    let code = snippet(&acme, &endpoint, "Python").await;
    assert!(code.contains("3000"), "{code}");
    let code = code.replace("3000", &port.to_string());
    let mut python = Command::new("python3");
    python.args(["-c", &code]).env("WEBHOOK_SECRET", &endpoint.secret).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(python.spawn().unwrap());
    eventually("the receiver to answer the test event", async || {
        (endpoint.post("/test", json!({})).await.expect(200)["delivered"] == true).then_some(())
    })
    .await;
    let event: Event = acme.event("incident.created", json!({"text": "é"})).await;
    endpoint.delivery_in("succeeded", &event).await;
    // With another secret it refuses.
    endpoint.post("/rotate-secret", json!({})).await.expect(200);
    let refused = endpoint.post("/test", json!({})).await.expect(200);
    assert_eq!((&refused["delivered"], &refused["status_code"]), (&json!(false), &json!(401)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_command_signs_as_we_do() {
    let host = Host::start().await;
    let receiver = Receiver::answering([204]).await;
    let acme = host.tenant("acme").await;
    let endpoint = acme.endpoint_with(json!({"url": receiver.url_at("/it's?a=$b&c")})).await;
    let code = snippet(&acme, &endpoint, "cURL").await;
    let mut shell = Command::new("sh");
    shell.args(["-c", &code]).env("WEBHOOK_SECRET", &endpoint.secret);
    let ran = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("HTTP/1.1 204"), "{ran:?}");
    let sent = &receiver.wait_for(1).await[0];
    assert_eq!(sent.header("x-revnoxa-signature").unwrap(), verify::openssl_hmac(&endpoint.secret, &sent.body));
    assert_eq!(sent.json()["type"], "webhook.test");
    assert!(receiver.url_at(&sent.path).ends_with("%27s?a=$b&c") || sent.path == "/it's?a=$b&c", "{}", sent.path);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_function_verifies() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    endpoint.tenant.event("incident.created", json!({})).await;
    let sent = &receiver.wait_for(1).await[0];
    let now = host.now().as_second();
    let header = |name: &str| sent.header(name).unwrap_or_default();
    assert!(rust::is_genuine(header, &sent.body, &endpoint.secret, now));
    assert!(!rust::is_genuine(header, b"{}", &endpoint.secret, now));
    assert!(!rust::is_genuine(header, &sent.body, &endpoint.secret, now + 301));
    let shown = snippet(&endpoint.tenant, &endpoint, "Rust").await;
    assert_eq!(shown, include_str!("../../host/templates/settings/snippets/receiver.rs"));
}

/// The npm page's own block, which the package's tests run.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_receiver_is_the_one_of_the_npm_page() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let shown = snippet(&endpoint.tenant, &endpoint, "Node").await;
    let (install, code) = shown.split_once('\n').unwrap();
    let page = include_str!("../../verifier-wasm/README.md");
    assert!(page.contains(&format!("```js file=node.js\n{code}```")), "{code}");
    assert!(page.contains(&format!("```sh\n{}\n```", install.trim_start_matches("// "))), "{install}");
}
