use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering::Relaxed},
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    answer::{Answer, Gate},
    authority::Authority,
    wait::WAIT,
};

/// A customer's server on loopback: HTTP/1.1 by hand, so that it can also misbehave.
///
/// The script is for deliveries of events; a `webhook.test` is answered 200 outside of it
/// (or as [`Receiver::answer_tests`] says) and kept apart.
pub struct Receiver {
    address: SocketAddr,
    scheme_and_name: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    log: watch::Sender<Log>,
    connections: AtomicUsize,
    ended: AtomicUsize,
    /// What new connections wait for before anything is said.
    door: Mutex<Option<Gate>>,
}

struct Script {
    next: VecDeque<Answer>,
    last: Answer,
    tests: Answer,
}

#[derive(Default)]
struct Log {
    events: Vec<Arc<Received>>,
    tests: Vec<Arc<Received>>,
}

impl Receiver {
    /// Gives these answers in turn, then the last one for ever.
    pub async fn answering<A: Into<Answer>>(answers: impl IntoIterator<Item = A>) -> Self {
        Self::listen("127.0.0.1:0", None, answers).await
    }

    /// The same over HTTPS, as `localhost`, with a certificate of this authority.
    pub async fn answering_https<A: Into<Answer>>(authority: &Authority, answers: impl IntoIterator<Item = A>) -> Self {
        let tls = ("localhost", authority.acceptor(&["localhost"]));
        Self::listen("127.0.0.1:0", Some(tls), answers).await
    }

    /// A receiver at a given address; HTTPS when given a name for its URL and a certificate.
    pub async fn listen<A: Into<Answer>>(
        address: &str,
        tls: Option<(&str, TlsAcceptor)>,
        answers: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut next: VecDeque<Answer> = answers.into_iter().map(Into::into).collect();
        let last = next.pop_back().expect("at least one answer");
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Script { next, last, tests: 200.into() }),
            log: watch::Sender::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            door: Mutex::default(),
        });
        let (scheme_and_name, acceptor) = match tls {
            Some((name, acceptor)) => (format!("https://{name}"), Some(acceptor)),
            None => ("http://127.0.0.1".into(), None),
        };
        Self { address, scheme_and_name, accepting: tokio::spawn(accept(listener, acceptor, shared.clone())), shared }
    }

    /// The URL to give to an endpoint.
    pub fn url(&self) -> String {
        format!("{}:{}/hook", self.scheme_and_name, self.address.port())
    }

    /// The same server under another path, for several endpoints at one receiver.
    pub fn url_at(&self, path: &str) -> String {
        format!("{}:{}{path}", self.scheme_and_name, self.address.port())
    }

    /// Replaces what is left of the script: these answers in turn, then the last one for ever.
    pub fn answer<A: Into<Answer>>(&self, answers: impl IntoIterator<Item = A>) {
        let mut next: VecDeque<Answer> = answers.into_iter().map(Into::into).collect();
        let mut script = self.shared.script.lock().unwrap();
        script.last = next.pop_back().expect("at least one answer");
        script.next = next;
    }

    /// Answers every `webhook.test` from now on like this.
    pub fn answer_tests(&self, answer: impl Into<Answer>) {
        self.shared.script.lock().unwrap().tests = answer.into();
    }

    /// The deliveries of events that have arrived so far, in the order they came in.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.shared.log.borrow().events.clone()
    }

    /// The `webhook.test` requests that have arrived so far.
    pub fn tests(&self) -> Vec<Arc<Received>> {
        self.shared.log.borrow().tests.clone()
    }

    /// Waits until `n` deliveries have arrived, and gives all there are.
    pub async fn wait_for(&self, n: usize) -> Vec<Arc<Received>> {
        self.wait_until(&format!("{n} requests"), |events| events.len() >= n).await
    }

    /// Waits until the deliveries that have arrived are as `enough` wants them.
    pub async fn wait_until(&self, what: &str, enough: impl Fn(&[Arc<Received>]) -> bool) -> Vec<Arc<Received>> {
        let mut log = self.shared.log.subscribe();
        let arrived = timeout(WAIT, log.wait_for(|log| enough(&log.events))).await;
        match arrived {
            Ok(log) => log.unwrap().events.clone(),
            Err(_) => panic!("waited {WAIT:?} in vain for {what} at the receiver; {} came", self.received().len()),
        }
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Relaxed)
    }

    /// How many of them have ended.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Relaxed)
    }

    /// Connections that come from now on are accepted, and hear nothing until the gate lets them through.
    pub fn hold_connections(&self, gate: &Gate) {
        *self.shared.door.lock().unwrap() = Some(gate.clone());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST`, one hopes.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Every header in the order it was sent, its name spelt as it was sent.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub body: Vec<u8>,
    /// When the last byte of it had arrived.
    pub at: Instant,
    /// Which connection it came over, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The header's value; fails the test when it was sent twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "two headers {name}");
        first
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a UTF-8 body")
    }

    /// The `id` in the body.
    pub fn event_id(&self) -> String {
        self.json()["id"].as_str().expect("an id").to_owned()
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = shared.connections.fetch_add(1, Relaxed);
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        open.spawn(async move {
            serve(stream, acceptor, &shared, number).await;
            shared.ended.fetch_add(1, Relaxed);
        });
        while open.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: &Shared, number: usize) {
    let door = shared.door.lock().unwrap().clone();
    if let Some(gate) = door {
        gate.pass().await;
    }
    // Answers are small; Nagle's delay would show in every test.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => converse(stream, shared, number).await,
        Some(acceptor) => {
            // A peer that does not trust us hangs up here; it says so in its own history.
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(stream, shared, number).await;
            }
        }
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared, connection: usize) {
    let mut unread = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut unread, connection).await {
        let answer = shared.record(request);
        if !answer.give(&mut stream).await {
            return;
        }
    }
}

impl Shared {
    fn record(&self, request: Received) -> Answer {
        let is_test = request.header("x-revnoxa-event") == Some("webhook.test");
        let mut script = self.script.lock().unwrap();
        let answer =
            if is_test { script.tests.clone() } else { script.next.pop_front().unwrap_or_else(|| script.last.clone()) };
        self.log.send_modify(|log| {
            let kept = if is_test { &mut log.tests } else { &mut log.events };
            kept.push(Arc::new(request));
        });
        answer
    }
}

/// The next request on the connection; none when it ended.
pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    loop {
        if let Some((mut request, head_length)) = parse_head(unread, connection) {
            let length: usize = match request.header("content-length") {
                Some(length) => length.parse().unwrap(),
                None if request.method == "GET" => 0,
                None => panic!("a request without Content-Length: {request:?}"),
            };
            while unread.len() < head_length + length {
                read_some(stream, unread).await?;
            }
            request.body = unread[head_length..head_length + length].to_vec();
            request.at = Instant::now();
            unread.drain(..head_length + length);
            return Some(request);
        }
        read_some(stream, unread).await?;
    }
}

async fn read_some(stream: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>) -> Option<()> {
    matches!(stream.read_buf(unread).await, Ok(n) if n > 0).then_some(())
}

fn parse_head(bytes: &[u8], connection: usize) -> Option<(Received, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).expect("a valid request") else {
        return None;
    };
    let headers = head.headers.iter().map(|header| {
        let value = String::from_utf8(header.value.to_vec()).expect("a readable header");
        (header.name.to_owned(), value)
    });
    let received = Received {
        method: head.method.unwrap().to_owned(),
        path: head.path.unwrap().to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
        at: Instant::now(),
        connection,
    };
    Some((received, length))
}
