//! Producers that post without pause to a host that may die at any moment, endpoints that each want some of it, and whether they
//! got it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rand::{SeedableRng, rngs::StdRng};
use revnoxa_tests::{Client, Endpoint, Machine, Receiver, Tenant, eventually};
use serde_json::json;
use tokio::task::JoinSet;

const PRODUCERS: usize = 8;
/// Attempts under way at once.
const AT_ONCE: usize = 32;
/// Attempts that a crash may cost, on average over many: those under way, and those that ended and were not committed yet.
const IN_FLIGHT: usize = 2 * AT_ONCE;
const TYPES: [&str; 2] = ["incident.created", "incident.resolved"];
/// What each endpoint wants; `None`: all.
const WANTED: [Option<&[&str]>; 3] = [None, Some(&[TYPES[0]]), Some(&[TYPES[1]])];

/// How often something fails: `CRASH_ROUNDS`, where it is set.
pub(crate) fn rounds(usually: usize) -> usize {
    std::env::var("CRASH_ROUNDS").map_or(usually, |rounds| rounds.parse().expect("CRASH_ROUNDS is a number"))
}

/// The moments of faults, the same in every run.
pub(crate) fn random() -> StdRng {
    StdRng::seed_from_u64(0x5eed)
}

/// A machine whose host soon takes up again what another one left.
pub(crate) fn hasty(machine: Machine) -> Machine {
    machine
        .set("REVNOXA_LEASE", "2s")
        .set("REVNOXA_ATTEMPT_TIMEOUT", "1s")
        .set("REVNOXA_RETRY_DELAYS", "1s,1s,1s,1s")
        .set("REVNOXA_MAX_IN_FLIGHT", &AT_ONCE.to_string())
        .set("REVNOXA_MAX_IN_FLIGHT_PER_ENDPOINT", &AT_ONCE.to_string())
}

/// An event that was answered 202.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    id: String,
    event_type: &'static str,
}

/// A tenant's endpoints, and those who post for it.
pub(crate) struct Load {
    tenant: Tenant,
    producer: Client,
    endpoints: Vec<(Endpoint, Receiver)>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    producers: JoinSet<()>,
    /// How many events were acknowledged before the producers that are at work.
    before: usize,
}

impl Load {
    /// A tenant and its endpoints; nobody posts yet.
    pub(crate) async fn on(machine: &Machine) -> Self {
        let tenant = machine.tenant("acme").await;
        let mut endpoints = Vec::new();
        for wanted in WANTED {
            // Every third answer is a failure at first, so that each crash also finds deliveries that wait for a retry.
            let answers = (0..3_000).map(|n| if n % 3 == 0 { 500 } else { 200 });
            let receiver = Receiver::answering(answers.chain([200])).await;
            let endpoint = tenant.endpoint_with(json!({"url": receiver.url(), "event_types": wanted})).await;
            endpoints.push((endpoint, receiver));
        }
        Self {
            tenant,
            producer: machine.producer().await,
            endpoints,
            acknowledged: Arc::default(),
            producers: JoinSet::new(),
            before: 0,
        }
    }

    /// Producers post until their host is dead.
    pub(crate) fn begin(&mut self) {
        self.before = self.acknowledged();
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..PRODUCERS {
            let posting = post_until_it_dies(self.producer.clone(), next.clone(), self.acknowledged.clone());
            self.producers.spawn(posting);
        }
    }

