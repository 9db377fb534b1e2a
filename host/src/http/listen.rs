//! `listen`: a receiver on this machine that shows what arrives.

use std::future::Future;
use std::net::Ipv4Addr;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use revnoxa_verifier::{Key, StandardHeaders, StandardKey};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::domain::json::indented;
use crate::outbound::LocalApi;

/// Deliveries waiting to be printed; the next one waits for its answer.
const QUEUE: usize = 64;
/// Bytes of a body: those of the largest event and its frame.
const BODY_LIMIT: usize = 1024 * 1024;

struct Received {
    headers: HeaderMap,
    body: Bytes,
}

/// Registers itself as an endpoint of `tenant`, prints each delivery until `stop`, and removes the endpoint again.
pub async fn run(url: &str, tenant: &str, token: &str, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let own_url = format!("http://{}/", listener.local_addr()?);
    let (sender, mut received) = mpsc::channel(QUEUE);
    let router = Router::new().fallback(receive).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(sender);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let api = LocalApi::new(url, token)?;
    let endpoints = format!("/v1/tenants/{tenant}/endpoints");
    let endpoint = json!({"url": own_url, "description": "revnoxa-host listen"});
    let created = api.post(&endpoints, &endpoint).await.context("cannot register as an endpoint")?;
    let text = |name: &str| created[name].as_str().map(str::to_owned).context("not an endpoint");
    let (id, secret) = (text("id")?, text("secret")?);
    println!("listening on {own_url} as {id}; Ctrl-C ends it and removes the endpoint");

    let show = async {
        // The test event came before its secret did: it waits in the queue.
        while let Some(received) = received.recv().await {
            println!("{}", shown(&received, &secret));
        }
    };
    tokio::select! {
        () = show => {}
        () = stop => {}
    }
    server.abort();
    api.delete(&format!("{endpoints}/{id}")).await.context("cannot remove the endpoint")
}

async fn receive(State(sender): State<mpsc::Sender<Received>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match sender.send(Received { headers, body }).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn shown(received: &Received, secret: &str) -> String {
    let header = |name: &str| received.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let hex = Key::parse(secret).is_ok_and(|key| key.verify(&received.body, header("x-revnoxa-signature")));
    let standard = StandardKey::parse(secret).is_ok_and(|key| {
        let headers = StandardHeaders {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        key.verify(headers, &received.body, Clock::system().now().as_second()).is_ok()
    });
    let verdict = |good: bool| if good { "ok" } else { "WRONG" };
    // JSON has no raw control characters: nothing in a payload can move the cursor. What is no JSON is escaped.
    let body = serde_json::from_slice::<&RawValue>(&received.body)
        .map_or_else(|_| format!("{:?}", String::from_utf8_lossy(&received.body)), |json| indented(json.get()));
    format!(
        "\n{}  {}  attempt {}\n  X-Revnoxa-Signature {}, webhook-signature {}\n{}",
        header("x-revnoxa-event"),
        header("webhook-id"),
        header("x-revnoxa-attempt"),
        verdict(hex),
        verdict(standard),
        body,
    )
}
