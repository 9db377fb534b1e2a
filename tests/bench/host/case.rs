//! One case: hosts, tenants and endpoints as it says, a load, and what came of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use revnoxa_tests::{HostProcess, Machine, Postgres};
use serde_json::json;

use crate::{
    beside::{self, Beside},
    cases::Scale,
    generator::{self, Load, Pace, Posted},
    limit::{Job, Limit},
    process,
    receiver::{self, Arrivals, Receiver},
    report::{Figures, Noise, Waits},
    rows,
};

/// Events counted at most in one case.
const EVENTS: usize = 2_000_000;
/// Connections of the core product at once, each of which waits for its answer.
const PRODUCERS: usize = 64;
/// Events of a request where they are many.
const LARGE_BATCH: usize = 1_000;

#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    pub(crate) hosts: usize,
    pub(crate) tenants: usize,
    /// Of each tenant.
    pub(crate) endpoints: usize,
    /// Each endpoint at an address of its own.
    pub(crate) addresses: bool,
    pub(crate) https: bool,
    /// A `redact-fields` on each endpoint.
    pub(crate) plugin: bool,
    /// Finished deliveries that are in the table before.
    pub(crate) rows: usize,
    pub(crate) beside: Beside,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// As fast as they are acknowledged, so many a request.
    Saturated { batch: usize },
    /// So many events a second.
    Paced(usize),
    /// So many wait in the table for an endpoint that was disabled, and is enabled.
    Drain(usize),
}

/// What the load came to.
struct Measured {
    posted: Posted,
    /// What stood beside it.
    noise: Option<Posted>,
    arrivals: Arrivals,
    expected: usize,
    began_nanos: u64,
    host_cpu: Duration,
    database_cpu: Option<Duration>,
}

impl Case {
    /// One host on SQLite, one endpoint, events posted one by one.
    pub(crate) const fn sqlite(name: &'static str) -> Self {
        Self {
            name,
            database: Database::Sqlite,
            hosts: 1,
            tenants: 1,
            endpoints: 1,
            addresses: false,
            https: false,
            plugin: false,
            rows: 0,
            beside: Beside::Nothing,
            kind: Kind::Saturated { batch: 1 },
        }
    }

    /// The same on PostgreSQL.
    pub(crate) const fn postgres(name: &'static str) -> Self {
        Self { database: Database::Postgres, ..Self::sqlite(name) }
    }

    pub(crate) async fn run(&self, scale: Scale, receiver: &mut Receiver, server: Option<&Postgres>) -> Figures {
        let machines = self.machines(receiver, server);
        let mut hosts = serve(&machines).await;
        // Whatever a start does is done.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let idle_bytes = hosts.iter().map(|host| process::memory_of(host.pid()).0).max().expect("a host");
        let urls = self.prepare(&machines[0], receiver).await;
        let hostile = self.beside.make(&machines[0], self.tenants, &receiver.ports).await;
        if self.rows > 0 {
            for mut host in hosts {
                host.terminate();
                host.exit().await;
            }
            rows::fill(&machines[0].setting("REVNOXA_DATABASE_URL"), self.rows, yesterday()).await;
            hosts = serve(&machines).await;
        }
        let load = self.load(&machines).await;
        if let Beside::Backlog(waiting) = self.beside {
            let to_the_dead = Load { tenants: self.tenants..self.tenants + 1, ..large(&load) };
            to_the_dead.post(Pace::UpTo(waiting)).await;
        }
        let job = Job { urls, authority: receiver.ports.authority.clone(), time: scale.time / 3 };
        let before = Limit::of(&job).await;
        let measured = self.measure(scale, &load, receiver, &machines[0], &hosts, server).await;
        let peak_bytes = hosts.iter().map(|host| process::memory_of(host.pid()).1).max().expect("a host");
        let fsync = process::fsync_of(machines[0].dir());
        drop(hosts);
        let limit = before.mean(Limit::of(&job).await);

        let Measured { posted, noise, arrivals, expected, began_nanos, host_cpu, database_cpu } = measured;
        let hostile_at_once = match hostile {
            Some(mut hostile) => Some(hostile.at_once().await),
            None => None,
        };
        let seconds = Duration::from_nanos(arrivals.last_nanos.saturating_sub(began_nanos)).as_secs_f64();
        let of_1000 = |cpu: Duration| cpu.as_secs_f64() * 1e6 / arrivals.deliveries as f64;
        let (arrived, steady_p99) = match self.kind {
            Kind::Saturated { .. } | Kind::Paced(_) => (arrivals.waits, arrivals.steady_p99),
            Kind::Drain(_) => (Waits::default(), 0),
        };
        Figures {
            case: self.name,
            limit,
            events: posted.events,
            event_rate: posted.events as f64 / posted.took.as_secs_f64(),
            delivery_rate: arrivals.deliveries as f64 / seconds,
            acknowledged: posted.waits,
            arrived,
            steady_p99,
            noise: noise.map(|Posted { events, refused, .. }| Noise { events, refused, hostile_at_once }),
            host_cpu: of_1000(host_cpu),
            database_cpu: database_cpu.map(of_1000),
            idle_bytes,
            peak_bytes,
            missing: expected.saturating_sub(arrivals.deliveries),
            extra: arrivals.extra,
            fsync,
        }
    }

