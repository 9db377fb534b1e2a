//! Producers that post events one by one as fast as they are acknowledged, and what came of it.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use revnoxa_tests::{Client, Machine};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{PRODUCERS, TENANTS, TIME, receiver::Counter};

/// What one line says.
pub(crate) struct Run {
    what: String,
    acknowledged: Vec<String>,
    /// From the first post to the last arrival.
    took: Duration,
    waits: Vec<Duration>,
    missing: usize,
    extra: u32,
    pub(crate) host_cpu: Duration,
    pub(crate) database_cpu: Option<Duration>,
}

impl Run {
    pub(crate) const HEAD: &str = "                     |         |            |   CPU-ms per 1,000    | acknowledged within |\n                     |  events | deliveries |     hosts |  database |       p50 |     p99 | missing | extra\n---------------------|---------|------------|-----------|-----------|-----------|---------|---------|------";
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.acknowledged.len();
        let per_1000 = |cpu: Duration| cpu.as_secs_f64() * 1e6 / events as f64;
        let at = |share: f64| self.waits[((self.waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        write!(
            f,
            "{:20} | {:7} | {:8.0}/s | {:9.0} | {:>9} | {:6.1} ms | {:4.0} ms | {:7} | {:5}",
            self.what,
            events,
            events as f64 / self.took.as_secs_f64(),
            per_1000(self.host_cpu),
            self.database_cpu.map_or_else(|| "–".to_owned(), |cpu| format!("{:.0}", per_1000(cpu))),
            at(0.5),
            at(0.99),
            self.missing,
            self.extra
        )
    }
}

/// Who posts where, once tenants and endpoints are there.
pub(crate) async fn prepare(machines: &[Machine], receiver: &Counter) -> Vec<Client> {
    for tenant in 0..TENANTS {
        let id = format!("tenant-{tenant}");
        let there = machines[0].operator().get(&format!("/v1/tenants/{id}/endpoints")).await;
        if there.status == 200 {
            // From an earlier run on this database: its receiver is gone.
            let endpoint = there.json["items"][0]["id"].as_str().unwrap().to_owned();
            let path = format!("/v1/tenants/{id}/endpoints/{endpoint}");
            machines[0].operator().patch(&path, json!({"url": receiver.url})).await.expect(200);
        } else {
            machines[0].tenant(&id).await.endpoint_with(json!({"url": receiver.url})).await;
        }
    }
    receiver.arrivals.lock().unwrap().clear();
    let mut clients = Vec::new();
    for machine in machines {
        clients.push(machine.producer().await);
    }
    clients
}

/// Posts for a while and waits for the last arrival.
pub(crate) async fn run(what: &str, hosts: &[Client], receiver: &Counter) -> Run {
    let results: Arc<Mutex<Vec<(String, Duration)>>> = Arc::default();
    let began = Instant::now();
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        let (client, results) = (hosts[producer % hosts.len()].clone(), results.clone());
        producers.spawn(async move {
            let data = json!({"text": "x".repeat(900)});
            for number in 0.. {
                if began.elapsed() >= TIME {
                    return;
                }
                let tenant = format!("tenant-{}", (producer + number) % TENANTS);
                let event = json!({"tenant": tenant, "type": "incident.created", "data": data});
                let asked = Instant::now();
                let id = client.post("/v1/events", event).await.expect(202).text_of("id").to_owned();
                results.lock().unwrap().push((id, asked.elapsed()));
            }
        });
    }
    producers.join_all().await;
    let (acknowledged, mut waits): (Vec<String>, Vec<Duration>) =
        std::mem::take(&mut *results.lock().unwrap()).into_iter().unzip();
    waits.sort_unstable();
    let missing = || {
        let arrivals = receiver.arrivals.lock().unwrap();
        acknowledged.iter().filter(|id| !arrivals.contains_key(*id)).count()
    };
    let posted = Instant::now();
    while missing() > 0 && posted.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let extra = receiver.arrivals.lock().unwrap().values().map(|times| times - 1).sum();
    let missing = missing();
    Run {
        what: what.to_owned(),
        acknowledged,
        took,
        waits,
        missing,
        extra,
        host_cpu: Duration::ZERO,
        database_cpu: None,
    }
}
