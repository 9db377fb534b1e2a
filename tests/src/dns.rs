use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
    time::sleep,
};

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// What the stub says of one name.
#[derive(Debug, Clone, Default)]
pub struct DnsAnswer {
    /// Its addresses, of both families.
    pub addresses: Vec<IpAddr>,
    /// The name it is another name of.
    pub alias_of: Option<String>,
    /// How long the stub thinks before it answers.
    pub delay: Duration,
}

/// A name server on loopback (UDP and TCP) that knows a few names; all others do not exist.
pub struct StubDns {
    address: SocketAddr,
    names: Names,
    serving: Vec<JoinHandle<()>>,
}

impl StubDns {
    /// A name server that knows nothing yet.
    pub async fn start() -> Self {
        let udp = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let names = Names::default();
        let serving = vec![tokio::spawn(serve_udp(udp, names.clone())), tokio::spawn(serve_tcp(tcp, names.clone()))];
        Self { address, names, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers these in turn for the name (addresses of each family counted apart), then the last one for ever.
    pub fn answer(&self, name: &str, answers: Vec<DnsAnswer>) {
        let known = Known { answers, asked: HashMap::new() };
        self.names.lock().unwrap().insert(name.into(), known);
    }
}

impl Drop for StubDns {
    fn drop(&mut self) {
        for task in &self.serving {
            task.abort();
        }
    }
}

type Names = Arc<Mutex<HashMap<String, Known>>>;

struct Known {
    answers: Vec<DnsAnswer>,
    /// How often each kind of record was asked for.
    asked: HashMap<u16, usize>,
}

/// The next answer for the name.
fn next(names: &Names, name: &str, kind: u16) -> Option<DnsAnswer> {
    let mut names = names.lock().unwrap();
    let known = names.get_mut(name)?;
    let asked = known.asked.entry(kind).or_default();
    let answer = known.answers[(*asked).min(known.answers.len() - 1)].clone();
    *asked += 1;
    Some(answer)
}

async fn serve_udp(socket: Arc<UdpSocket>, names: Names) {
    let mut buffer = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let query = buffer[..length].to_vec();
        let (socket, names) = (socket.clone(), names.clone());
        tokio::spawn(async move {
            let mut response = respond(&query, &names).await;
            if response.len() > 512 {
                // Truncated, no records: the client asks again over TCP.
                response.truncate(12 + question(&query).length);
                response[2] |= 0b10;
                response[6..8].fill(0);
            }
            let _ = socket.send_to(&response, peer).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, names: Names) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let names = names.clone();
        tokio::spawn(async move { converse(stream, names).await });
    }
}

async fn converse(mut stream: TcpStream, names: Names) -> Option<()> {
    loop {
        let mut query = vec![0; stream.read_u16().await.ok()?.into()];
        stream.read_exact(&mut query).await.ok()?;
        let response = respond(&query, &names).await;
        let length = u16::try_from(response.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, &response[..]].concat()).await.ok()?;
    }
}

struct Question {
    name: String,
    kind: u16,
    length: usize,
}

fn question(query: &[u8]) -> Question {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    Question { name: labels.join("."), kind: u16::from_be_bytes([query[at + 1], query[at + 2]]), length: at + 5 - 12 }
}

/// RFC 1035, section 4: header, the question repeated, the records.
async fn respond(query: &[u8], names: &Names) -> Vec<u8> {
    let asked = question(query);
    let mut name = asked.name.clone();
    let mut known = next(names, &name, asked.kind);
    let exists = known.is_some();
    let mut records = Vec::new();
    let mut count = 0_u16;
    while let Some(answer) = known {
        sleep(answer.delay).await;
        for address in &answer.addresses {
            match (address, asked.kind) {
                (IpAddr::V4(v4), A) => push(&mut records, &name, A, &v4.octets()),
                (IpAddr::V6(v6), AAAA) => push(&mut records, &name, AAAA, &v6.octets()),
                _ => continue,
            }
            count += 1;
        }
        let Some(target) = answer.alias_of else { break };
        push(&mut records, &name, CNAME, &encode(&target));
        count += 1;
        known = next(names, &target, asked.kind);
        name = target;
    }
    let mut response = query[..2].to_vec();
    response.extend([0x81, if exists { 0x80 } else { 0x83 }, 0, 1]);
    response.extend(count.to_be_bytes());
    response.extend([0; 4]);
    response.extend(&query[12..12 + asked.length]);
    response.extend(records);
    response
}

fn push(records: &mut Vec<u8>, name: &str, kind: u16, data: &[u8]) {
    records.extend(encode(name));
    records.extend(kind.to_be_bytes());
    // Class IN, time to live 0: no answer is to be remembered.
    records.extend([0, 1, 0, 0, 0, 0]);
    records.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    records.extend(data);
}

fn encode(name: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    for label in name.split('.') {
        encoded.push(u8::try_from(label.len()).unwrap());
        encoded.extend(label.as_bytes());
    }
    encoded.push(0);
    encoded
}
