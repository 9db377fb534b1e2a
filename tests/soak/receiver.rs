//! The customers' servers: one listener, a path for each manner. What arrives is told from what is missing.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Of so many first attempts a moody receiver fails one.
const MOODY: u64 = 5;
const SLOW: Duration = Duration::from_millis(300);

/// What has come in.
pub(crate) struct Arrivals {
    /// Payloads hold times since then.
    pub(crate) began: Instant,
    book: Mutex<Book>,
    requests: AtomicU64,
}

/// Events that one side knows and the other does not, so that hours fit into memory.
#[derive(Default)]
struct Book {
    /// Acknowledged, not arrived.
    awaited: HashSet<String>,
    /// Arrived, not acknowledged; what is left at the end arrived twice.
    early: HashSet<String>,
    arrived: u64,
    /// Of first attempts at those who answer at once, since they were last asked for.
    latencies: Vec<Duration>,
}

impl Arrivals {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), book: Mutex::default(), requests: AtomicU64::new(0) }
    }

    pub(crate) fn acknowledged(&self, id: String) {
        let mut book = self.book.lock().unwrap();
        if !book.early.remove(&id) {
            book.awaited.insert(id);
        }
    }

    fn arrived(&self, id: String, latency: Option<Duration>) {
        let mut book = self.book.lock().unwrap();
        book.arrived += 1;
        book.latencies.extend(latency);
        if !book.awaited.remove(&id) {
            book.early.insert(id);
        }
    }

    /// Arrived so far, and the latencies since the last call.
    pub(crate) fn take(&self) -> (u64, Vec<Duration>) {
        let mut book = self.book.lock().unwrap();
        (book.arrived, std::mem::take(&mut book.latencies))
    }

    /// Acknowledged and not arrived, and arrived more than once.
    pub(crate) fn open(&self) -> (usize, usize) {
        let book = self.book.lock().unwrap();
        (book.awaited.len(), book.early.len())
    }
}

/// Listens on loopback; gives its base URL.
pub(crate) async fn listen(arrivals: Arc<Arrivals>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        // With this task its connections end, too.
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.spawn(serve(stream, arrivals.clone()));
            while open.try_join_next().is_some() {}
        }
    });
    (url, accepting)
}

async fn serve(mut stream: TcpStream, arrivals: Arc<Arrivals>) {
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::with_capacity(8 * 1024);
    while let Some(request) = read(&mut stream, &mut unread).await {
        let number = arrivals.requests.fetch_add(1, Relaxed);
        let answer = match request.path.as_str() {
            "/moody" if number.is_multiple_of(MOODY) && request.is_first && !request.is_test => {
                "HTTP/1.1 500 Sorry\r\ncontent-length: 0\r\n\r\n"
            }
            "/slow" => {
                tokio::time::sleep(SLOW).await;
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        };
        if answer.contains("200 OK") && !request.is_test {
            let prompt = request.is_first && request.path == "/prompt";
            let posted_at = prompt.then(|| posted_at(&request.body)).flatten();
            let latency = posted_at.map(|at| arrivals.began.elapsed().saturating_sub(at));
            arrivals.arrived(request.event, latency);
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn posted_at(body: &[u8]) -> Option<Duration> {
    let event: Value = serde_json::from_slice(body).ok()?;
    event["data"]["posted_us"].as_u64().map(Duration::from_micros)
}

struct Request {
    path: String,
    event: String,
    is_test: bool,
    is_first: bool,
    body: Vec<u8>,
}

async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Request> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(length)) = head.parse(&unread[..]) {
            let value = |name: &str| {
                let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                header.map_or("", |header| std::str::from_utf8(header.value).unwrap()).to_owned()
            };
            let end = length + value("content-length").parse::<usize>().unwrap();
            if unread.len() >= end {
                let request = Request {
                    path: head.path.unwrap().to_owned(),
                    event: value("webhook-id"),
                    is_test: value("x-revnoxa-event") == "webhook.test",
                    is_first: value("x-revnoxa-attempt") == "1",
                    body: unread[length..end].to_vec(),
                };
                unread.drain(..end);
                return Some(request);
            }
        }
        if !matches!(stream.read_buf(unread).await, Ok(1..)) {
            return None;
        }
    }
}
