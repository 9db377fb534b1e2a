//! The only reader of wall time. Durations and time-outs use tokio's monotonic time instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// Wall time: the system's, or a test's.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's clock, corrected by as many milliseconds as it is known to be ahead.
    System(Arc<AtomicI64>),
    /// Stands still until its [`Hand`] moves it.
    Manual(watch::Receiver<Timestamp>),
}

/// Moves a manual clock.
#[derive(Debug)]
pub struct Hand(watch::Sender<Timestamp>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::System(Arc::default())
    }

    /// A clock that shows `start` until its hand moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> (Self, Hand) {
        let (sender, receiver) = watch::channel(to_millisecond(start));
        (Self::Manual(receiver), Hand(sender))
    }

    /// The time now, in whole milliseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System(ahead_ms) => {
                let ahead = SignedDuration::from_millis(ahead_ms.load(Ordering::Relaxed));
                to_millisecond(Timestamp::now().saturating_sub(ahead).unwrap_or_default())
            }
            Self::Manual(time) => *time.borrow(),
        }
    }

    /// What this machine says, uncorrected, also where a manual clock runs.
    #[must_use]
    pub fn machine() -> Timestamp {
        Timestamp::now()
    }

    /// Corrects the machine's clock, which is this much ahead of the one that counts. A manual clock is never wrong.
    pub fn correct(&self, ahead: SignedDuration) {
        if let Self::System(ahead_ms) = self {
            ahead_ms.store(i64::try_from(ahead.as_millis()).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Waits until the clock shows `at` or later. A wall clock set back makes it wait longer, set forward shorter.
    pub async fn sleep_until(&self, at: Timestamp) {
        /// Sleeps are cut to this, so that a clock that was set is noticed.
        const CHECK: Duration = Duration::from_secs(10);
        match self {
            Self::System(_) => {
                while let Ok(left) = Duration::try_from(at.duration_since(self.now()))
                    && !left.is_zero()
                {
                    tokio::time::sleep(left.min(CHECK)).await;
                }
            }
            Self::Manual(time) => {
                // A hand that is gone moves no more: wait for ever, as a clock that stands still does.
                if time.clone().wait_for(|now| *now >= at).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl Hand {
    /// Moves the clock forward and wakes whoever waits for that time.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = now.saturating_add(by).unwrap_or(Timestamp::MAX));
    }

    /// Sets the clock, forward or back, as a machine's is corrected, and wakes whoever waits for a time that it shows now.
    pub fn set(&self, to: Timestamp) {
        self.0.send_replace(to_millisecond(to));
    }
}

fn to_millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
