//! Other hosts on the same PostgreSQL: wake-ups from one to the others, and whether this machine's clock agrees with the
//! database's. On SQLite there are none, and nothing to do.
//!
//! Wake-ups are a courtesy. One that is lost is made up for by the safety poll.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use metrics::gauge;
use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;

use super::database::Kind;
use super::{Store, StoreError};
use crate::clock::Clock;
use crate::domain::id::{EndpointId, TenantId};

/// What is notified, each line a tenant and one of its endpoints that has deliveries due in the table.
const CHANNEL: &str = "revnoxa_due";
/// Bytes of one notification; PostgreSQL takes less than 8,000.
const PAYLOAD: usize = 7_000;
/// Endpoints waiting to be told of at most; those beyond are found by the safety poll.
const ANNOUNCED: usize = 1_024;
/// Between two notifications: each commit that notifies takes a lock that all of them share.
const BREATH: Duration = Duration::from_millis(50);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Without a notification for this long, the connection is tried.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two looks at the database's clock.
const CLOCK_PERIOD: Duration = Duration::from_secs(10);
/// How far the clocks may be apart before it is pointed out.
pub const SKEW_LIMIT: SignedDuration = SignedDuration::from_secs(5);

/// What is kept for and of the others.
#[derive(Default)]
pub(super) struct Peers {
    announced: Mutex<HashSet<(TenantId, EndpointId)>>,
    wake: Notify,
    skew_ms: AtomicI64,
}

impl Store {
    /// The endpoint has deliveries due in the table, committed already: for this host and the others to claim.
    pub(super) fn flag_backlog(&self, tenant: &TenantId, endpoint: EndpointId) {
        self.handover.lanes().flag_backlog(tenant, endpoint);
        self.handover.wake.notify_one();
        self.tell_others(tenant, endpoint);
    }

    /// The same, where this host knows already.
    pub(super) fn tell_others(&self, tenant: &TenantId, endpoint: EndpointId) {
        if self.kind == Kind::Sqlite {
            return;
        }
        let mut announced = self.peers.announced.lock().unwrap_or_else(PoisonError::into_inner);
        if announced.len() < ANNOUNCED {
            announced.insert((tenant.clone(), endpoint));
            self.peers.wake.notify_one();
        }
    }

    /// Tells other hosts of endpoints that have more due than this one takes at once.
    pub async fn announce(&self) {
        if self.kind == Kind::Sqlite {
            return std::future::pending().await;
        }
        loop {
            self.peers.wake.notified().await;
            let endpoints = std::mem::take(&mut *self.peers.announced.lock().unwrap_or_else(PoisonError::into_inner));
            if let Err(error) = self.within_limit(self.notify(endpoints)).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot wake other hosts");
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Learns from other hosts of endpoints that have deliveries due.
    pub async fn listen(&self, url: &str) {
        if self.kind == Kind::Sqlite {
            return std::future::pending().await;
        }
        loop {
            if let Err(error) = self.listen_once(url).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "other hosts' wake-ups do not arrive");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Follows the database's clock: what hosts write for each other to compare is of one clock.
    pub async fn follow_clock(&self) {
        if self.kind == Kind::Sqlite {
            return std::future::pending().await;
        }
        loop {
            if let Err(error) = self.within_limit(self.compare_clocks()).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot ask for the database's time");
            }
            tokio::time::sleep(CLOCK_PERIOD).await;
        }
    }

    /// How far this machine's clock is ahead of the database's; `None`: there is no other clock.
    #[must_use]
    pub fn clock_skew(&self) -> Option<SignedDuration> {
        (self.kind == Kind::Postgres).then(|| SignedDuration::from_millis(self.peers.skew_ms.load(Ordering::Relaxed)))
    }

    pub(super) async fn compare_clocks(&self) -> Result<(), StoreError> {
        let mut connection = self.read.acquire().await?;
        let (asked_at, asked) = (Clock::machine(), Instant::now());
        let theirs: i64 = sqlx::query_scalar("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
            .fetch_one(&mut *connection)
            .await?;
        // They looked half-way between the question and the answer, more or less.
        let ours = asked_at + asked.elapsed() / 2;
        let theirs = Timestamp::from_millisecond(theirs).unwrap_or(ours);
        let skew = ours.duration_since(theirs);
        self.clock.correct(skew);
        self.peers.skew_ms.store(i64::try_from(skew.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        gauge!("revnoxa_clock_skew_seconds").set(skew.as_secs_f64());
        if skew.abs() > SKEW_LIMIT {
            tracing::warn!(skew_ms = skew.as_millis(), "this machine's clock and the database's are far apart");
        }
        Ok(())
    }

    async fn notify(&self, endpoints: HashSet<(TenantId, EndpointId)>) -> Result<(), StoreError> {
        let mut connection = self.write.acquire().await?;
        for payload in payloads(&endpoints) {
            sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn listen_once(&self, url: &str) -> Result<(), StoreError> {
        let listener = async {
            let mut listener = PgListener::connect(url).await?;
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        let mut listener = self.within_limit(listener).await?;
        loop {
            let Ok(notification) = tokio::time::timeout(SILENCE, listener.recv()).await else {
                // Nobody has anything to tell, or the network lost the connection without a word.
                self.within_limit(async { Ok(listener.execute("SELECT 1").await.map(drop)?) }).await?;
                continue;
            };
            let notification = notification?;
            {
                let mut lanes = self.handover.lanes();
                for line in notification.payload().lines() {
                    let Some((tenant, endpoint)) = line.split_once(' ') else { continue };
                    if let (Ok(tenant), Ok(endpoint)) = (tenant.parse(), endpoint.parse()) {
                        lanes.flag_backlog(&tenant, endpoint);
                    }
                }
            }
            self.handover.wake.notify_one();
        }
    }
}

/// As few notifications as will do.
fn payloads(endpoints: &HashSet<(TenantId, EndpointId)>) -> Vec<String> {
    let mut payloads = vec![String::new()];
    for (tenant, endpoint) in endpoints {
        let line = format!("{tenant} {endpoint}\n");
        match payloads.last_mut() {
            Some(payload) if payload.len() + line.len() <= PAYLOAD => payload.push_str(&line),
            _ => payloads.push(line),
        }
    }
    payloads
}
