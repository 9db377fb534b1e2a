//! The loop that starts what is in the lanes and claims what is due in the table.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::Deliver;
use crate::domain::lanes::{Health, Started};
use crate::store::Handover;

/// Between two looks of the safety poll.
const SAFETY_POLL: SignedDuration = SignedDuration::from_secs(1);

impl Deliver {
    /// Dispatches until `soft`, then gives back what was queued. Running attempts go on.
    pub async fn dispatch(self: Arc<Self>, soft: CancellationToken) {
        let handover = self.store.handover.clone();
        loop {
            let now = self.clock.now();
            let (started, wants, due) = {
                let mut lanes = handover.lanes();
                lanes.flag_due(now);
                let started: Vec<Started> = std::iter::from_fn(|| lanes.start()).collect();
                (started, lanes.wants(), lanes.next_due())
            };
            started.into_iter().for_each(|started| self.spawn(started));
            if !wants.is_empty() {
                self.writer.claim(wants).await;
            }
            tokio::select! {
                () = soft.cancelled() => break,
                // What came while we looked has left its permit here.
                () = handover.wake.notified() => {}
                () = self.clock.sleep_until(due.unwrap_or(Timestamp::MAX)) => {}
            }
        }
        let queued = handover.lanes().close();
        self.writer.release(queued).await;
    }

    /// Looks in the table for due deliveries that nobody told of, until `soft`: after a start all of them, later leases that
    /// ran out and lost wake-ups.
    pub async fn poll(&self, soft: CancellationToken) {
        loop {
            // Before the look: the clock may go past what comes due during it.
            let next = self.clock.now().saturating_add(SAFETY_POLL).unwrap_or(Timestamp::MAX);
            if let Err(error) = self.store.flag_endpoints_with_due_deliveries().await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look for due deliveries");
            }
            if soft.run_until_cancelled(self.clock.sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Waits until every attempt has ended.
    pub async fn drained(&self) {
        self.attempts.close();
        self.attempts.wait().await;
    }

    fn spawn(self: &Arc<Self>, started: Started) {
        let this = self.clone();
        self.attempts.spawn(async move {
            tokio::select! {
                () = this.hard.cancelled() => {}
                () = this.work(started) => {}
            }
        });
    }

    /// Attempts one delivery after another, as long as there is one that may start.
    async fn work(self: &Arc<Self>, mut started: Started) {
        let handover = &self.store.handover;
        loop {
            let mut permit = Permit { handover, started: Some(started.clone()) };
            let health = self.attempt_leased(started.leased.clone()).await;
            permit.started = None;
            let mut next: Vec<Started> = {
                let mut lanes = handover.lanes();
                if lanes.finished(&started, health) {
                    handover.wake.notify_one();
                }
                std::iter::from_fn(|| lanes.start()).collect()
            };
            match next.pop() {
                Some(next) => started = next,
                None => return,
            }
            // A prompt answer may have made room for more than one.
            next.into_iter().for_each(|started| self.spawn(started));
        }
    }
}

/// Gives the permit back should an attempt panic; its delivery is claimed again when its lease runs out.
struct Permit<'h> {
    handover: &'h Handover,
    started: Option<Started>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            self.handover.lanes().finished(&started, Health::Unknown);
            self.handover.wake.notify_one();
        }
    }
}
