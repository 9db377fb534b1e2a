//! The state machine of a delivery: pure, one transition per function.

use bytes::Bytes;
use jiff::Timestamp;

use super::event::EventType;
use super::id::{DeliveryId, EndpointId, EventId, TenantId};
use super::outcome::Outcome;
use super::retry::{self, RetrySchedule};
use super::trace::TraceParent;

/// Where one event for one endpoint stands. `attempts` counts every attempt ever made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Will be attempted at `next_attempt_at`; shown as `held` while its endpoint is disabled.
    Pending {
        /// Attempts made so far.
        attempts: u32,
        /// Failures since the delivery was created or last restarted by hand: the position in the schedule.
        failures: u32,
        /// Not attempted earlier than this.
        next_attempt_at: Timestamp,
    },
    /// The receiver answered 2xx.
    Succeeded {
        /// Attempts made.
        attempts: u32,
    },
    /// The last attempt of the schedule failed, or the receiver said 410.
    Failed {
        /// Attempts made.
        attempts: u32,
    },
    /// A plugin, or the tenant on enabling the endpoint, decided that it is not to be sent.
    Dropped {
        /// Attempts made.
        attempts: u32,
    },
}

/// A finished delivery takes no further attempt unless it is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the delivery is finished")]
pub struct AlreadyFinished;

impl Delivery {
    /// A fresh delivery, to be attempted at once.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self::Pending { attempts: 0, failures: 0, next_attempt_at: now }
    }

    /// Attempts made so far.
    #[must_use]
    pub fn attempts(self) -> u32 {
        match self {
            Self::Pending { attempts, .. }
            | Self::Succeeded { attempts }
            | Self::Failed { attempts }
            | Self::Dropped { attempts } => attempts,
        }
    }

    /// After an attempt that ended at `now` with `outcome`; `jitter` is a random number in `0.0..1.0`.
    pub fn after(
        self,
        outcome: &Outcome,
        now: Timestamp,
        schedule: &RetrySchedule,
        jitter: f64,
    ) -> Result<Self, AlreadyFinished> {
        let Self::Pending { attempts, failures, .. } = self else { return Err(AlreadyFinished) };
        let attempts = attempts + 1;
        if outcome.succeeded() {
            return Ok(Self::Succeeded { attempts });
        }
        if is_gone(outcome) {
            return Ok(Self::Failed { attempts });
        }
        let failures = failures + 1;
        let next = schedule.next(failures, now, retry_after(outcome, now), jitter);
        Ok(next.map_or(Self::Failed { attempts }, |next_attempt_at| Self::Pending {
            attempts,
            failures,
            next_attempt_at,
        }))
    }

    /// After a tenant asked to send it again: the whole schedule anew, beginning at `now`.
    #[must_use]
    pub fn restarted(self, now: Timestamp) -> Self {
        Self::Pending { attempts: self.attempts(), failures: 0, next_attempt_at: now }
    }

    /// After it was decided not to send it.
    #[must_use]
    pub fn dropped(self) -> Self {
        Self::Dropped { attempts: self.attempts() }
    }
}

/// A delivery leased to this host: what an attempt needs, apart from its endpoint.
#[derive(Clone)]
pub struct Leased {
    /// The owner.
    pub tenant: TenantId,
    /// The delivery's own id.
    pub id: DeliveryId,
    /// Where it goes.
    pub endpoint: EndpointId,
    /// Sent as `webhook-id`.
    pub event: EventId,
    /// Sent as `X-Revnoxa-Event`.
    pub event_type: EventType,
    /// The event's request body: the exact bytes to send, unless plugins replaced them.
    pub body: Bytes,
    /// What is sent is what plugins made of the event in an earlier attempt, and is stored.
    pub transformed: bool,
    /// Where it stands: pending.
    pub delivery: Delivery,
    /// Which lease of this delivery it is; what is recorded under an older one is ignored.
    pub claim: i64,
    /// From here on another host may take it.
    pub lease_until: Timestamp,
    /// The event's trace.
    pub trace: Option<TraceParent>,
}