    /// Posts so many events together, under this idempotency key. `None`: the host did not answer.
    pub(crate) async fn batch(producer: Client, key: &str, events: usize) -> Option<Vec<Acknowledged>> {
        let types = || TYPES.into_iter().cycle().take(events);
        let event = |event_type| json!({"tenant": "acme", "type": event_type, "data": {"title": "Checkout is down"}});
        let batch = json!({"events": types().map(event).collect::<Vec<_>>()});
        let post = producer.request("POST", "/v1/events/batch").header("idempotency-key", key).json(&batch);
        let reply = post.try_send().await.ok()?.expect(202);
        let ids = reply["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned());
        Some(ids.zip(types()).map(|(id, event_type)| Acknowledged { id, event_type }).collect())
    }

    /// Who posts.
    pub(crate) fn producer(&self) -> Client {
        self.producer.clone()
    }

    /// How many events were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// After the host's death: what was acknowledged since [`Load::begin`].
    pub(crate) async fn end(&mut self) -> Vec<Acknowledged> {
        while let Some(ended) = self.producers.join_next().await {
            ended.unwrap();
        }
        self.acknowledged.lock().unwrap()[self.before..].to_vec()
    }

    /// Those of these events that the host does not know, or not with a delivery for each endpoint that wanted them.
    pub(crate) async fn lost(&self, events: &[Acknowledged]) -> Vec<String> {
        let mut lost = Vec::new();
        for event in events {
            let deliveries = self.tenant.get(&format!("/events/{}/deliveries", event.id)).await;
            let known = deliveries["items"].as_array().map_or(0, Vec::len);
            let wanted = WANTED.into_iter().filter(|wanted| wants(*wanted, event.event_type)).count();
            if known != wanted {
                lost.push(format!("{}: {known} of {wanted} deliveries", event.id));
            }
        }
        lost
    }

    /// Waits until nothing is left to do, then fails the test unless each endpoint got every acknowledged event that it wanted,
    /// no other, and no attempt more often than so many crashes explain.
    pub(crate) async fn check(&self, crashes: usize) {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        assert!(acknowledged.len() >= crashes, "there was a load: {} events", acknowledged.len());
        let (mut arrived, mut attempts) = (0, HashMap::<(usize, String, String), usize>::new());
        for (number, (endpoint, receiver)) in self.endpoints.iter().enumerate() {
            eventually("all deliveries to be done", async || {
                let waiting = endpoint.get("/deliveries?state=pending&limit=1").await.expect(200);
                waiting["items"].as_array()?.is_empty().then_some(())
            })
            .await;
            let requests = receiver.received();
            let delivered: HashSet<&str> = requests.iter().filter_map(|request| request.header("webhook-id")).collect();
            let wanted = |event: &&Acknowledged| wants(WANTED[number], event.event_type);
            let lost: Vec<&str> = acknowledged
                .iter()
                .filter(wanted)
                .map(|event| event.id.as_str())
                .filter(|id| !delivered.contains(id))
                .collect();
            assert!(lost.is_empty(), "{} of {} acknowledged events are lost: {lost:?}", lost.len(), acknowledged.len());
            arrived += requests.len();
            for request in &requests {
                let header = |name| request.header(name).unwrap().to_owned();
                assert!(wants(WANTED[number], &header("x-revnoxa-event")), "{request:?}");
                *attempts.entry((number, header("x-revnoxa-delivery"), header("x-revnoxa-attempt"))).or_default() += 1;
            }
        }
        let (repeated, often) = (arrived - attempts.len(), attempts.values().max().copied().unwrap_or_default());
        let figures = format!(
            "crashes {crashes}, acknowledged {}, lost 0, arrived {arrived}, repeated {repeated} of at most {}",
            acknowledged.len(),
            crashes * IN_FLIGHT
        );
        eprintln!("{figures}");
        assert!(often <= 1 + crashes, "an attempt was made {often} times: {figures}");
        assert!(repeated <= crashes * IN_FLIGHT, "{figures}");
    }
}

fn wants(wanted: Option<&[&str]>, event_type: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(&event_type))
}

async fn post_until_it_dies(producer: Client, next: Arc<AtomicUsize>, acknowledged: Arc<Mutex<Vec<Acknowledged>>>) {
    loop {
        let event_type = TYPES[next.fetch_add(1, Relaxed) % TYPES.len()];
        let event = json!({"tenant": "acme", "type": event_type, "data": {"title": "Checkout is down"}});
        match producer.request("POST", "/v1/events").json(&event).try_send().await {
            Ok(reply) => {
                let id = reply.expect(202).text_of("id").to_owned();
                acknowledged.lock().unwrap().push(Acknowledged { id, event_type });
            }
            Err(_) => return,
        }
    }
}
