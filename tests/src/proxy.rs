use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How a transaction is committed: a `Query` message of PostgreSQL's protocol, its length, the statement, a zero.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// The network between a host and its database, which does as the test says.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: u16,
    weather: watch::Sender<Weather>,
    /// Of so many commits one loses its answer; 0: none does.
    lose_every: AtomicUsize,
    commits: AtomicUsize,
    lost: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
struct Weather {
    passage: Passage,
    /// Connections with lower numbers carry nothing any more.
    deaf_below: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Passage {
    #[default]
    Free,
    Held,
    Refused,
}

impl Proxy {
    /// In front of this port of 127.0.0.1; lets everything through.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            weather: watch::Sender::default(),
            lose_every: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        });
        Self { port, accepting: tokio::spawn(accept(listener, shared.clone())), shared }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection, and each new one at once.
    pub fn refuse(&self) {
        self.shared.weather.send_modify(|weather| weather.passage = Passage::Refused);
    }

    /// Accepts connections and carries nothing; what was sent meanwhile arrives when it lets through again.
    pub fn hold(&self) {
        self.shared.weather.send_modify(|weather| weather.passage = Passage::Held);
    }

    /// Lets everything through.
    pub fn let_through(&self) {
        self.shared.weather.send_modify(|weather| weather.passage = Passage::Free);
    }

    /// The connections there are carry nothing for ever, and do not end; new ones work.
    pub fn swallow_open_connections(&self) {
        self.shared.weather.send_modify(|weather| weather.deaf_below = usize::MAX);
    }

    /// Has every `k`th commit reach the database and its connection end before the answer is back; 0: none.
    pub fn lose_answers_to_commits(&self, k: usize) {
        self.shared.lose_every.store(k, Relaxed);
    }

    /// How many commits lost their answers.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    for number in 0.. {
        let (host, _) = listener.accept().await.unwrap();
        // Those that were open when all were swallowed have lower numbers than this one.
        shared.weather.send_if_modified(|weather| {
            let swallowed = weather.deaf_below == usize::MAX;
            if swallowed {
                weather.deaf_below = number;
            }
            swallowed
        });
        open.spawn(connect(host, number, shared.clone()));
        while open.try_join_next().is_some() {}
    }
}

async fn connect(host: TcpStream, number: usize, shared: Arc<Shared>) {
    let mut weather = shared.weather.subscribe();
    if weather.borrow().passage == Passage::Refused {
        return;
    }
    // A server that is down refuses, and so does this.
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server)).await else { return };
    let _ = (host.set_nodelay(true), server.set_nodelay(true));
    let (from_host, to_host) = host.into_split();
    let (from_server, to_server) = server.into_split();
    let loses = AtomicBool::new(false);
    let there = carry(from_host, to_server, Passing::new(&shared, number), |bytes| {
        if shared.loses_answer(bytes) {
            loses.store(true, SeqCst);
        }
        true
    });
    let back = carry(from_server, to_host, Passing::new(&shared, number), |_| {
        let lost = loses.load(SeqCst);
        if lost {
            shared.lost.fetch_add(1, Relaxed);
        }
        !lost
    });
    // Whichever ends first ends both.
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = weather.wait_for(|weather| weather.passage == Passage::Refused) => {}
    }
}

impl Shared {
    fn loses_answer(&self, bytes: &[u8]) -> bool {
        let every = self.lose_every.load(Relaxed);
        every > 0
            && bytes.windows(COMMIT.len()).any(|window| window == COMMIT)
            && self.commits.fetch_add(1, Relaxed) % every == every - 1
    }
}

/// Whether one connection may carry something.
struct Passing {
    weather: watch::Receiver<Weather>,
    number: usize,
}

impl Passing {
    fn new(shared: &Shared, number: usize) -> Self {
        Self { weather: shared.weather.subscribe(), number }
    }

    async fn wait(&mut self) {
        let number = self.number;
        let passes = |weather: &Weather| weather.passage != Passage::Held && number >= weather.deaf_below;
        let _ = self.weather.wait_for(passes).await;
    }
}

/// Carries bytes, and the end, from one side to the other, as long as `seen` says so.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut passing: Passing,
    mut seen: impl FnMut(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        passing.wait().await;
        let Ok(length @ 1..) = read else { return };
        if !seen(&buffer[..length]) || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
