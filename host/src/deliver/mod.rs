//! Delivering: the dispatcher that claims and starts, what plugins make of an event, the attempt itself, and the test of a
//! new endpoint.

mod attempt;
mod content;
mod dispatcher;
mod spans;
mod test_event;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain::Chain;
use crate::clock::Clock;
use crate::domain::id::TenantId;
use crate::domain::retry::RetrySchedule;
use crate::outbound::Outbound;
use crate::store::{Leases, Store, Writer};
use crate::traces::Traces;

pub use test_event::{TestError, TestResult};

/// Test events at once on this host, and of one tenant. The next one waits, as long as an attempt may take at most, and is then
/// refused.
const TESTS_AT_ONCE: usize = 64;
const TESTS_OF_A_TENANT: usize = 8;
/// Tenants whose test events are counted; beyond it those longest without one are counted anew.
const TENANTS_COUNTED: usize = 10_000;

/// Everything an attempt needs.
pub struct Deliver {
    store: Arc<Store>,
    writer: Writer,
    outbound: Outbound,
    chain: Arc<Chain>,
    clock: Clock,
    traces: Traces,
    schedule: RetrySchedule,
    attempt_timeout: SignedDuration,
    leases: Leases,
    /// Between two renewals of a lease: a third of it, so that one may fail.
    renewal: SignedDuration,
    tests: Arc<Semaphore>,
    tests_of_tenants: Cache<TenantId, Arc<Semaphore>>,
    /// Every attempt runs here, so that a stop can wait for it.
    attempts: TaskTracker,
    /// Drops running attempts.
    hard: CancellationToken,
}

impl Deliver {
    /// Delivers from `store` through `chain` and `outbound`.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "its parts, each named once, in app")]
    pub fn new(
        store: Arc<Store>,
        writer: Writer,
        outbound: Outbound,
        chain: Arc<Chain>,
        clock: Clock,
        traces: Traces,
        schedule: RetrySchedule,
        attempt_timeout: Duration,
        lease: Duration,
    ) -> Self {
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        Self {
            store,
            writer,
            outbound,
            chain,
            clock,
            traces,
            schedule,
            attempt_timeout: signed(attempt_timeout),
            leases: Leases::default(),
            renewal: signed(lease) / 3,
            tests: Arc::new(Semaphore::new(TESTS_AT_ONCE)),
            tests_of_tenants: Cache::new(TENANTS_COUNTED),
            attempts: TaskTracker::new(),
            hard: CancellationToken::new(),
        }
    }
    /// Attempts that a delivery has at most, unless somebody restarts it.
    #[must_use]
    pub fn attempts_limit(&self) -> usize {
        self.schedule.attempts()
    }
}
