//! Producers that post without pause, and what each was answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use revnoxa_tests::{Client, Machine};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::customers::{Customers, TENANTS};

const PRODUCERS: u64 = 4;
/// Between two posts of a producer, in milliseconds: hosts that are busy, not hosts that starve each other.
const PACE: std::ops::Range<u64> = 10..40;
/// A refusal comes within 2 s; the rest is for a machine that runs many hosts at once.
const PROMPT: Duration = Duration::from_millis(2_500);
/// From the end of a fault until a post is acknowledged and delivered, and all that was posted before.
pub(crate) const RECOVERY: Duration = Duration::from_secs(5);

/// What a producer does when it is not told that its event was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Goes on with the next.
    Once,
    /// Posts the same again, to any host, until it is taken.
    Retry,
}

/// What was answered.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Tenant and id of each event that was answered 202.
    pub(crate) acknowledged: Vec<(&'static str, String)>,
    /// Of each other answer its status, how long it took, and what it said.
    refused: Vec<(u16, Duration, String)>,
    /// Posts whose connection ended.
    pub(crate) broken: usize,
    /// From the end of each fault until all worked again.
    recoveries: Vec<Duration>,
}

impl Tally {
    /// Fails the test unless every refusal was a prompt 503. Gives its figures.
    pub(crate) fn check(&self) -> String {
        for (status, took, text) in &self.refused {
            assert_eq!(*status, 503, "{text}");
            assert!(*took < PROMPT, "a refusal came after {took:?}: {text}");
        }
        let slowest = self.refused.iter().map(|(_, took, _)| *took).max().unwrap_or_default();
        format!(
            "acknowledged {}, refused {} (slowest {slowest:.2?}), broken {}, recoveries {} (slowest {:.2?})",
            self.acknowledged.len(),
            self.refused.len(),
            self.broken,
            self.recoveries.len(),
            self.recoveries.iter().max().unwrap_or(&Duration::ZERO),
        )
    }

    pub(crate) fn refusals(&self) -> usize {
        self.refused.len()
    }
}

/// Producers at work.
pub(crate) struct Load {
    posting: Arc<Posting>,
    producers: JoinSet<()>,
}

struct Posting {
    hosts: Vec<Client>,
    tally: Mutex<Tally>,
    next: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    /// Starts producers that post to all of these hosts, each time to one by chance.
    pub(crate) async fn on(hosts: &[&Machine], manner: Manner) -> Self {
        let mut clients = Vec::new();
        for host in hosts {
            clients.push(host.producer().await);
        }
        let posting = Arc::new(Posting {
            hosts: clients,
            tally: Mutex::default(),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let mut producers = JoinSet::new();
        for seed in 0..PRODUCERS {
            producers.spawn(produce(posting.clone(), manner, StdRng::seed_from_u64(seed)));
        }
        Self { posting, producers }
    }

    /// How many events were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.posting.tally.lock().unwrap().acknowledged.len()
    }

    /// What was answered so far.
    pub(crate) fn tally(&self) -> Tally {
        self.posting.tally.lock().unwrap().clone()
    }

    /// A fault has just ended: fails the test unless each host takes an event and it arrives, in time.
    pub(crate) async fn recovers(&self, customers: &Customers) {
        let ended = Instant::now();
        let all = async {
            for host in 0..self.posting.hosts.len() {
                let tenant = TENANTS[host % TENANTS.len()];
                let mut event = self.posting.event(tenant);
                while !self.posting.post(host, &event).await {
                    sleep(Duration::from_millis(20)).await;
                    event = self.posting.event(tenant);
                }
                customers.have(&event).await;
            }
        };
        timeout(RECOVERY, all).await.unwrap_or_else(|_| panic!("no host-wide recovery within {RECOVERY:?}"));
        self.posting.tally.lock().unwrap().recoveries.push(ended.elapsed());
    }

    /// Ends when each producer has its answer.
    pub(crate) async fn stop(self) -> Tally {
        self.posting.stop.store(true, Relaxed);
        self.producers.join_all().await;
        std::mem::take(&mut *self.posting.tally.lock().unwrap())
    }
}

/// A tenant's event, by its id.
pub(crate) struct Posted {
    pub(crate) tenant: &'static str,
    pub(crate) id: String,
}

async fn produce(posting: Arc<Posting>, manner: Manner, mut random: StdRng) {
    while !posting.stop.load(Relaxed) {
        let event = posting.event(TENANTS[random.random_range(0..TENANTS.len())]);
        let began = Instant::now();
        while !posting.post(random.random_range(0..posting.hosts.len()), &event).await && manner == Manner::Retry {
            assert!(began.elapsed() < Duration::from_secs(20), "event {} is never taken", event.id);
            sleep(Duration::from_millis(50)).await;
        }
        sleep(Duration::from_millis(random.random_range(PACE))).await;
    }
}

impl Posting {
    fn event(&self, tenant: &'static str) -> Posted {
        Posted { tenant, id: format!("evt_{}", self.next.fetch_add(1, Relaxed)) }
    }

    /// Whether this host said that it has the event.
    async fn post(&self, host: usize, event: &Posted) -> bool {
        let body =
            json!({"tenant": event.tenant, "type": "incident.created", "id": event.id, "data": {"id": event.id}});
        let began = Instant::now();
        let answer = self.hosts[host].request("POST", "/v1/events").json(&body).try_send();
        let answer = timeout(Duration::from_secs(10), answer).await;
        let mut tally = self.tally.lock().unwrap();
        match answer.unwrap_or_else(|_| panic!("host {host} does not answer")) {
            Ok(reply) if reply.status == 202 => {
                assert_eq!(reply.json, json!({"id": event.id, "deliveries": 3}));
                tally.acknowledged.push((event.tenant, event.id.clone()));
                true
            }
            Ok(reply) => {
                tally.refused.push((reply.status, began.elapsed(), reply.text));
                false
            }
            Err(_) => {
                tally.broken += 1;
                false
            }
        }
    }
}
