//! Receivers that mean harm, in a process of their own. They answer as they should until they are told to turn, so that
//! their endpoints become active.

use std::time::Duration;

use revnoxa_tests::{
    HostileReceiver, Script,
    Step::{self, Drip, Flood, Request, Reset, Silence, Write},
    zstd_bomb,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    time::interval,
};

use crate::companion::Companion;

/// Between two looks at how many connections are open.
const LOOK: Duration = Duration::from_millis(50);
/// What makes them turn; any other order only asks.
const TURN: &str = "turn";

/// The process, as the others see it; ends with this.
pub(crate) struct Hostile {
    /// Of each receiver.
    pub(crate) urls: Vec<String>,
    companion: Companion,
}

impl Hostile {
    pub(crate) async fn start(receivers: usize) -> Self {
        let (companion, urls) = Companion::start(&["be-hostile", &receivers.to_string()]).await;
        Self { urls: serde_json::from_str(&urls).unwrap(), companion }
    }

    /// From now on they do harm.
    pub(crate) async fn turn(&mut self) {
        self.companion.ask(TURN).await;
    }

    /// Connections to them that were open at once, at most, since they turned.
    pub(crate) async fn at_once(&mut self) -> usize {
        self.companion.ask("").await.parse().unwrap()
    }
}

/// What the process does.
pub(crate) async fn run(receivers: usize) {
    let mut hostile = Vec::with_capacity(receivers);
    for _ in 0..receivers {
        hostile.push(HostileReceiver::start().await);
    }
    let urls: Vec<String> = hostile.iter().map(HostileReceiver::url).collect();
    println!("{}", serde_json::to_string(&urls).unwrap());
    let scripts: Vec<Script> = manners().into_iter().map(Script::new).collect();
    let mut orders = BufReader::new(stdin()).lines();
    let mut look = interval(LOOK);
    let mut most: usize = 0;
    loop {
        tokio::select! {
            order = orders.next_line() => {
                let Ok(Some(order)) = order else { return };
                if order == TURN {
                    for (receiver, script) in hostile.iter().zip(scripts.iter().cycle()) {
                        receiver.turn(script.clone());
                    }
                    most = 0;
                }
                println!("{most}");
            }
            _ = look.tick() => most = most.max(hostile.iter().map(HostileReceiver::open).sum()),
        }
    }
}

/// What they do with a connection, in turn: five keep the host waiting as long as it can be made to, five are through
/// at once.
fn manners() -> [Vec<Step>; 10] {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
    let header = |kib: usize| head(&format!("X: {}", "x".repeat(kib << 10)));
    let body = |kib: usize| head(&format!("Content-Length: 1000000\r\n\r\n{}", "x".repeat(kib << 10)));
    let bomb = zstd_bomb();
    let packed = head(&format!("Content-Encoding: zstd\r\nContent-Length: {}\r\n\r\n", bomb.len()));
    [
        vec![Request, Silence],
        vec![Request, Write(header(30)), Silence],
        vec![Request, Write(body(16)), Silence],
        vec![Request, Write(header(0)), Drip(b"x".to_vec())],
        vec![Request, Write(body(0)), Drip(b"x".to_vec())],
        vec![Request, Write(header(400)), Silence],
        vec![Request, Write(head("\r\n")), Flood(vec![b'x'; 64 << 10])],
        vec![Request, Reset],
        vec![Request, Write(b"\0".repeat(100)), Silence],
        vec![Request, Write([packed, bomb].concat())],
    ]
}
