//! What a group adds and moves on, in one statement: each is passed from thread to thread, or over the network.

use std::sync::LazyLock;

use jiff::Timestamp;
use sqlx::{AnyConnection, Row};

use super::StoreError;
use super::batch::{Attempt, Finished, NewDelivery};
use super::database::Kind;
use super::sized::Column::{self, Binary, Integer, Text};
use super::sized::{Bound, ROWS_LIMIT, Sized, pad, values, values_after};
use crate::domain::delivery::Delivery;
use crate::domain::event::Event;

const EVENTS: &str = "INSERT INTO events (tenant_id, id, event_type, body, fingerprint, deliveries, created_at, trace)
    SELECT column1, column2, column3, column4, column5, column6, column7, column8 FROM (VALUES";
/// Of [`bind_event`].
const EVENT_COLUMNS: &[Column] = &[Text, Text, Text, Binary, Binary, Integer, Integer, Text];
const DELIVERIES: &str = "INSERT INTO deliveries (tenant_id, id, endpoint_id, event_id, event_type, state, attempts,
        failures, next_attempt_at, claimable_at, claim, created_at)
    SELECT column1, column2, column3, column4, column5, 'pending', 0, 0, column6, column7, column8, column6 FROM (VALUES";
/// Of [`bind_delivery`].
const DELIVERY_COLUMNS: &[Column] = &[Text, Text, Text, Text, Text, Integer, Integer, Integer];
const THERE: &str = ") AS v WHERE column1 IS NOT NULL";
const MOVE: &str = "UPDATE deliveries SET state = v.column4, attempts = v.column5, failures = v.column6,
        next_attempt_at = v.column7, claimable_at = v.column7, finished_at = v.column8
    FROM (VALUES";
/// Of [`bind_move`].
const MOVE_COLUMNS: &[Column] = &[Text, Text, Integer, Text, Integer, Integer, Integer, Integer];
/// Not those that are under another claim by now.
const HELD: &str = ") AS v WHERE deliveries.tenant_id = v.column1 AND deliveries.id = v.column2
        AND deliveries.claim = v.column3 AND deliveries.next_attempt_at IS NOT NULL";
const KEEP: &str = "INSERT INTO attempts (tenant_id, delivery_id, number, started_at, duration_ms, request_headers,
        status_code, response_body, response_truncated, error)";
/// Of [`bind_attempt`].
const ATTEMPT_COLUMNS: &[Column] = &[Integer, Integer, Text, Integer, Binary, Integer, Text];
/// What comes before those where attempts have a statement of their own.
const KEY_COLUMNS: &[Column] = &[Text, Text, Integer, Integer];

/// All in one. On SQLite, where attempts have a statement of their own, one counts if its delivery is where the statement before
/// brings it.
static WRITE: LazyLock<Sized> = LazyLock::new(|| {
    let sqlite = |rows: usize| {
        let values = |columns: &[Column]| values(Kind::Sqlite, columns.len(), rows);
        let [events, deliveries, moves] = [EVENT_COLUMNS, DELIVERY_COLUMNS, MOVE_COLUMNS].map(values);
        format!(
            "{EVENTS} {events} {THERE};
             {DELIVERIES} {deliveries} {THERE};
             {MOVE} {moves} {HELD};
             {KEEP} SELECT column1, column2, column4, column5, column6, column7, column8, column9, column10, column11
             FROM (VALUES {}) AS v CROSS JOIN deliveries d
             WHERE d.tenant_id = v.column1 AND d.id = v.column2 AND d.claim = v.column3 AND d.attempts = v.column4
                 AND v.column5 IS NOT NULL
             ON CONFLICT DO NOTHING",
            values(&[KEY_COLUMNS, ATTEMPT_COLUMNS].concat())
        )
    };
    let postgres = |rows: usize| {
        let taken = |columns: &[&[Column]]| columns.iter().map(|columns| columns.len()).sum::<usize>() * rows;
        let events = values_after(0, EVENT_COLUMNS.len(), rows);
        let deliveries = values_after(taken(&[EVENT_COLUMNS]), DELIVERY_COLUMNS.len(), rows);
        let moves = MOVE_COLUMNS.len() + ATTEMPT_COLUMNS.len();
        let moves = values_after(taken(&[EVENT_COLUMNS, DELIVERY_COLUMNS]), moves, rows);
        format!(
            "WITH posted AS ({EVENTS} {events} {THERE}),
             fresh AS ({DELIVERIES} {deliveries} {THERE}),
             moved AS ({MOVE} {moves} {HELD} RETURNING v.*),
             kept AS (
                 {KEEP} SELECT column1, column2, column5, column9, column10, column11, column12, column13, column14, column15
                 FROM moved WHERE column9 IS NOT NULL
                 ON CONFLICT DO NOTHING RETURNING 1)
             SELECT (SELECT COUNT(*) FROM moved) + (SELECT COUNT(*) FROM kept)"
        )
    };
    Sized::of(sqlite, postgres, Vec::new())
});

/// Where there is nothing but deliveries any more.
static FAN_OUT: LazyLock<Sized> = LazyLock::new(|| Sized::padded(DELIVERIES, DELIVERY_COLUMNS, THERE));

/// What a transaction writes.
#[derive(Clone, Copy)]
pub(super) struct Rows<'r> {
    /// Each with its number of deliveries; `None`: some are made later.
    pub(super) events: &'r [(&'r Event, Option<usize>)],
    pub(super) deliveries: &'r [NewDelivery],
    pub(super) finished: &'r [&'r Finished],
}

