//! The loop that starts what is in the lanes and claims what is due in the table.

use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::Deliver;
use crate::domain::lanes::{Health, Started};
use crate::store::{Handover, Turn};

/// Between two looks of the safety poll, at least; and so many times as long as a look takes, so that it costs little
/// however many endpoints and hosts there are.
const SAFETY_POLL: SignedDuration = SignedDuration::from_secs(1);
const LOOKS: i32 = 20;

impl Deliver {
    /// Dispatches until `soft`, then gives back what was queued. Running attempts go on.
    pub async fn dispatch(self: Arc<Self>, soft: CancellationToken) {
        let handover = self.store.handover.clone();
        loop {
            let Turn { started, wants, due } = handover.turn(self.clock.now());
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
            let (now, began) = (self.clock.now(), Instant::now());
            if let Err(error) = self.store.flag_endpoints_with_due_deliveries().await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look for due deliveries");
            }
            let took = SignedDuration::try_from(began.elapsed()).unwrap_or(SAFETY_POLL);
            let next = now.saturating_add(SAFETY_POLL.max(took * LOOKS)).unwrap_or(Timestamp::MAX);
            if soft.run_until_cancelled(self.clock.sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Keeps the leases of running attempts from running out, for ever.
    pub async fn renew_leases(&self) {
        loop {
            let next = self.clock.now().saturating_add(self.renewal).unwrap_or(Timestamp::MAX);
            // All, however fresh: one that is passed over now would have no time left if the next renewal failed.
            let held = self.leases.held();
            if !held.is_empty() {
                self.writer.renew(held).await;
            }
            self.clock.sleep_until(next).await;
        }
    }

    /// Drops running attempts, and leaves them to whoever comes next.
    pub async fn abandon(&self) {
        let abandoned = self.leases.held();
        self.hard.cancel();
        self.drained().await;
        if !abandoned.is_empty() {
            self.writer.end(abandoned).await;
        }
    }

    /// Waits until every attempt has ended.
    pub async fn drained(&self) {
        self.attempts.close();
        tokio::select! {
            () = self.attempts.wait() => {}
            () = self.renew_leases() => {}
        }
    }

    fn spawn(self: &Arc<Self>, started: Started) {
        let this = self.clone();
        // In a box, because the runtime moves what it is given a few times, and this is large.
        self.attempts.spawn(Box::pin(async move {
            tokio::select! {
                () = this.hard.cancelled() => {}
                () = this.work(started) => {}
            }
        }));
    }

    /// Attempts one delivery after another, as long as there is one that may start.
    async fn work(self: &Arc<Self>, mut started: Started) {
        let handover = &self.store.handover;
        loop {
            let mut permit = Permit { handover, started: Some(started.clone()) };
            let health = self.attempt_leased(started.leased.clone()).await;
            permit.started = None;
            let mut next = handover.ended(&started, health);
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