    fn machines(&self, receiver: &Receiver, server: Option<&Postgres>) -> Vec<Machine> {
        let authority = receiver.ports.authority.to_str().expect("it is UTF-8");
        let machines: Vec<Machine> = match self.database {
            Database::Sqlite => vec![Machine::on_a_file()],
            Database::Postgres => {
                let database = server.expect("it was started for this").database();
                (0..self.hosts).map(|_| Machine::on(&database)).collect()
            }
        };
        machines.into_iter().map(|machine| self.beside.set(machine.set("REVNOXA_EXTRA_CA", authority))).collect()
    }

    /// Makes the tenants with their endpoints; gives the URLs of those that answer.
    async fn prepare(&self, machine: &Machine, receiver: &Receiver) -> Vec<String> {
        let ports = &receiver.ports;
        let (scheme, port) = if self.https { ("https", ports.https) } else { ("http", ports.http) };
        let mut urls = Vec::new();
        let healthy = self.tenants - self.beside.dead_tenants();
        for number in 0..self.tenants {
            let tenant = machine.tenant(&generator::tenant(number)).await;
            for endpoint in 0..self.endpoints {
                let address = match self.addresses {
                    true => receiver::address(urls.len()),
                    false => "127.0.0.1".to_owned(),
                };
                if number < healthy {
                    let url = format!("{scheme}://{address}:{port}/{endpoint}");
                    let made = tenant.endpoint_with(json!({"url": url})).await;
                    if self.plugin {
                        let plugin = json!({"plugin": "redact-fields", "settings": {"fields": ["/data/email"]}});
                        let attach = made.request("PUT", "/plugins").json(&json!({"items": [plugin]}));
                        attach.send().await.expect(200);
                    }
                    urls.push(url);
                } else {
                    beside::dead_endpoint(&tenant, &address, ports).await;
                }
            }
        }
        urls
    }

    async fn load(&self, machines: &[Machine]) -> Load {
        let hosts =
            machines.iter().map(|machine| machine.url().trim_start_matches("http://").parse().unwrap()).collect();
        let token = machines[0].producer().await.token().to_owned();
        let batch = if let Kind::Saturated { batch } = self.kind { batch } else { 1 };
        // As many deliveries are under way, however many events are in a request.
        let producers = if batch == 1 { PRODUCERS } else { 8 };
        Load { hosts, token, tenants: 0..self.tenants, producers, batch, refusals: false }
    }

    async fn measure(
        &self,
        scale: Scale,
        load: &Load,
        receiver: &mut Receiver,
        machine: &Machine,
        hosts: &[HostProcess],
        server: Option<&Postgres>,
    ) -> Measured {
        receiver.count(EVENTS, self.endpoints).await;
        let warm_up = load.post(self.pace(Duration::from_secs(1))).await;
        receiver.wait_for(self.expected(warm_up.events)).await;
        receiver.count(EVENTS, self.endpoints).await;

        let pids: Vec<u32> = hosts.iter().map(HostProcess::pid).collect();
        let server = server.filter(|_| self.database == Database::Postgres);
        let cpu = || (process::cpu_of(&pids), server.map(|server| process::cpu_of_family(server.pid())));
        let (posted, noise, began_nanos, before) = match self.kind {
            Kind::Saturated { .. } | Kind::Paced(_) => {
                let before = cpu();
                let noise = self.beside.post(load, self.lasts(scale.time));
                let (posted, noise) = tokio::join!(load.post(self.pace(scale.time)), noise);
                let began_nanos = posted.began_nanos;
                (posted, noise, began_nanos, before)
            }
            Kind::Drain(events) => {
                let tenant = machine.operator().below(&format!("/v1/tenants/{}", generator::tenant(0)));
                let endpoint = tenant.all("/endpoints").await[0]["id"].as_str().unwrap().to_owned();
                let endpoint = tenant.below(&format!("/endpoints/{endpoint}"));
                endpoint.post_empty("/disable").await.expect(200);
                let posted = large(load).post(Pace::UpTo(events)).await;
                let (before, began_nanos) = (cpu(), process::nanos());
                endpoint.post_empty("/enable").await.expect(200);
                (posted, None, began_nanos, before)
            }
        };
        let expected = self.expected(posted.events);
        let arrivals = receiver.wait_for(expected).await;
        let after = cpu();
        let database_cpu = after.1.zip(before.1).map(|(after, before)| after - before);
        Measured { posted, noise, arrivals, expected, began_nanos, host_cpu: after.0 - before.0, database_cpu }
    }

    fn pace(&self, time: Duration) -> Pace {
        match self.kind {
            Kind::Saturated { .. } | Kind::Drain(_) => Pace::For(time),
            Kind::Paced(per_second) => Pace::Fixed(per_second, self.lasts(time)),
        }
    }

    /// How long a load goes on.
    fn lasts(&self, time: Duration) -> Duration {
        match self.kind {
            Kind::Saturated { .. } | Kind::Drain(_) => time,
            // Of few events each counts: they need their time.
            Kind::Paced(_) => time * 2,
        }
    }

    /// Deliveries to endpoints that answer.
    fn expected(&self, events: usize) -> usize {
        let healthy = self.tenants - self.beside.dead_tenants();
        let rest = (events % self.tenants).min(healthy);
        (events / self.tenants * healthy + rest) * self.endpoints
    }
}

fn yesterday() -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24)
}

/// The same load in few large requests.
fn large(load: &Load) -> Load {
    Load { producers: 4, batch: LARGE_BATCH, ..load.clone() }
}

async fn serve(machines: &[Machine]) -> Vec<HostProcess> {
    let mut hosts = Vec::with_capacity(machines.len());
    for machine in machines {
        hosts.push(machine.serve().await);
    }
    hosts
}