impl Rows<'_> {
    /// Adds events and deliveries, moves deliveries on after their attempts and adds those to the history; not those of
    /// deliveries that are under another claim by now. `false`: there were such, or an attempt was in the history already.
    pub(super) async fn write(&self, connection: &mut AnyConnection, now: Timestamp) -> Result<bool, StoreError> {
        let kind = Kind::of(connection);
        let mut written = 0;
        for part in self.parts() {
            if part.events.is_empty() && part.finished.is_empty() {
                for (query, deliveries) in FAN_OUT.over(kind, part.deliveries) {
                    let bind = |query, delivery| bind_delivery(query, delivery, now);
                    deliveries.iter().fold(query, bind).execute(&mut *connection).await?;
                }
                continue;
            }
            let (query, rows) = WRITE.fitting(kind, part.longest());
            let query = part.bind_new(query, rows, now);
            written += match kind {
                Kind::Sqlite => {
                    let query = part.bind_kept(part.bind_moved(query, rows, now), rows);
                    let new = part.events.len() + part.deliveries.len();
                    query.execute(&mut *connection).await?.rows_affected() - new as u64
                }
                Kind::Postgres => {
                    let mut query = query;
                    for finished in part.finished {
                        query = bind_attempt(bind_move(query, finished, now), finished.attempt.as_ref());
                    }
                    let columns = [MOVE_COLUMNS, ATTEMPT_COLUMNS].concat();
                    let query = pad(query, &columns, rows - part.finished.len());
                    let written: i64 = query.fetch_one(&mut *connection).await?.try_get(0)?;
                    u64::try_from(written).expect("a count")
                }
            };
        }
        let attempts = self.finished.iter().filter(|finished| finished.attempt.is_some()).count();
        Ok(written == (self.finished.len() + attempts) as u64)
    }

    /// Cut to what a statement takes.
    fn parts(&self) -> impl Iterator<Item = Self> {
        let mut rest = *self;
        std::iter::from_fn(move || {
            if rest.longest() == 0 {
                return None;
            }
            let (events, later) = rest.events.split_at(rest.events.len().min(ROWS_LIMIT));
            // No delivery comes before its event.
            let limit = if later.is_empty() { ROWS_LIMIT } else { 0 };
            let (deliveries, later_deliveries) = rest.deliveries.split_at(rest.deliveries.len().min(limit));
            let (finished, later_finished) = rest.finished.split_at(rest.finished.len().min(ROWS_LIMIT));
            rest = Self { events: later, deliveries: later_deliveries, finished: later_finished };
            Some(Self { events, deliveries, finished })
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.events.len() + self.deliveries.len() + self.finished.len()
    }

    fn longest(&self) -> usize {
        self.events.len().max(self.deliveries.len()).max(self.finished.len())
    }

    fn bind_new(&self, mut query: Bound, rows: usize, now: Timestamp) -> Bound {
        for (event, deliveries) in self.events {
            query = bind_event(query, event, *deliveries, now);
        }
        query = pad(query, EVENT_COLUMNS, rows - self.events.len());
        for delivery in self.deliveries {
            query = bind_delivery(query, delivery, now);
        }
        pad(query, DELIVERY_COLUMNS, rows - self.deliveries.len())
    }

    fn bind_moved(&self, mut query: Bound, rows: usize, now: Timestamp) -> Bound {
        for finished in self.finished {
            query = bind_move(query, finished, now);
        }
        pad(query, MOVE_COLUMNS, rows - self.finished.len())
    }

    /// Attempts with their keys.
    fn bind_kept(&self, mut query: Bound, rows: usize) -> Bound {
        for Finished { leased, next, attempt, .. } in self.finished {
            query = query
                .bind(leased.tenant.to_string())
                .bind(leased.id.to_string())
                .bind(leased.claim)
                .bind(i64::from(next.attempts()));
            query = bind_attempt(query, attempt.as_ref());
        }
        let missing = rows - self.finished.len();
        (0..missing).fold(query, |query, _| pad(pad(query, KEY_COLUMNS, 1), ATTEMPT_COLUMNS, 1))
    }
}

fn bind_event(query: Bound, event: &Event, deliveries: Option<usize>, now: Timestamp) -> Bound {
    query
        .bind(event.tenant.to_string())
        .bind(event.id.to_string())
        .bind(event.event_type.to_string())
        .bind(event.body.to_vec())
        .bind(event.fingerprint.map(|fingerprint| fingerprint.to_vec()))
        .bind(count(deliveries))
        .bind(now.as_millisecond())
        .bind(event.trace.map(|trace| trace.to_string()))
}

fn bind_delivery(query: Bound, new: &NewDelivery, now: Timestamp) -> Bound {
    let leased = &new.leased;
    query
        .bind(leased.tenant.to_string())
        .bind(leased.id.to_string())
        .bind(leased.endpoint.to_string())
        .bind(leased.event.to_string())
        .bind(leased.event_type.to_string())
        .bind(now.as_millisecond())
        .bind(new.claimable_at(now).as_millisecond())
        .bind(leased.claim)
}

fn bind_move(query: Bound, Finished { leased, next, .. }: &Finished, now: Timestamp) -> Bound {
    let (state, failures, next_attempt_at) = columns(*next);
    query
        .bind(leased.tenant.to_string())
        .bind(leased.id.to_string())
        .bind(leased.claim)
        .bind(state)
        .bind(i64::from(next.attempts()))
        .bind(failures)
        .bind(next_attempt_at)
        .bind(next_attempt_at.is_none().then(|| now.as_millisecond()))
}

/// What the history keeps of an attempt; NULLs where none was made.
fn bind_attempt(query: Bound, attempt: Option<&Attempt>) -> Bound {
    let answer = attempt.and_then(|attempt| attempt.outcome.result.as_ref().ok());
    query
        .bind(attempt.map(|attempt| attempt.started_at.as_millisecond()))
        .bind(attempt.map(|attempt| i64::try_from(attempt.outcome.duration.as_millis()).unwrap_or(i64::MAX)))
        .bind(attempt.map(|attempt| attempt.request_headers.clone()))
        .bind(answer.map(|answer| i64::from(answer.status)))
        .bind(answer.map(|answer| answer.body.to_vec()))
        .bind(attempt.map(|_| i64::from(answer.is_some_and(|answer| answer.truncated))))
        .bind(attempt.and_then(|attempt| attempt.error.clone()))
}

/// Column `deliveries` of an event.
pub(super) fn count(deliveries: Option<usize>) -> i64 {
    deliveries.map_or(-1, |deliveries| i64::try_from(deliveries).unwrap_or(i64::MAX))
}

/// Columns `state`, `failures` and `next_attempt_at`.
pub(super) fn columns(delivery: Delivery) -> (&'static str, i64, Option<i64>) {
    match delivery {
        Delivery::Pending { failures, next_attempt_at, .. } => {
            ("pending", i64::from(failures), Some(next_attempt_at.as_millisecond()))
        }
        Delivery::Succeeded { .. } => ("succeeded", 0, None),
        Delivery::Failed { .. } => ("failed", 0, None),
        Delivery::Dropped { .. } => ("dropped", 0, None),
    }
}
