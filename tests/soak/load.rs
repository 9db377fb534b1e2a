//! Who posts, at a steady pace, and for whom.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use revnoxa_tests::{Client, Machine};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::receiver::{self, Arrivals};

/// A tenant each, with one endpoint of this manner.
const MANNERS: [&str; 9] = ["prompt", "prompt", "prompt", "prompt", "prompt", "redacted", "moody", "slow", "gone"];
/// Posts waiting for their answer at most; beyond it the pace slows.
const AT_ONCE: usize = 64;

/// A load under way.
pub(crate) struct Load {
    posting: Arc<Posting>,
    task: JoinHandle<()>,
}

struct Posting {
    producer: Client,
    arrivals: Arc<Arrivals>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    at_once: Arc<Semaphore>,
}

/// What passed within a minute; counts are since the start.
pub(crate) struct Traffic {
    pub(crate) acknowledged: u64,
    pub(crate) arrived: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// What it came to.
pub(crate) struct CameTo {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) missing: usize,
    pub(crate) twice: usize,
}

impl Load {
    pub(crate) async fn start(machine: &Machine, rate: u32) -> Self {
        let arrivals = Arc::new(Arrivals::new());
        let (url, _) = receiver::listen(arrivals.clone()).await;
        let (gone, soon_gone) = receiver::listen(arrivals.clone()).await;
        for (number, manner) in MANNERS.iter().enumerate() {
            let tenant = machine.tenant(&format!("tenant-{number}")).await;
            let base = if *manner == "gone" { &gone } else { &url };
            let endpoint = tenant.endpoint_with(json!({"url": format!("{base}/{manner}")})).await;
            if *manner == "redacted" {
                let redact = json!({"items": [{"plugin": "redact-fields", "settings": {"fields": ["/data/text"]}}]});
                endpoint.request("PUT", "/plugins").json(&redact).send().await.expect(200);
            }
        }
        soon_gone.abort();
        let posting = Arc::new(Posting {
            producer: machine.producer().await,
            arrivals,
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        });
        Self { task: tokio::spawn(posting.clone().run(rate)), posting }
    }

    pub(crate) fn last_minute(&self) -> Traffic {
        let (arrived, mut latencies) = self.posting.arrivals.take();
        latencies.sort_unstable();
        let at = |share: f64| match latencies.len() {
            0 => Duration::ZERO,
            count => latencies[((count - 1) as f64 * share) as usize],
        };
        let acknowledged = self.posting.acknowledged.load(Relaxed);
        Traffic { acknowledged, arrived, p50: at(0.5), p99: at(0.99) }
    }

    /// Posts no more, and waits until all has arrived, at most for `rest`.
    pub(crate) async fn stop(self, rest: Duration) -> CameTo {
        self.posting.stop.store(true, Relaxed);
        self.task.await.unwrap();
        let stopped = Instant::now();
        while self.posting.arrivals.open().0 > 0 && stopped.elapsed() < rest {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (missing, twice) = self.posting.arrivals.open();
        let (acknowledged, refused) = (self.posting.acknowledged.load(Relaxed), self.posting.refused.load(Relaxed));
        CameTo { acknowledged, refused, missing, twice }
    }
}

impl Posting {
    async fn run(self: Arc<Self>, rate: u32) {
        let mut pace = interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for number in 0.. {
            pace.tick().await;
            if self.stop.load(Relaxed) {
                break;
            }
            let turn = self.at_once.clone().acquire_owned().await.unwrap();
            let this = self.clone();
            tokio::spawn(async move {
                this.post(number % MANNERS.len()).await;
                drop(turn);
            });
        }
        let all = u32::try_from(AT_ONCE).unwrap();
        let _all = self.at_once.acquire_many(all).await.unwrap();
    }

    async fn post(&self, tenant: usize) {
        let posted_us = u64::try_from(self.arrivals.began.elapsed().as_micros()).unwrap();
        let event = json!({
            "tenant": format!("tenant-{tenant}"),
            "type": "incident.created",
            "data": {"posted_us": posted_us, "text": "x".repeat(900)},
        });
        match self.producer.request("POST", "/v1/events").json(&event).try_send().await {
            Ok(reply) if reply.status == 202 => {
                self.acknowledged.fetch_add(1, Relaxed);
                if MANNERS[tenant] != "gone" {
                    self.arrivals.acknowledged(reply.text_of("id").to_owned());
                }
            }
            Ok(_) | Err(_) => {
                self.refused.fetch_add(1, Relaxed);
            }
        }
    }
}
