//! The core product: posts events on connections that stay open, each as soon as the one before is acknowledged, or at a
//! fixed rate. Requests are made of fixed parts, so that it takes as little of the machine as it can.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{process, report::Waits};

/// Characters of an event's text: with the rest, a request of a receiver has 1 KiB.
const TEXT: usize = 850;
const NUMBER: &str = r#""number":""#;
const POSTED: &str = r#"","posted":""#;

/// What the load says of itself in an event's data.
pub(crate) struct Event {
    pub(crate) number: usize,
    /// Of [`process::nanos`].
    pub(crate) posted_nanos: u64,
}

impl Event {
    /// As JSON.
    pub(crate) fn data(&self) -> String {
        let Self { number, posted_nanos } = self;
        format!(
            "{{{NUMBER}{number:010}{POSTED}{posted_nanos:020}\",\"email\":\"jane@example.com\",\"text\":\"{}\"}}",
            "x".repeat(TEXT)
        )
    }

    /// Finds it in the body of a delivery.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (_, rest) = std::str::from_utf8(body).ok()?.split_once(NUMBER)?;
        let (number, rest) = rest.split_at_checked(10)?;
        let posted = rest.strip_prefix(POSTED)?.get(..20)?;
        Some(Self { number: number.parse().ok()?, posted_nanos: posted.parse().ok()? })
    }
}

/// The body of a delivery, for those who send it without the host.
pub(crate) fn delivered_body() -> String {
    let data = Event { number: 0, posted_nanos: 0 }.data();
    format!(
        r#"{{"id":"evt_0198c5f0a6c37e6fb1d7b0c3a9d2e4f1","type":"incident.created","timestamp":"2026-11-23T12:00:00.000Z","data":{data}}}"#
    )
}

/// The name of a tenant; all have the same length.
pub(crate) fn tenant(number: usize) -> String {
    format!("tenant-{number:04}")
}

/// Who posts what.
#[derive(Clone)]
pub(crate) struct Load {
    /// Producers take turns at these.
    pub(crate) hosts: Vec<SocketAddr>,
    pub(crate) token: String,
    /// Each event is for one of these tenants in turn.
    pub(crate) tenants: std::ops::Range<usize>,
    /// Connections.
    pub(crate) producers: usize,
    /// Events of one request.
    pub(crate) batch: usize,
    /// Whether a request may also be refused until later (429, 503).
    pub(crate) refusals: bool,
}

/// When the next event is posted.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the one before is acknowledged, for so long.
    For(Duration),
    /// As soon as the one before is acknowledged, up to so many.
    UpTo(usize),
    /// So many a second, whatever they wait for, for so long.
    Fixed(usize, Duration),
}

/// What came of it.
pub(crate) struct Posted {
    /// Acknowledged.
    pub(crate) events: usize,
    /// Not taken.
    pub(crate) refused: usize,
    pub(crate) began_nanos: u64,
    pub(crate) took: Duration,
    /// From a request to its answer.
    pub(crate) waits: Waits,
}

impl Load {
    /// Posts, and waits until all is answered.
    pub(crate) async fn post(&self, pace: Pace) -> Posted {
        let (began, began_nanos) = (Instant::now(), process::nanos());
        let next = Arc::new(AtomicUsize::new(0));
        let micros: Arc<Mutex<Vec<u32>>> = Arc::default();
        let mut producers = JoinSet::new();
        for producer in 0..self.producers {
            let (load, next, micros) = (self.clone(), next.clone(), micros.clone());
            producers.spawn(async move {
                let mut connection = Connection::open(load.hosts[producer % load.hosts.len()]).await;
                let (mut waits, mut refused) = (Vec::new(), 0);
                loop {
                    if matches!(pace, Pace::For(time) if began.elapsed() >= time) {
                        break;
                    }
                    let first = next.fetch_add(load.batch, Ordering::Relaxed);
                    let posted = match pace {
                        Pace::For(_) => Instant::now(),
                        Pace::UpTo(most) if first >= most => break,
                        Pace::UpTo(_) => Instant::now(),
                        Pace::Fixed(per_second, time) => {
                            let due = Duration::from_secs(1) / u32::try_from(per_second).unwrap()
                                * u32::try_from(first).unwrap();
                            if due >= time {
                                break;
                            }
                            sleep_until(began + due).await;
                            began + due
                        }
                    };
                    if !connection.post(&load.request(first), load.refusals).await {
                        refused += load.batch;
                    }
                    waits.push(u32::try_from(posted.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                let posted = waits.len() * load.batch;
                micros.lock().unwrap().append(&mut waits);
                (posted, refused)
            });
        }
        let (posted, refused): (Vec<usize>, Vec<usize>) = producers.join_all().await.into_iter().unzip();
        let refused = refused.into_iter().sum();
        let events = posted.into_iter().sum::<usize>() - refused;
        let waits = Waits::of(std::mem::take(&mut *micros.lock().unwrap()));
        Posted { events, refused, began_nanos, took: began.elapsed(), waits }
    }

    fn request(&self, first: usize) -> String {
        let posted_nanos = process::nanos();
        let event = |number: usize| {
            let tenant = tenant(self.tenants.start + number % self.tenants.len());
            let data = Event { number, posted_nanos }.data();
            format!(r#"{{"tenant":"{tenant}","type":"incident.created","data":{data}}}"#)
        };
        let (path, body) = match self.batch {
            1 => ("/v1/events", event(first)),
            batch => {
                let events: Vec<String> = (first..first + batch).map(event).collect();
                ("/v1/events/batch", format!(r#"{{"events":[{}]}}"#, events.join(",")))
            }
        };
        let (token, length) = (&self.token, body.len());
        format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    async fn open(host: SocketAddr) -> Self {
        let stream = TcpStream::connect(host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::with_capacity(64 * 1024) }
    }

    /// Sends a request and reads its answer, which must be a 202; or, where there may be `refusals`, one of those:
    /// `false`.
    async fn post(&mut self, request: &str, refusals: bool) -> bool {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.unread.clear();
        loop {
            let read = self.stream.read_buf(&mut self.unread).await.unwrap();
            assert_ne!(read, 0, "the host closed the connection");
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut answer = httparse::Response::new(&mut headers);
            if let Ok(httparse::Status::Complete(head)) = answer.parse(&self.unread) {
                let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
                let length: usize = std::str::from_utf8(length.expect("it has one").value).unwrap().parse().unwrap();
                if self.unread.len() >= head + length {
                    if refusals && matches!(answer.code, Some(429 | 503)) {
                        return false;
                    }
                    let text = String::from_utf8_lossy(&self.unread);
                    assert_eq!(answer.code, Some(202), "{text}");
                    return true;
                }
            }
        }
    }
}
