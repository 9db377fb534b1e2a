//! The receiver, a process of its own: answers 200 at once on connections that stay open, counts what arrives, and how long
//! after its post.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use revnoxa_tests::Authority;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines, Stdin, stdin},
    net::TcpListener,
};

use crate::{
    companion::Companion,
    generator::Event,
    process,
    report::{Waits, steady_p99},
};

/// Where it listens, on every address of this machine.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// Takes requests and never answers.
    pub(crate) silent: u16,
    /// Who signed its certificate for 127.0.0.1, as a PEM file.
    pub(crate) authority: PathBuf,
}

/// What arrived since the last order to count.
#[derive(Serialize, Deserialize)]
pub(crate) struct Arrivals {
    /// Different deliveries.
    pub(crate) deliveries: usize,
    /// Deliveries that had arrived before.
    pub(crate) extra: usize,
    /// Of the last one.
    pub(crate) last_nanos: u64,
    /// From post to arrival.
    pub(crate) waits: Waits,
    /// The same, as [`steady_p99`] has it.
    pub(crate) steady_p99: u32,
}

/// The process, as the others see it; ends with this.
pub(crate) struct Receiver {
    pub(crate) ports: Ports,
    companion: Companion,
}

/// One of the many addresses that it listens on.
pub(crate) fn address(number: usize) -> String {
    format!("127.1.{}.{}", number / 250, number % 250 + 1)
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let (companion, ports) = Companion::start(&["receive"]).await;
        Self { ports: serde_json::from_str(&ports).unwrap(), companion }
    }

    /// From now on counts the deliveries of `events` events to `endpoints` endpoints each.
    pub(crate) async fn count(&mut self, events: usize, endpoints: usize) {
        self.companion.ask(&format!("{} {endpoints}", events * endpoints)).await;
    }

    /// What arrived so far.
    pub(crate) async fn arrivals(&mut self) -> Arrivals {
        serde_json::from_str(&self.companion.ask("").await).unwrap()
    }

    /// Waits until this many have arrived, or none came for half a minute.
    pub(crate) async fn wait_for(&mut self, deliveries: usize) -> Arrivals {
        let (mut before, mut idle) = (0, 0);
        loop {
            let arrivals = self.arrivals().await;
            idle = if arrivals.deliveries > before { 0 } else { idle + 1 };
            if arrivals.deliveries >= deliveries || idle > 600 {
                return arrivals;
            }
            before = arrivals.deliveries;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[derive(Default)]
struct Counted {
    endpoints: usize,
    seen: Vec<bool>,
    deliveries: usize,
    extra: usize,
    last_nanos: u64,
    micros: Vec<u32>,
}

impl Counted {
    fn arrived(&mut self, path: &str, body: &[u8]) {
        let now = process::nanos();
        let (Some(endpoint), Some(event)) =
            (path.rsplit('/').next().and_then(|n| n.parse::<usize>().ok()), Event::read(body))
        else {
            return;
        };
        match self.seen.get_mut(event.number * self.endpoints + endpoint) {
            Some(true) => self.extra += 1,
            Some(seen) => {
                *seen = true;
                self.deliveries += 1;
                self.last_nanos = now;
                self.micros.push(u32::try_from(now.saturating_sub(event.posted_nanos) / 1_000).unwrap_or(u32::MAX));
            }
            // From before the last order.
            None => {}
        }
    }
}

/// What the process does.
pub(crate) async fn run() {
    let authority = Authority::new();
    let counted = Arc::new(Mutex::new(Counted::default()));
    let bind = async || TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (http, https, silent) = (bind().await, bind().await, bind().await);
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let ports =
        Ports { http: port(&http), https: port(&https), silent: port(&silent), authority: authority.pem_file() };
    println!("{}", serde_json::to_string(&ports).unwrap());

    let (plain, acceptor) = (counted.clone(), authority.acceptor(&["127.0.0.1"]));
    tokio::spawn(async move {
        while let Ok((stream, _)) = http.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, plain.clone()));
        }
    });
    let secret = counted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = https.accept().await {
            let _ = stream.set_nodelay(true);
            let (acceptor, counted) = (acceptor.clone(), secret.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, counted).await;
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = silent.accept().await {
            tokio::spawn(async move { while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {} });
        }
    });
    obey(BufReader::new(stdin()).lines(), &counted).await;
}

/// An order has two numbers: how many deliveries to count from now on, and to how many endpoints of each event. An empty one
/// asks what arrived.
async fn obey(mut orders: Lines<BufReader<Stdin>>, counted: &Mutex<Counted>) {
    while let Ok(Some(order)) = orders.next_line().await {
        let mut counted = counted.lock().unwrap();
        match order.split_once(' ') {
            Some((deliveries, endpoints)) => {
                let deliveries: usize = deliveries.parse().unwrap();
                let (seen, micros) = (vec![false; deliveries], Vec::with_capacity(deliveries.min(1 << 20)));
                *counted = Counted { endpoints: endpoints.parse().unwrap(), seen, micros, ..Counted::default() };
                println!();
            }
            None => {
                let (waits, steady_p99) = (Waits::of(counted.micros.clone()), steady_p99(&counted.micros));
                let Counted { deliveries, extra, last_nanos, .. } = *counted;
                let arrivals = Arrivals { deliveries, extra, last_nanos, waits, steady_p99 };
                println!("{}", serde_json::to_string(&arrivals).unwrap());
            }
        }
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, counted: Arc<Mutex<Counted>>) {
    let mut unread = Vec::with_capacity(8 * 1024);
    loop {
        let length = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            if let Ok(httparse::Status::Complete(head)) = request.parse(&unread) {
                let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
                let body: usize = std::str::from_utf8(length.expect("it has one").value).unwrap().parse().unwrap();
                if let Some(body) = unread.get(head..head + body) {
                    counted.lock().unwrap().arrived(request.path.unwrap_or_default(), body);
                    break head + body.len();
                }
            }
            match stream.read_buf(&mut unread).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        };
        unread.drain(..length);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
            return;
        }
    }
}
