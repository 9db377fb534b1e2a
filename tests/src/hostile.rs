use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use crate::receiver::read_request;

/// Between two writes of a [`Step::Drip`]: hundreds that drip at once must not themselves use up the machine.
const PAUSE: Duration = Duration::from_millis(100);

/// One thing that a hostile receiver does with a connection.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads a whole request.
    Request,
    /// Reads the first byte that comes, and leaves the rest.
    FirstByte,
    /// Writes these bytes, in one piece.
    Write(Vec<u8>),
    /// Writes these bytes again and again, as fast as they are taken.
    Flood(Vec<u8>),
    /// Writes these bytes again and again, with a pause after each time.
    Drip(Vec<u8>),
    /// Answers 200 with the `webhook-id` of the request read last as the body, and writes these bytes behind it in the same piece.
    Echo(Vec<u8>),
    /// Says nothing until the peer has closed the connection.
    Silence,
    /// Resets the connection (RST) instead of closing it.
    Reset,
}

/// What becomes of each connection: perhaps a TLS handshake, then steps in their order; then it is closed, over TLS without a word.
#[derive(Clone)]
pub struct Script {
    tls: Option<TlsAcceptor>,
    steps: Arc<[Step]>,
}

impl Script {
    /// These steps from the first byte on.
    pub fn new(steps: impl Into<Vec<Step>>) -> Self {
        let steps: Vec<Step> = steps.into();
        Self { tls: None, steps: steps.into() }
    }

    /// These steps after a TLS handshake.
    pub fn over_tls(acceptor: TlsAcceptor, steps: impl Into<Vec<Step>>) -> Self {
        let steps: Vec<Step> = steps.into();
        Self { tls: Some(acceptor), steps: steps.into() }
    }

    /// Answers one request with 200.
    fn friendly(tls: Option<TlsAcceptor>) -> Self {
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        Self { tls, steps: [Step::Request, Step::Write(answer.to_vec())].into() }
    }
}

/// A customer's server that goes by a [`Script`] instead of by HTTP as soon as it is told to; until then it answers every request
/// with 200, so that its endpoint becomes active.
pub struct HostileReceiver {
    address: SocketAddr,
    scheme_and_name: String,
    friendly: Script,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    opened: AtomicUsize,
    open: AtomicUsize,
}

impl HostileReceiver {
    /// On loopback.
    pub async fn start() -> Self {
        Self::listen("http://127.0.0.1", None).await
    }

    /// On loopback, over HTTPS: how it is called, and what it shows while it is friendly.
    pub async fn start_https(name: &str, acceptor: TlsAcceptor) -> Self {
        Self::listen(&format!("https://{name}"), Some(acceptor)).await
    }

    async fn listen(scheme_and_name: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let friendly = Script::friendly(tls);
        let shared = Arc::new(Shared {
            script: Mutex::new(friendly.clone()),
            opened: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, scheme_and_name: scheme_and_name.to_owned(), friendly, shared, accepting }
    }

    /// The URL to give to an endpoint.
    pub fn url(&self) -> String {
        format!("{}:{}/hook", self.scheme_and_name, self.address.port())
    }

    /// Goes by this script from the next connection on, and counts connections anew.
    pub fn turn(&self, script: Script) {
        *self.shared.script.lock().unwrap() = script;
        self.shared.opened.store(0, Relaxed);
    }

    /// Answers every request with 200 again.
    pub fn calm_down(&self) {
        self.turn(self.friendly.clone());
    }

    /// Connections opened to it since it turned.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Relaxed)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Relaxed)
    }
}

impl Drop for HostileReceiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A connection counted as open until it is dropped.
struct Open(Arc<Shared>);

impl Open {
    fn count(shared: &Arc<Shared>) -> Self {
        shared.opened.fetch_add(1, Relaxed);
        shared.open.fetch_add(1, Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let script = shared.script.lock().unwrap().clone();
        let open = Open::count(&shared);
        connections.spawn(async move {
            serve(stream, script).await;
            drop(open);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, script: Script) {
    // What is written apart is to arrive apart.
    let _ = stream.set_nodelay(true);
    let (stream, reset) = match script.tls {
        None => {
            let reset = follow(&mut stream, &script.steps).await;
            (stream, reset)
        }
        Some(acceptor) => {
            // A peer that does not trust us hangs up here.
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            let reset = follow(&mut tls, &script.steps).await;
            (tls.into_inner().0, reset)
        }
    };
    if reset {
        stream.set_zero_linger().unwrap();
    }
}

/// Goes through the steps, as far as the peer lets it; true: the connection is to be reset.
async fn follow(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), steps: &[Step]) -> bool {
    let (mut unread, mut asked) = (Vec::new(), String::new());
    for step in steps {
        let done = match step {
            Step::Request => match read_request(stream, &mut unread, 0).await {
                Some(request) => {
                    asked = request.header("webhook-id").unwrap_or_default().to_owned();
                    true
                }
                None => false,
            },
            Step::FirstByte => stream.read_u8().await.is_ok(),
            Step::Write(bytes) => write(stream, bytes).await,
            Step::Flood(bytes) => {
                while write(stream, bytes).await {}
                false
            }
            Step::Drip(bytes) => {
                while write(stream, bytes).await {
                    sleep(PAUSE).await;
                }
                false
            }
            Step::Echo(behind) => {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{asked}", asked.len());
                write(stream, &[answer.as_bytes(), behind.as_slice()].concat()).await
            }
            Step::Silence => {
                let mut heard = [0; 1_024];
                while matches!(stream.read(&mut heard).await, Ok(1..)) {}
                true
            }
            Step::Reset => return true,
        };
        if !done {
            return false;
        }
    }
    false
}

/// False when the peer is gone.
async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}

/// 13 kB that unpack to 2 MB (RFC 1951 §3.2.6): one `x`, then again and again the 258 bytes before it.
pub fn gzip_bomb() -> Vec<u8> {
    let mut bits: Vec<u8> = vec![1, 1, 0];
    let mut code = |code: u32, length: u32| bits.extend((0..length).rev().map(|bit| ((code >> bit) & 1) as u8));
    code(0x30 + u32::from(b'x'), 8);
    for _ in 0..8_000 {
        code(0xc5, 8);
        code(0, 5);
    }
    code(0, 7);
    let packed = bits.chunks(8).map(|bits| bits.iter().rev().fold(0_u8, |byte, bit| (byte << 1) | bit));
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    head.into_iter().chain(packed).chain([0; 8]).collect()
}

/// 12 kB that unpack to 393 MB (RFC 8878 §3.1.1.2): 3,000 blocks that say "131,072 times `x`".
pub fn zstd_bomb() -> Vec<u8> {
    let head = [0x28_u8, 0xb5, 0x2f, 0xfd, 0, 0x38];
    let block = |last: u8| [2 | last, 0, 0x10, b'x'];
    [head.as_slice(), &block(0).repeat(2_999), &block(1)].concat()
}
