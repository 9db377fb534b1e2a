//! Two tenants with three endpoints each, and whether each of them got what was acknowledged.

use std::{collections::HashMap, sync::Arc, time::Duration};

use revnoxa_tests::{Answer, Endpoint, Machine, Postgres, Received, Receiver, eventually};
use serde_json::json;
use tokio::time::timeout;

use crate::load::{Posted, RECOVERY, Tally};

pub(crate) const TENANTS: [&str; 2] = ["acme", "bob"];
const ENDPOINTS: usize = 3;
/// How long receivers take, so that there is always an attempt under way.
const TAKES: Duration = Duration::from_millis(15);

pub(crate) struct Customers {
    receivers: Vec<(Endpoint, Receiver)>,
    url: String,
}

/// What the faults of a test may have cost.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// How often something failed.
    pub(crate) faults: usize,
    /// Attempts of all faults together whose results were not recorded, at most; each is made once more.
    pub(crate) stranded: usize,
}

impl Customers {
    /// Those that always answer 200.
    pub(crate) async fn content(host: &Machine, url: &str) -> Self {
        Self::answering(host, url, |_| 200).await
    }

    /// Those that answer now and then with 500.
    pub(crate) async fn moody(host: &Machine, url: &str) -> Self {
        Self::answering(host, url, |number| if number % 7 == 3 { 500 } else { 200 }).await
    }

    /// `url` is the database's, not through any proxy.
    async fn answering(host: &Machine, url: &str, status: fn(usize) -> u16) -> Self {
        let mut receivers = Vec::new();
        for tenant in TENANTS {
            let tenant = host.tenant(tenant).await;
            for _ in 0..ENDPOINTS {
                let answers = (0..3_000).map(|number| Answer::status(status(number)).after(TAKES));
                let receiver = Receiver::answering(answers.chain([Answer::status(200).after(TAKES)])).await;
                receivers.push((tenant.endpoint(&receiver).await, receiver));
            }
        }
        Self { receivers, url: url.into() }
    }

    /// Has a tenant's host do this to each endpoint: `/disable`, `/enable`.
    pub(crate) async fn each(&self, path: &str) {
        for (endpoint, _) in &self.receivers {
            endpoint.post_empty(path).await.expect(200);
        }
    }

    fn of(&self, tenant: &str) -> impl Iterator<Item = &Receiver> {
        self.receivers.iter().filter(move |(endpoint, _)| endpoint.tenant.id == tenant).map(|(_, receiver)| receiver)
    }

    /// Waits until the event has arrived at each endpoint.
    pub(crate) async fn have(&self, event: &Posted) {
        for receiver in self.of(event.tenant) {
            let arrived =
                |all: &[Arc<Received>]| all.iter().rev().any(|one| one.header("webhook-id") == Some(&event.id));
            receiver.wait_until(&event.id, arrived).await;
        }
    }

