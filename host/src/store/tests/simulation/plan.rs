//! What a seed decides beforehand: hosts, what is posted, how receivers answer, and what goes wrong when.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;

use super::at;
use super::table::Table;
use crate::domain::event::{Event, EventType, fingerprint, request_body};
use crate::domain::id::{EndpointId, EventId, TenantId};
use crate::domain::lanes::Limits;
use crate::domain::outcome::{Answer, Outcome, SendError};
use crate::store::group::PART_ENDPOINTS;

/// Hosts at most.
pub(super) const HOSTS: usize = 3;
/// Within this time everything is posted, and every fault begins.
const POSTING_MS: i64 = 8_000;
const FAULTS_MS: i64 = 20_000;
/// The parts of a request are written within about this time.
const PARTS_MS: i64 = 150;
/// How far clocks differ without anybody's fault.
const SKEW_MS: i64 = 400;

/// What a seed decided.
pub(super) struct Plan {
    pub(super) hosts: usize,
    pub(super) limits: Limits,
    /// Plain groups are written beside the driver.
    pub(super) direct: bool,
    pub(super) postings: Vec<Posting>,
    pub(super) receivers: BTreeMap<EndpointId, Receiver>,
    /// When, which host, what.
    pub(super) faults: Vec<(i64, usize, Fault)>,
    /// When the last fault is over.
    pub(super) quiet_ms: i64,
    /// Of a hundred wake-ups from one host to another, how many arrive.
    pub(super) heard: u32,
    /// By how much two clocks differ at the most.
    pub(super) clocks_differ_ms: i64,
}

/// A request of the core product, which it repeats until it is acknowledged.
pub(super) struct Posting {
    pub(super) at_ms: i64,
    pub(super) events: Vec<Event>,
    /// For each of its events.
    pub(super) deliveries: usize,
}

/// What goes wrong with a host. Each lasts so many milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// It dies, and is started again.
    Crash { down_ms: i64 },
    /// It is asked to stop, has some time for what it does, and is started again.
    Stop { grace_ms: i64, down_ms: i64 },
    /// It stands still.
    Freeze { ms: i64 },
    /// It does not reach the database.
    Partition { ms: i64 },
    /// So many of a hundred of its commits go wrong.
    Commits { percent: u32, ms: i64 },
    /// Its clock differs a little from now on, as clocks do.
    Skew { ahead_ms: i64 },
    /// Its clock is wrong.
    Clock { ahead_ms: i64, ms: i64 },
}

/// How an endpoint's receiver answers: so many of a hundred attempts fail, so many take long; and how many a plugin stops.
pub(super) struct Receiver {
    fails: u32,
    slow: u32,
    dropped: u32,
}

impl Plan {
    pub(super) fn new(random: &mut StdRng, table: &Table) -> Self {
        let hosts = random.random_range(1..=HOSTS);
        let in_flight = pick(random, [1, 2, 4, 8]);
        let limits = Limits { in_flight, per_endpoint: random.random_range(1..=in_flight) };
        let calm = random.random_ratio(1, 8);
        let count = if calm { 0 } else { random.random_range(1..=6) };
        let mut faults: Vec<_> = (0..count)
            .map(|_| (random.random_range(0..FAULTS_MS), random.random_range(0..hosts), Fault::new(random)))
            .collect();
        // Hosts that share a database write no request in parts.
        let tenants = if hosts == 1 { &table.tenants[..] } else { &table.tenants[..2] };
        let postings: Vec<Posting> = (0..4).map(|number| Posting::new(random, tenants, number)).collect();
        // Most likely between two parts.
        for posting in postings.iter().filter(|posting| posting.deliveries > PART_ENDPOINTS && !calm) {
            let at_ms = posting.at_ms + random.random_range(0..PARTS_MS);
            faults.push((at_ms, 0, Fault::Crash { down_ms: random.random_range(50..5_000) }));
        }
        faults.sort_unstable_by_key(|(at_ms, host, _)| (*at_ms, *host));
        let aheads = faults.iter().map(|(.., fault)| fault.ahead_ms());
        let (behind, ahead) = aheads.fold((0, 0), |(least, most), ahead| (least.min(ahead), most.max(ahead)));
        let direct = random.random();
        Self {
            hosts,
            limits,
            direct,
            postings,
            quiet_ms: faults
                .iter()
                .map(|(at_ms, _, fault)| at_ms + fault.lasts_ms())
                .max()
                .unwrap_or(0)
                .max(POSTING_MS),
            clocks_differ_ms: ahead - behind,
            faults,
            receivers: table.endpoints().map(|endpoint| (endpoint, Receiver::new(random))).collect(),
            heard: random.random_range(0..=100),
        }
    }
}

