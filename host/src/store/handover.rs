//! Where committed deliveries wait for a worker, and how the dispatcher learns of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::lanes::{Lanes, Limits};

/// The lanes of this host, shared by the writer that fills them and the workers that empty them.
pub struct Handover {
    lanes: Mutex<Lanes>,
    /// Told after each change that the dispatcher may act on.
    pub wake: Notify,
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
}