// The body is payload: it stays out of logs.
impl std::fmt::Debug for Leased {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leased")
            .field("tenant", &self.tenant)
            .field("id", &self.id)
            .field("endpoint", &self.endpoint)
            .field("delivery", &self.delivery)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

/// The receiver answered 410 Gone (RFC 9110 §15.5.11): it wants no more; the endpoint is disabled.
#[must_use]
pub fn is_gone(outcome: &Outcome) -> bool {
    matches!(&outcome.result, Ok(answer) if answer.status == 410)
}

/// `Retry-After` counts on 429 and 503 only.
fn retry_after(outcome: &Outcome, now: Timestamp) -> Option<std::time::Duration> {
    let answer = outcome.result.as_ref().ok().filter(|answer| matches!(answer.status, 429 | 503))?;
    retry::parse_retry_after(answer.retry_after.as_deref()?, now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::outcome::{Answer, SendError};

    fn answered(status: u16, retry_after: Option<&str>) -> Outcome {
        let retry_after = retry_after.map(str::to_owned);
        let answer = Answer { status, body: Bytes::new(), truncated: false, retry_after };
        Outcome { duration: Duration::ZERO, result: Ok(answer) }
    }

    fn broken() -> Outcome {
        Outcome { duration: Duration::ZERO, result: Err(SendError::ConnectionRefused) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pending(attempts: u32, failures: u32, second: i64) -> Delivery {
        Delivery::Pending { attempts, failures, next_attempt_at: at(second) }
    }

    #[test]
    fn every_transition() {
        let s = Duration::from_secs;
        let schedule = RetrySchedule::new(vec![s(30), s(300), s(1_800), s(7_200)]);
        let fresh = Delivery::new(at(0));
        let (ok, failed) = (|attempts| Delivery::Succeeded { attempts }, |attempts| Delivery::Failed { attempts });
        let cases = [
            ("200 succeeds", fresh, answered(200, None), ok(1)),
            ("204 succeeds", fresh, answered(204, None), ok(1)),
            ("299 succeeds", fresh, answered(299, None), ok(1)),
            ("199 fails", fresh, answered(199, None), pending(1, 1, 1_030)),
            ("a redirect fails", fresh, answered(301, None), pending(1, 1, 1_030)),
            ("404 is retried", fresh, answered(404, None), pending(1, 1, 1_030)),
            ("500 is retried", fresh, answered(500, None), pending(1, 1, 1_030)),
            ("no answer is retried", fresh, broken(), pending(1, 1, 1_030)),
            ("second failure", pending(1, 1, 0), broken(), pending(2, 2, 1_300)),
            ("third failure", pending(2, 2, 0), broken(), pending(3, 3, 2_800)),
            ("fourth failure", pending(3, 3, 0), broken(), pending(4, 4, 8_200)),
            ("fifth failure is the last", pending(4, 4, 0), broken(), failed(5)),
            ("the fifth attempt may succeed", pending(4, 4, 0), answered(200, None), ok(5)),
            ("410 ends it at once", fresh, answered(410, None), failed(1)),
            ("503 may ask for longer", fresh, answered(503, Some("60")), pending(1, 1, 1_060)),
            ("429 may ask for longer", fresh, answered(429, Some("60")), pending(1, 1, 1_060)),
            ("never shorter", fresh, answered(429, Some("1")), pending(1, 1, 1_030)),
            ("500 may not ask", fresh, answered(500, Some("60")), pending(1, 1, 1_030)),
            ("a restart begins the schedule anew", failed(5).restarted(at(500)), broken(), pending(6, 1, 1_030)),
        ];
        for (case, before, outcome, expected) in cases {
            assert_eq!(before.after(&outcome, at(1_000), &schedule, 0.0), Ok(expected), "{case}");
        }
    }

    #[test]
    fn a_test_event_is_tried_once() {
        let after = Delivery::new(at(0)).after(&broken(), at(1), &RetrySchedule::once(), 0.0);
        assert_eq!(after, Ok(Delivery::Failed { attempts: 1 }));
    }

    #[test]
    fn a_finished_delivery_takes_no_attempt() {
        let schedule = RetrySchedule::new(vec![Duration::from_secs(30)]);
        for finished in
            [Delivery::Succeeded { attempts: 1 }, Delivery::Failed { attempts: 5 }, Delivery::new(at(0)).dropped()]
        {
            let after = finished.after(&answered(200, None), at(1), &schedule, 0.0);
            assert_eq!(after, Err(AlreadyFinished), "{finished:?}");
        }
    }
}