impl Posting {
    fn new(random: &mut StdRng, tenants: &[(TenantId, Vec<EndpointId>)], number: i64) -> Self {
        // Large ones take long to simulate: they are rare.
        let (tenant, endpoints) = match tenants.get(2) {
            Some(large) if random.random_ratio(1, 6) => large,
            _ => &tenants[random.random_range(0..2)],
        };
        let event_type: EventType = "incident.created".parse().unwrap();
        let event = |place: i64| {
            // The producer's own ids: what it does not hear of it posts again.
            let id: EventId = format!("evt_{number}_{place}").parse().unwrap();
            let body = request_body(&id, &event_type, at(0), "{}");
            let fingerprint = Some(fingerprint(&[id.as_str().as_bytes()]));
            Event { tenant: tenant.clone(), id, event_type: event_type.clone(), body, fingerprint, trace: None }
        };
        // Of large ones there are enough deliveries with one.
        let most = if endpoints.len() > PART_ENDPOINTS { 1 } else { 4 };
        let events = (0..random.random_range(1..=most)).map(event).collect();
        Self { at_ms: random.random_range(0..POSTING_MS), events, deliveries: endpoints.len() }
    }
}

impl Fault {
    fn new(random: &mut StdRng) -> Self {
        match random.random_range(0..8) {
            0 | 1 => Self::Crash { down_ms: random.random_range(50..5_000) },
            2 => Self::Stop { grace_ms: random.random_range(0..4_000), down_ms: random.random_range(50..2_000) },
            3 => Self::Freeze { ms: random.random_range(50..25_000) },
            4 => Self::Partition { ms: random.random_range(50..20_000) },
            5 => Self::Commits { percent: random.random_range(20..=100), ms: random.random_range(100..4_000) },
            6 => Self::Skew { ahead_ms: random.random_range(-SKEW_MS..=SKEW_MS) },
            _ => Self::Clock { ahead_ms: random.random_range(-20_000..=20_000), ms: random.random_range(500..10_000) },
        }
    }

    fn ahead_ms(self) -> i64 {
        match self {
            Self::Skew { ahead_ms } | Self::Clock { ahead_ms, .. } => ahead_ms,
            Self::Crash { .. }
            | Self::Stop { .. }
            | Self::Freeze { .. }
            | Self::Partition { .. }
            | Self::Commits { .. } => 0,
        }
    }

    fn lasts_ms(self) -> i64 {
        match self {
            Self::Crash { down_ms } => down_ms,
            Self::Stop { grace_ms, down_ms } => grace_ms + down_ms,
            Self::Freeze { ms } | Self::Partition { ms } | Self::Commits { ms, .. } | Self::Clock { ms, .. } => ms,
            Self::Skew { .. } => 0,
        }
    }
}

impl Receiver {
    fn new(random: &mut StdRng) -> Self {
        Self {
            fails: pick(random, [0, 0, 20, 60, 100]),
            slow: pick(random, [0, 0, 10, 40]),
            dropped: pick(random, [0, 0, 40]),
        }
    }

    /// Whether a plugin decides that it gets nothing.
    pub(super) fn is_spared(&self, random: &mut StdRng) -> bool {
        random.random_range(0..100) < self.dropped
    }

    /// What comes of the next attempt.
    pub(super) fn answers(&self, random: &mut StdRng) -> Outcome {
        let answer = |status, retry_after: Option<&str>| {
            Ok(Answer { status, body: Bytes::new(), truncated: false, retry_after: retry_after.map(str::to_owned) })
        };
        let result = match (random.random_range(0..100) < self.fails, random.random_range(0..4)) {
            (false, _) => answer(200, None),
            (true, 0) => answer(503, Some("2")),
            (true, 1) => Err(SendError::ConnectionRefused),
            (true, _) => answer(500, None),
        };
        let ms = match random.random_range(0..100) < self.slow {
            true => random.random_range(1_000..18_000),
            false => random.random_range(1..200),
        };
        Outcome { duration: Duration::from_millis(ms), result }
    }
}

fn pick<T: Copy, const N: usize>(random: &mut StdRng, from: [T; N]) -> T {
    from[random.random_range(0..N)]
}
