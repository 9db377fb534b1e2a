//! SQLite on the writer's own thread. The driver has a thread for each connection: each statement goes there with a copy of all it
//! binds, its result comes back, and somebody must be woken each time. Most groups are written here instead, by a connection beside the
//! driver's.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Error, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::batch::Finished;
use super::claims::{self, CLAIM, Claimed, NEXT_DUE, Row};
use super::database::{FOLD_OFTEN, FOLD_SELDOM};
use super::rows::{Rows, columns, count};
use crate::domain::event::Event;
use crate::domain::id::{EventId, TenantId};
use crate::domain::lanes::{Remaining, Want};

const EVENT: &str = "INSERT INTO events (tenant_id, id, event_type, body, fingerprint, deliveries, created_at, trace)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const DELIVERY: &str =
    "INSERT INTO deliveries (tenant_id, id, endpoint_id, event_id, event_type, state, attempts, failures,
        next_attempt_at, claimable_at, claim, created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, 'pending', 0, 0, ?6, ?7, ?8, ?6)";
/// Not one that is under another claim by now.
const MOVE: &str =
    "UPDATE deliveries SET state = ?4, attempts = ?5, failures = ?6, next_attempt_at = ?7, claimable_at = ?7,
        finished_at = ?8
    WHERE tenant_id = ?1 AND id = ?2 AND claim = ?3 AND next_attempt_at IS NOT NULL";
const ATTEMPT: &str = "INSERT INTO attempts (tenant_id, delivery_id, number, started_at, duration_ms, request_headers,
        status_code, response_body, response_truncated, error)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const COMPLETE: &str = "UPDATE events SET deliveries = ?3 WHERE tenant_id = ?1 AND id = ?2";
/// Of the event of a delivery.
const BODY: &str = "SELECT body, trace FROM events WHERE tenant_id = ?1 AND id = ?2";
/// All that is prepared here and makes no claim.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 6] = [EVENT, DELIVERY, MOVE, ATTEMPT, COMPLETE, BODY];

/// Rows of a group, from which on there is so much to do that it is better to save work than to keep waits short.
const BUSY_ROWS: usize = 64;
/// How long another process may hold the file's lock.
const BUSY: Duration = Duration::from_secs(5);

/// A connection that is opened when it is first needed.
pub(super) struct Direct {
    path: PathBuf,
    connection: Mutex<Option<Open>>,
}

/// What to claim.
pub(super) struct Claims<'c> {
    pub(super) wants: &'c [Want],
    pub(super) lease_until: Timestamp,
}

struct Open {
    connection: Connection,
    /// The log is folded into the file when it has so many pages.
    fold_at: u32,
}