    /// Waits until nothing is left to do, then fails the test if anything acknowledged is missing, if more came twice than the
    /// faults explain, or if the history tells another story. Gives the figures.
    pub(crate) async fn check(&self, tally: &Tally, cost: Cost) -> String {
        let figures = tally.check();
        timeout(RECOVERY, self.done())
            .await
            .unwrap_or_else(|_| panic!("not all is delivered within {RECOVERY:?}: {figures}"));
        let mut arrivals: HashMap<(usize, String, String), usize> = HashMap::new();
        let mut deliveries: HashMap<(usize, String), String> = HashMap::new();
        let mut arrived = 0;
        for (number, (_, receiver)) in self.receivers.iter().enumerate() {
            for request in receiver.received() {
                let header = |name| request.header(name).unwrap().to_owned();
                let (event, delivery) = (header("webhook-id"), header("x-revnoxa-delivery"));
                let known = deliveries.entry((number, event.clone())).or_insert_with(|| delivery.clone());
                assert_eq!(*known, delivery, "one delivery of {event} at an endpoint");
                *arrivals.entry((number, event, header("x-revnoxa-attempt"))).or_default() += 1;
                arrived += 1;
            }
        }
        for (tenant, event) in &tally.acknowledged {
            for (number, _) in self.receivers.iter().enumerate().filter(|(_, (at, _))| at.tenant.id == *tenant) {
                assert!(deliveries.contains_key(&(number, event.clone())), "{event}, acknowledged, is lost");
            }
        }
        let often = arrivals.values().max().copied().unwrap_or_default();
        assert!(often <= 1 + cost.faults, "an attempt was made {often} times");
        let recorded: usize =
            self.of_events("SELECT COUNT(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id");
        assert!(arrived >= recorded, "{recorded} attempts in the history, {arrived} made");
        let extra = arrived - recorded;
        let figures = format!("{figures}, arrived {arrived}, extra {extra} of at most {}", cost.stranded);
        eprintln!("{figures}");
        assert!(extra <= cost.stranded, "{figures}");
        self.check_history(deliveries.len());
        figures
    }

    /// Waits until nothing is left to do.
    pub(crate) async fn done(&self) {
        eventually("all deliveries to be done", async || {
            (self.sql("SELECT COUNT(*) FROM deliveries WHERE state = 'pending'") == "0").then_some(())
        })
        .await;
    }

    fn check_history(&self, arrived: usize) {
        assert_eq!(self.of_events("SELECT COUNT(*) FROM deliveries d"), arrived, "deliveries");
        let events = self.of_events("SELECT COUNT(DISTINCT (d.tenant_id, d.event_id)) FROM deliveries d");
        assert_eq!(events * ENDPOINTS, arrived, "each event has all of its deliveries");
        let wrong = "SELECT COUNT(*) FROM deliveries d JOIN
             (SELECT delivery_id, COUNT(*) AS attempts, COUNT(*) FILTER (WHERE status_code = 200) AS successes, MAX(number) AS last
              FROM attempts GROUP BY 1) a ON a.delivery_id = d.id AND
             (d.state <> 'succeeded' OR d.attempts <> a.attempts OR a.last <> a.attempts OR a.successes <> 1)";
        assert_eq!(self.of_events(wrong), 0, "deliveries whose state is not what their attempts came to");
    }

    /// A number, of deliveries `d` that are no tests.
    fn of_events(&self, select: &str) -> usize {
        self.sql(&format!("{select} WHERE d.event_type <> 'webhook.test'")).parse().unwrap()
    }

    fn sql(&self, statement: &str) -> String {
        Postgres::sql(&self.url, statement)
    }

    /// What came in so far at the first endpoint of the first tenant.
    pub(crate) fn first(&self) -> Vec<Arc<Received>> {
        self.receivers[0].1.received()
    }

    /// Waits until more events than `before` have begun to arrive at the last endpoint of the first tenant.
    pub(crate) async fn begin(&self, before: usize) {
        let last = self.of(TENANTS[0]).last().expect("there are some");
        last.wait_until("a new event", |all| all.len() > before).await;
    }

    /// The events that came in so far, at all endpoints.
    pub(crate) fn arrived(&self) -> usize {
        self.receivers.iter().map(|(_, receiver)| receiver.received().len()).sum()
    }
}

/// What a test without faults may cost.
pub(crate) const NOTHING: Cost = Cost { faults: 0, stranded: 0 };

/// How many attempts of this host have ended, as its metrics say.
pub(crate) async fn attempted(host: &Machine) -> u64 {
    let metrics = host.operator().get("/metrics").await.expect(200);
    let results = metrics.text.lines().filter(|line| line.starts_with("revnoxa_attempts_total{"));
    results.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// An event for a tenant of these, posted by hand.
pub(crate) fn event(id: &str) -> serde_json::Value {
    json!({"tenant": TENANTS[0], "type": "incident.created", "id": id, "data": {"id": id}})
}
