//! Fakes of the outside, all on loopback: a DNS server with scripted answers, and raw TCP receivers.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use revnoxa_host::domain::address::{AddressPolicy, EndpointUrl};
use revnoxa_host::domain::outcome::{Answer, Outcome, SendError};
use revnoxa_host::outbound::{Outbound, OutboundConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A whole response.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The corpus of URLs with the verdict each must get.
pub fn corpus() -> Vec<Value> {
    let text = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/vectors/addresses.json"
    ))
    .unwrap();
    serde_json::from_slice(&text).unwrap()
}

pub fn field<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {entry}"))
}

pub fn config(policy: AddressPolicy) -> OutboundConfig {
    OutboundConfig {
        policy,
        attempt_timeout: Duration::from_secs(5),
        extra_ca: None,
        // Nobody listens there: a test that does not name a server must not ask the system's.
        dns_servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))],
    }
}

pub fn insecure() -> Outbound {
    Outbound::new(config(AddressPolicy::AllowInsecure)).unwrap()
}

pub async fn post(outbound: &Outbound, tenant: &str, url: &str) -> Outcome {
    let url = EndpointUrl::parse(url, AddressPolicy::AllowInsecure).unwrap();
    outbound
        .post(
            tenant,
            &url,
            HeaderMap::new(),
            Bytes::from_static(b"{\"id\":\"evt_1\"}"),
        )
        .await
}

pub async fn answer(outbound: &Outbound, url: &str) -> Answer {
    post(outbound, "acme", url).await.result.unwrap()
}

pub async fn error(outbound: &Outbound, url: &str) -> SendError {
    post(outbound, "acme", url).await.result.unwrap_err()
}

/// A TCP server that counts its connections and gives each of them to the script.
pub struct Receiver {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Receiver {
    pub async fn start<F, S>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    pub async fn start_at<F, S>(address: SocketAddr, script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
        };
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
    pub async fn answering(response: impl Into<String>) -> Self {
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

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

/// One request with a `Content-Length` body, as text; None at the end of the stream.
pub async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    loop {
        if let Some(head) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            let length = String::from_utf8_lossy(&text[..head])
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                })
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

/// A DNS server over UDP and TCP whose answers come from JSON as in the corpus:
/// `{"A": […], "AAAA": […], "CNAME": …, "seq": […], "delay_s": …, "ttl": …, "rcode": …}`.
pub struct StubDns {
    pub address: SocketAddr,
    zone: Arc<Zone>,
}

struct Zone {
    names: HashMap<String, Value>,
    /// How often each name and type was asked: the place in its `seq`.
    asked: Mutex<HashMap<(String, u16), usize>>,
    silenced: Mutex<Vec<(String, u16)>>,
}

impl StubDns {
    pub async fn start(names: impl IntoIterator<Item = (String, Value)>) -> Self {
        let (udp, tcp) = same_port().await;
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Zone {
            names: names.into_iter().collect(),
            asked: Mutex::default(),
            silenced: Mutex::default(),
        });
        tokio::spawn(serve_udp(Arc::new(udp), Arc::clone(&zone)));
        tokio::spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Self { address, zone }
    }

    pub fn outbound(&self, policy: AddressPolicy, attempt_timeout: Duration) -> Outbound {
        let dns_servers = vec![self.address];
        Outbound::new(OutboundConfig {
            attempt_timeout,
            dns_servers,
            ..config(policy)
        })
        .unwrap()
    }

    /// Questions of this type for `name` are not answered any more.
    pub fn silence(&self, name: &str, kind: u16) {
        self.zone
            .silenced
            .lock()
            .unwrap()
            .push((name.to_owned(), kind));
    }

    /// Questions for `name`, of any type.
    pub fn asked(&self, name: &str) -> usize {
        self.zone
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|((asked, _), _)| asked == name)
            .map(|(_, times)| times)
            .sum()
    }
}

/// A port that is free for both: another test may have taken the one that the first was given.
async fn same_port() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, zone: Arc<Zone>) {
    let mut query = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut query).await {
        let (query, zone, socket) = (
            query[..length].to_vec(),
            Arc::clone(&zone),
            Arc::clone(&socket),
        );
        tokio::spawn(async move {
            let mut answer = zone.answer(&query).await;
            if answer.len() > 512 {
                // Truncated (RFC 1035 §4.1.1): the client asks again over TCP.
                answer.truncate(question_end(&query));
                answer[2] |= 0x02;
                answer[6..8].fill(0);
            }
            let _ = socket.send_to(&answer, from).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Zone>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let zone = Arc::clone(&zone);
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                let answer = zone.answer(&query).await;
                stream
                    .write_u16(answer.len().try_into().unwrap())
                    .await
                    .unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
    }
}

impl Zone {
    async fn answer(&self, query: &[u8]) -> Vec<u8> {
        let end = question_end(query);
        let name = name_at_12(query);
        let kind = u16::from_be_bytes([query[end - 4], query[end - 3]]);
        let (data, ttl) = self.data(&name, kind);
        if self.silenced.lock().unwrap().contains(&(name, kind)) {
            std::future::pending::<()>().await;
        }
        if let Some(seconds) = data["delay_s"].as_u64() {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        let records = records(&data, kind);
        // NXDOMAIN when the name is unknown; `rcode` overrules.
        let rcode = data["rcode"]
            .as_u64()
            .unwrap_or(if data.is_null() { 3 } else { 0 });
        let mut answer = vec![query[0], query[1], 0x85, 0x80 | rcode as u8, 0, 1];
        answer.extend_from_slice(&(records.len() as u16).to_be_bytes());
        answer.extend_from_slice(&[0, 0, 0, 0]);
        answer.extend_from_slice(&query[12..end]);
        for (kind, data) in records {
            answer.extend_from_slice(&[0xc0, 12]);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1]);
            answer.extend_from_slice(&ttl.to_be_bytes());
            answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
            answer.extend_from_slice(&data);
        }
        answer
    }

    fn data(&self, name: &str, kind: u16) -> (Value, u32) {
        let mut asked = self.asked.lock().unwrap();
        let times = asked.entry((name.to_owned(), kind)).or_default();
        *times += 1;
        let Some(data) = self.names.get(name) else {
            return (Value::Null, 0);
        };
        let ttl = data["ttl"].as_u64().unwrap_or(300) as u32;
        match data["seq"].as_array() {
            Some(steps) => (steps[(*times - 1).min(steps.len() - 1)].clone(), ttl),
            None => (data.clone(), ttl),
        }
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

fn records(data: &Value, kind: u16) -> Vec<(u16, Vec<u8>)> {
    if let Some(target) = data["CNAME"].as_str() {
        let mut name = Vec::new();
        for label in target.split('.') {
            name.push(label.len() as u8);
            name.extend_from_slice(label.as_bytes());
        }
        name.push(0);
        return vec![(CNAME, name)];
    }
    let addresses = match kind {
        A => &data["A"],
        AAAA => &data["AAAA"],
        _ => &json!([]),
    };
    let address = |text: &Value| match text.as_str().unwrap().parse().unwrap() {
        IpAddr::V4(ip) => (A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
    };
    addresses
        .as_array()
        .into_iter()
        .flatten()
        .map(address)
        .collect()
}

fn question_end(query: &[u8]) -> usize {
    12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5
}

fn name_at_12(query: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(
            String::from_utf8(query[at + 1..at + 1 + length].to_vec())
                .unwrap()
                .to_lowercase(),
        );
        at += 1 + length;
    }
    labels.join(".")
}