impl Direct {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), connection: Mutex::new(None) }
    }

    /// Writes all of it and then claims, in a transaction of its own, or does nothing: `None`, because a delivery is under another
    /// claim by now, an event or an attempt is there already, or the database failed. Each of `finished` must have an attempt;
    /// `completed` are events that were written before, with how many deliveries they have by now.
    ///
    /// Blocks its thread. Whoever calls it holds the one connection of the pool that writes.
    pub(super) fn commit(
        &self,
        rows: &Rows<'_>,
        completed: &[(TenantId, EventId, usize)],
        claims: &Claims<'_>,
        now: Timestamp,
    ) -> Option<Vec<Claimed>> {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = match kept.take().map_or_else(|| open(&self.path), Ok) {
            Ok(mut open) => {
                let committed =
                    open.fold_for(rows).and_then(|()| write(&mut open.connection, rows, completed, claims, now));
                // One that is in a transaction still, where its disk failed, is of no use any more.
                *kept = Some(open).filter(|open| open.connection.is_autocommit());
                committed
            }
            Err(error) => Err(error),
        };
        match committed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::debug!(%error, "a group is not written as it is");
                None
            }
        }
    }

    /// Whether anything was written by it.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Closes the connection, should there be one.
    pub(super) fn close(&self) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Open {
    /// All that write wait meanwhile. With a longer log it is done less often and, because the same pages are in it again and
    /// again, for less in all, but takes longer each time.
    fn fold_for(&mut self, rows: &Rows<'_>) -> Result<(), Error> {
        let fold_at = if rows.count() >= BUSY_ROWS { FOLD_SELDOM } else { FOLD_OFTEN };
        if self.fold_at != fold_at {
            self.connection.pragma_update(None, "wal_autocheckpoint", fold_at)?;
            self.fold_at = fold_at;
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Open, Error> {
    // One thread at a time uses it: SQLite need not see to that.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(Open { connection, fold_at: 0 })
}

fn write(
    connection: &mut Connection,
    rows: &Rows<'_>,
    completed: &[(TenantId, EventId, usize)],
    claims: &Claims<'_>,
    now: Timestamp,
) -> Result<Option<Vec<Claimed>>, Error> {
    // Rolled back when it is dropped.
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = tx.prepare_cached(EVENT)?;
        for (event, deliveries) in rows.events {
            let Event { tenant, id, event_type, body, fingerprint, trace } = event;
            let trace = trace.map(|trace| trace.to_string());
            insert.execute(params![
                tenant.as_str(),
                id.as_str(),
                event_type.as_str(),
                &**body,
                fingerprint.as_ref().map(|fingerprint| &fingerprint[..]),
                count(*deliveries),
                now.as_millisecond(),
                trace,
            ])?;
        }
        let mut insert = tx.prepare_cached(DELIVERY)?;
        for new in rows.deliveries {
            let leased = &new.leased;
            insert.execute(params![
                leased.tenant.as_str(),
                leased.id.to_string(),
                leased.endpoint.to_string(),
                leased.event.as_str(),
                leased.event_type.as_str(),
                now.as_millisecond(),
                new.claimable_at(now).as_millisecond(),
                leased.claim,
            ])?;
        }
        let (mut update, mut insert) = (tx.prepare_cached(MOVE)?, tx.prepare_cached(ATTEMPT)?);
        for Finished { leased, next, attempt, .. } in rows.finished {
            let (state, failures, next_attempt_at) = columns(*next);
            let (tenant, id) = (leased.tenant.as_str(), leased.id.to_string());
            let finished_at = next_attempt_at.is_none().then(|| now.as_millisecond());
            let moved = update.execute(params![
                tenant,
                id,
                leased.claim,
                state,
                next.attempts(),
                failures,
                next_attempt_at,
                finished_at,
            ])?;
            let Some(attempt) = attempt.as_ref().filter(|_| moved == 1) else { return Ok(None) };
            let answer = attempt.outcome.result.as_ref().ok();
            insert.execute(params![
                tenant,
                id,
                next.attempts(),
                attempt.started_at.as_millisecond(),
                i64::try_from(attempt.outcome.duration.as_millis()).unwrap_or(i64::MAX),
                attempt.request_headers,
                answer.map(|answer| answer.status),
                answer.map(|answer| &*answer.body),
                answer.is_some_and(|answer| answer.truncated),
                attempt.error,
            ])?;
        }
    }
    for (tenant, event, deliveries) in completed {
        tx.prepare_cached(COMPLETE)?.execute(params![tenant.as_str(), event.as_str(), count(Some(*deliveries))])?;
    }
    let mut claimed = Vec::with_capacity(claims.wants.len());
    for want in claims.wants {
        let Some(brought) = claim(&tx, want, now, claims.lease_until)? else { return Ok(None) };
        claimed.push(brought);
    }
    tx.commit()?;
    Ok(Some(claimed))
}

/// As [`claims::claim`]. `None`: there is something that cannot be read.
fn claim(tx: &Transaction<'_>, want: &Want, now: Timestamp, lease_until: Timestamp) -> Result<Option<Claimed>, Error> {
    let (tenant, endpoint, now) = (want.tenant.as_str(), want.endpoint.to_string(), now.as_millisecond());
    let lease = params![tenant, endpoint, now, lease_until.as_millisecond(), want.credits as i64, claims::step()];
    let mut rows: Vec<Row> = tx.prepare_cached(CLAIM.sqlite)?.query_map(lease, row)?.collect::<Result<_, _>>()?;
    let remaining = if rows.len() < want.credits {
        let due = tx.prepare_cached(NEXT_DUE)?.query_row(params![tenant, endpoint, now], |due| due.get(0))?;
        claims::remaining(want, due).ok()
    } else {
        Some(Remaining::More)
    };
    claims::in_turn(&mut rows);
    let mut bodies = tx.prepare_cached(BODY)?;
    let mut leased = Vec::with_capacity(rows.len());
    for row in rows {
        let of_event = |event: &rusqlite::Row<'_>| Ok((event.get::<_, Vec<u8>>(0)?, claims::trace(event.get(1)?)));
        let event = bodies.query_row(params![tenant, row.event_id], of_event).optional()?;
        let readable = event.and_then(|(body, trace)| row.leased(want, body.into(), trace, lease_until).ok());
        let Some(readable) = readable else { return Ok(None) };
        leased.push(readable);
    }
    Ok(remaining.map(|remaining| (leased, remaining)))
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row, Error> {
    Ok(Row {
        id: row.get(0)?,
        event_id: row.get(1)?,
        event_type: row.get(2)?,
        attempts: row.get(3)?,
        failures: row.get(4)?,
        next_attempt_at: row.get(5)?,
        claim: row.get(6)?,
        transformed: row.get(7)?,
    })
}
