//! Where committed deliveries wait for a worker, and how the dispatcher learns of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::domain::lanes::{Health, Lanes, Limits, Started, Want};

/// The lanes of this host, shared by the writer that fills them and the workers that empty them.
pub struct Handover {
    lanes: Mutex<Lanes>,
    /// Told after each change that the dispatcher may act on.
    pub wake: Notify,
}

/// What the dispatcher does when it is woken.
pub struct Turn {
    /// To be attempted; each is to be ended by [`Handover::ended`].
    pub started: Vec<Started>,
    /// To be claimed.
    pub wants: Vec<Want>,
    /// When it is its turn again, unless it is woken before; `None`: not before.
    pub due: Option<Timestamp>,
}

impl Handover {
    /// Empty lanes.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { lanes: Mutex::new(Lanes::new(limits)), wake: Notify::new() }
    }

    /// The lanes; never keep them across an await.
    pub fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Each method of `Lanes` leaves it consistent before anything in it can panic.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flags what has come due, and starts what may start.
    pub fn turn(&self, now: Timestamp) -> Turn {
        let mut lanes = self.lanes();
        lanes.flag_due(now);
        let started = std::iter::from_fn(|| lanes.start()).collect();
        Turn { started, wants: lanes.wants(), due: lanes.next_due() }
    }

    /// An attempt ended, or was given up before it began. Gives those that may start in its place.
    pub fn ended(&self, started: &Started, health: Health) -> Vec<Started> {
        let mut lanes = self.lanes();
        if lanes.finished(started, health) {
            self.wake.notify_one();
        }
        std::iter::from_fn(|| lanes.start()).collect()
    }
}
