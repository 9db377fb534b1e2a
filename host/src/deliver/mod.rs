//! Delivering: the dispatcher that claims and starts, the attempt itself, and the test of a new endpoint.

mod attempt;
mod dispatcher;
mod test_event;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::domain::retry::RetrySchedule;
use crate::outbound::Outbound;
use crate::store::{Store, Writer};

pub use test_event::{TestError, TestResult};

/// Test events at once on this host; the next one waits.
const TESTS_AT_ONCE: usize = 64;

/// Everything an attempt needs.
pub struct Deliver {
    store: Arc<Store>,
    writer: Writer,
    outbound: Outbound,
    clock: Clock,
    schedule: RetrySchedule,
    attempt_timeout: SignedDuration,
    tests: Semaphore,
    /// Every attempt runs here, so that a stop can wait for it.
    attempts: TaskTracker,
    /// Drops running attempts.
    hard: CancellationToken,
}

impl Deliver {
    /// Delivers from `store` through `outbound`; `hard` drops what runs.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        writer: Writer,
        outbound: Outbound,
        clock: Clock,
        schedule: RetrySchedule,
        attempt_timeout: Duration,
        hard: CancellationToken,
    ) -> Self {
        let attempt_timeout = SignedDuration::try_from(attempt_timeout).unwrap_or(SignedDuration::MAX);
        let (tests, attempts) = (Semaphore::new(TESTS_AT_ONCE), TaskTracker::new());
        Self { store, writer, outbound, clock, schedule, attempt_timeout, tests, attempts, hard }
    }
}
