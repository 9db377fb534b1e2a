use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// A DNS server over UDP and TCP whose answers come from JSON as in the corpus:
/// `{"A": […], "AAAA": […], "CNAME": …, "seq": […], "delay_s": …, "ttl": …, "rcode": …}`.
pub struct StubDns {
    /// Where it listens.
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
    /// A server that knows these names; all others do not exist.
    pub async fn start(names: impl IntoIterator<Item = (String, Value)>) -> Self {
        let (udp, tcp) = same_port().await;
        let address = udp.local_addr().unwrap();
        let zone =
            Arc::new(Zone { names: names.into_iter().collect(), asked: Mutex::default(), silenced: Mutex::default() });
        tokio::spawn(serve_udp(Arc::new(udp), Arc::clone(&zone)));
        tokio::spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Self { address, zone }
    }

    /// Questions of this type for `name` are not answered any more.
    pub fn silence(&self, name: &str, kind: u16) {
        self.zone.silenced.lock().unwrap().push((name.to_owned(), kind));
    }

    /// Questions for `name`, of any type.
    pub fn asked(&self, name: &str) -> usize {
        self.zone.asked.lock().unwrap().iter().filter(|((asked, _), _)| asked == name).map(|(_, times)| times).sum()
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
        let (query, zone, socket) = (query[..length].to_vec(), Arc::clone(&zone), Arc::clone(&socket));
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
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
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
        let rcode = data["rcode"].as_u64().unwrap_or(if data.is_null() { 3 } else { 0 });
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
    addresses.as_array().into_iter().flatten().map(address).collect()
}

fn question_end(query: &[u8]) -> usize {
    12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5
}

fn name_at_12(query: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..at + 1 + length].to_vec()).unwrap().to_lowercase());
        at += 1 + length;
    }
    labels.join(".")
}
