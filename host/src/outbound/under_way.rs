//! What is known of a request that is under way: how long it waits for its turn to connect, and whether it may still begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const WAITING: u64 = u64::MAX;

/// What becomes of one request.
pub(super) struct UnderWay<F: ?Sized = dyn Fn() -> bool + Send + Sync> {
    since: Instant,
    /// For its turn to connect; [`WAITING`] as long as it does.
    waited_us: AtomicU64,
    refused: AtomicBool,
    /// Asked when the connection is there, right before the request is written to it.
    may_begin: F,
}

tokio::task_local! {
    /// The request that a connection is made for.
    pub(super) static REQUEST: Arc<UnderWay>;
}

impl<F: Fn() -> bool> UnderWay<F> {
    /// One that begins to look for a connection now.
    pub(super) fn new(may_begin: F) -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            waited_us: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            may_begin,
        })
    }
}

impl UnderWay {
    /// Whether `may_begin` was asked, and the answer was no.
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// It waits for its turn to connect, which is none of the receiver's time.
    pub(super) fn waits(&self) {
        self.waited_us.store(WAITING, Ordering::Relaxed);
    }

    /// Whether it does still.
    pub(super) fn is_waiting(&self) -> bool {
        self.waited_us.load(Ordering::Relaxed) == WAITING
    }

    /// It waits no more: it was its turn, or another connection was free before.
    pub(super) fn waited(&self) {
        let us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(WAITING - 1);
        let _ = self.waited_us.compare_exchange(WAITING, us, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It has a connection: whether it begins now.
    pub(super) fn begins(&self) -> bool {
        self.waited();
        let begins = (self.may_begin)();
        self.refused.store(!begins, Ordering::Relaxed);
        begins
    }

    /// When so much time is up, without that.
    pub(super) fn deadline(&self, limit: Duration) -> Instant {
        self.since + limit + self.wait()
    }

    /// How long it took, without that.
    pub(super) fn took(&self) -> Duration {
        self.since.elapsed().saturating_sub(self.wait())
    }

    fn wait(&self) -> Duration {
        match self.waited_us.load(Ordering::Relaxed) {
            WAITING => self.since.elapsed(),
            us => Duration::from_micros(us),
        }
    }
}
