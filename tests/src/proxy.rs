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
    /// What becomes of every so many commits; 0: of none.
    lose_every: AtomicUsize,
    strand_every: AtomicUsize,
    commits: AtomicUsize,
    failed: AtomicUsize,
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
            strand_every: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
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

    /// Has the connection turn into a black hole before every `k`th commit, whose transaction stays open; 0: before none.
    pub fn strand_commits(&self, k: usize) {
        self.shared.strand_every.store(k, Relaxed);
    }

    /// How many commits lost their answers, or never came.
    pub fn failed_commits(&self) -> usize {
        self.shared.failed.load(Relaxed)
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
    let (loses, strands) = (AtomicBool::new(false), AtomicBool::new(false));
    let fate = || match (loses.load(SeqCst), strands.load(SeqCst)) {
        (_, true) => Fate::Stranded,
        (true, _) => Fate::Ended,
        _ => Fate::Carried,
    };
    let there = carry(from_host, to_server, Passing::new(&shared, number), |bytes| {
        if bytes.windows(COMMIT.len()).any(|window| window == COMMIT) {
            let commit = shared.commits.fetch_add(1, Relaxed);
            loses.store(shared.fails(commit, &shared.lose_every), SeqCst);
            strands.store(shared.fails(commit, &shared.strand_every), SeqCst);
        }
        // The commit itself arrives, and only the answer does not.
        if strands.load(SeqCst) { Fate::Stranded } else { Fate::Carried }
    });
    let back = carry(from_server, to_host, Passing::new(&shared, number), |_| fate());
    // Whichever ends first ends both.
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = weather.wait_for(|weather| weather.passage == Passage::Refused) => {}
    }
}

impl Shared {
    fn fails(&self, commit: usize, every: &AtomicUsize) -> bool {
        let every = every.load(Relaxed);
        let fails = every > 0 && commit % every == every - 1;
        self.failed.fetch_add(usize::from(fails), Relaxed);
        fails
    }
}

/// What becomes of bytes.
enum Fate {
    Carried,
    /// The connection ends before them.
    Ended,
    /// They never arrive, and nobody is told.
    Stranded,
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

/// Carries bytes, and the end, from one side to the other.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut passing: Passing,
    mut fate: impl FnMut(&[u8]) -> Fate,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        passing.wait().await;
        let length = read.unwrap_or(0);
        match fate(&buffer[..length]) {
            Fate::Stranded => std::future::pending().await,
            Fate::Carried if length > 0 && to.write_all(&buffer[..length]).await.is_ok() => {}
            Fate::Carried | Fate::Ended => return,
        }
    }
}
