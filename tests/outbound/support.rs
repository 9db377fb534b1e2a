//! Raw TCP receivers on loopback, and short forms of what every test does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use revnoxa_host::domain::address::{AddressPolicy, EndpointUrl};
use revnoxa_host::domain::outcome::{Answer, Outcome, SendError};
use revnoxa_host::outbound::{Outbound, OutboundConfig};
use revnoxa_tests::StubDns;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A whole response.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The corpus of URLs with the verdict each must get.
pub(crate) fn corpus() -> Vec<Value> {
    let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/ssrf-urls.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

pub(crate) fn field<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_else(|| panic!("{name} in {entry}"))
}

pub(crate) fn config(policy: AddressPolicy) -> OutboundConfig {
    OutboundConfig {
        policy,
        attempt_timeout: Duration::from_secs(5),
        extra_ca: None,
        // Nobody listens there: a test that does not name a server must not ask the system's.
        dns_servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))],
    }
}

/// A client that asks this DNS server.
pub(crate) fn asking(dns: &StubDns, policy: AddressPolicy, attempt_timeout: Duration) -> Outbound {
    let dns_servers = vec![dns.address];
    Outbound::new(OutboundConfig { attempt_timeout, dns_servers, ..config(policy) }).unwrap()
}

pub(crate) fn insecure() -> Outbound {
    Outbound::new(config(AddressPolicy::AllowInsecure)).unwrap()
}

pub(crate) async fn post(outbound: &Outbound, tenant: &str, url: &str) -> Outcome {
    let url = EndpointUrl::parse(url, AddressPolicy::AllowInsecure).unwrap();
    let body = Bytes::from_static(b"{\"id\":\"evt_1\"}");
    outbound.post(tenant, &url, HeaderMap::new(), body, || true).await.expect("it may begin")
}

/// A request that may not begin any more when it is asked; it is asked once.
pub(crate) async fn too_late(outbound: &Outbound, url: &str) {
    let url = EndpointUrl::parse(url, AddressPolicy::AllowInsecure).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let may_begin = move || {
        count.fetch_add(1, Ordering::SeqCst);
        false
    };
    let posted = outbound.post("acme", &url, HeaderMap::new(), Bytes::from_static(b"late"), may_begin).await;
    assert!(posted.is_none(), "{posted:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

pub(crate) async fn answer(outbound: &Outbound, url: &str) -> Answer {
    post(outbound, "acme", url).await.result.unwrap()
}

pub(crate) async fn error(outbound: &Outbound, url: &str) -> SendError {
    post(outbound, "acme", url).await.result.unwrap_err()
}

/// The body of the answer to a request with this number, in the header `x-number`.
pub(crate) async fn numbered(outbound: &Outbound, url: &str, number: usize) -> Result<String, SendError> {
    let url = EndpointUrl::parse(url, AddressPolicy::AllowInsecure).unwrap();
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-number"), HeaderValue::from(number))]);
    let posted = outbound.post("acme", &url, headers, Bytes::from_static(b"{}"), || true).await;
    let answer = posted.expect("it may begin").result?;
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}

/// A TCP server that counts its connections and gives each of them to the script.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) async fn start<F, S>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    pub(crate) async fn start_at<F, S>(address: SocketAddr, script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), accepted: Arc::default() };
        let accepted = Arc::clone(&receiver.accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream));
            }
        });
        receiver
    }

    /// Answers every request of every connection with `response`.
    pub(crate) async fn answering(response: impl Into<String>) -> Self {
        let response: Arc<str> = response.into().into();
        Self::start(move |mut stream| {
            let response = Arc::clone(&response);
            async move {
                while read_request(&mut stream).await.is_some() {
                    if stream.write_all(response.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

/// One request with a `Content-Length` body, as text; None at the end of the stream.
pub(crate) async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    loop {
        if let Some(head) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let length = String::from_utf8_lossy(&text[..head])
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0);
            if text.len() >= head + 4 + length {
                return Some(String::from_utf8(text).unwrap());
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(read @ 1..) => text.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}
