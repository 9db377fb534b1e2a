//! Deliveries as the history shows them, and their restart by hand.

use jiff::Timestamp;

use super::database::{Kind, Sql, locking};
use super::{
    Page, PageRequest, RunRecord, Store, StoreError, millis, parsed, plugin_runs, rows, timestamp, unreadable,
};
use crate::domain::delivery::Delivery;
use crate::domain::event::EventType;
use crate::domain::id::{DeliveryId, EndpointId, EventId, TenantId};

/// Deliveries restarted in one transaction, so that others get their turn to write in between.
const CHUNK: i64 = 1_000;

/// A delivery as lists show it.
#[derive(Debug)]
pub struct DeliveryRecord {
    /// Its id.
    pub id: DeliveryId,
    /// Of which event.
    pub event: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// To which endpoint.
    pub endpoint: EndpointId,
    /// `pending`, `succeeded`, `failed`, `dropped`, or `held`: pending while the endpoint is disabled.
    pub state: String,
    /// Why it was dropped; `None`: it was not.
    pub state_reason: Option<String>,
    /// Attempts made so far.
    pub attempts: u32,
    /// When it is tried next; `None`: not while it stands so.
    pub next_attempt_at: Option<Timestamp>,
    /// When its event was accepted.
    pub created_at: Timestamp,
}

/// One attempt as the history shows it.
pub struct AttemptRecord {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// One `name: value` a line.
    pub request_headers: String,
    /// `None`: no answer.
    pub status_code: Option<u16>,
    /// The first 16 KiB; `None`: no answer.
    pub response_body: Option<Vec<u8>>,
    /// Whether there was more.
    pub response_truncated: bool,
    /// `None`: there was an answer.
    pub error: Option<String>,
}

// Bodies and headers are payload: they stay out of logs.
impl std::fmt::Debug for AttemptRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttemptRecord")
            .field("number", &self.number)
            .field("started_at", &self.started_at)
            .field("duration_ms", &self.duration_ms)
            .field("status_code", &self.status_code)
            .finish_non_exhaustive()
    }
}

/// All there is to tell of one delivery.
pub struct DeliveryHistory {
    /// As lists show it.
    pub delivery: DeliveryRecord,
    /// The body it sends: what plugins made of the event's, once they did.
    pub body: Vec<u8>,
    /// The first first.
    pub attempts: Vec<AttemptRecord>,
    /// What plugins did, in the order they were called.
    pub runs: Vec<RunRecord>,
}

impl std::fmt::Debug for DeliveryHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryHistory")
            .field("delivery", &self.delivery)
            .field("body_bytes", &self.body.len())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Which deliveries of a list to show.
#[derive(Debug, Default)]
pub struct Filter {
    /// As [`DeliveryRecord::state`].
    pub state: Option<&'static str>,
    /// Of this type.
    pub event_type: Option<EventType>,
    /// Created then or later.
    pub after: Option<Timestamp>,
    /// Created earlier.
    pub before: Option<Timestamp>,
}

/// Why a delivery was not restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRestartable {
    /// No such delivery of this tenant.
    #[error("no such delivery")]
    NotFound,
    /// An attempt is under way.
    #[error("an attempt of this delivery is under way or about to begin")]
    UnderWay,
    /// Its endpoint is pending or disabled.
    #[error("the endpoint is not active")]
    EndpointNotActive,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    event_id: String,
    event_type: String,
    endpoint_id: String,
    state: String,
    state_reason: Option<String>,
    attempts: i64,
    next_attempt_at: Option<i64>,
    created_at: i64,
}

#[derive(sqlx::FromRow)]
struct AttemptRow {
    number: i64,
    started_at: i64,
    duration_ms: i64,
    request_headers: String,
    status_code: Option<i64>,
    response_body: Option<Vec<u8>>,
    response_truncated: i64,
    error: Option<String>,
}

#[derive(sqlx::FromRow)]
struct RestartRow {
    state: String,
    attempts: i64,
    failures: i64,
    next_attempt_at: Option<i64>,
    claimable_at: Option<i64>,
    endpoint_state: String,
    endpoint_id: String,
}

/// Deliveries of endpoints that are there; `held` is pending at a disabled endpoint.
macro_rules! select {
    ($($rest:literal),+) => {
        concat!(
            "SELECT d.id, d.event_id, d.event_type, d.endpoint_id,
                    CASE WHEN d.state = 'pending' AND e.state = 'disabled' THEN 'held' ELSE d.state END AS state,
                    d.state_reason, d.attempts, CASE WHEN e.state = 'disabled' THEN NULL ELSE d.next_attempt_at END AS next_attempt_at,
                    d.created_at
             FROM deliveries d CROSS JOIN endpoints e
             WHERE d.tenant_id = $1 AND e.tenant_id = d.tenant_id AND e.id = d.endpoint_id AND e.deleted_at IS NULL ",
            $($rest),+
        )
    };
}

/// `$4` to `$7` are the filter.
macro_rules! select_page {
    ($of:literal) => {
        select!(
            $of,
            " AND d.id < $3
              AND ($4 IS NULL
                   OR $4 = CASE WHEN d.state = 'pending' AND e.state = 'disabled' THEN 'held' ELSE d.state END)
              AND ($5 IS NULL OR d.event_type = $5)
              AND d.created_at >= $6 AND d.created_at < $7
              ORDER BY d.id DESC LIMIT $8"
        )
    };
}

pub(super) const OF_ENDPOINT: &str = select_page!("AND d.endpoint_id = $2");
pub(super) const OF_EVENT: &str = select_page!("AND d.event_id = $2");
pub(super) const RECOVER: &str =
    "UPDATE deliveries SET state = 'pending', failures = 0, next_attempt_at = $4, claimable_at = $4,
                     finished_at = NULL
                 WHERE tenant_id = $1 AND id IN (
                     SELECT id FROM deliveries
                     WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'failed' AND created_at >= $3
                       AND finished_at <= $4 AND event_type <> 'webhook.test' LIMIT $5)";
const RESTARTED: Sql = locking!(
    "SELECT d.state, d.attempts, d.failures, d.next_attempt_at, d.claimable_at, e.state AS endpoint_state,
            e.id AS endpoint_id
     FROM deliveries d JOIN endpoints e ON e.tenant_id = d.tenant_id AND e.id = d.endpoint_id
     WHERE d.tenant_id = $1 AND d.id = $2 AND e.deleted_at IS NULL",
    "FOR UPDATE OF d"
);
const LOST_TESTS: &str =
    "UPDATE deliveries SET state = 'failed', next_attempt_at = NULL, claimable_at = NULL, finished_at = $1
     WHERE state = 'pending' AND event_type = 'webhook.test' AND claimable_at <= $1";
pub(super) const BODY: &str = "SELECT COALESCE(
         (SELECT r.body FROM plugin_runs r
          WHERE r.tenant_id = $1 AND r.delivery_id = $3 AND r.headers IS NOT NULL ORDER BY r.attempt DESC LIMIT 1),
         v.body) FROM events v WHERE v.tenant_id = $1 AND v.id = $2";
const ONE: &str = select!("AND d.id = $2");

impl Store {
    /// An endpoint's deliveries, newest first.
    pub async fn deliveries_of_endpoint(
        &self,
        tenant: &TenantId,
        endpoint: EndpointId,
        filter: &Filter,
        page: &PageRequest<DeliveryId>,
    ) -> Result<Page<DeliveryRecord, DeliveryId>, StoreError> {
        self.deliveries(OF_ENDPOINT, tenant, &endpoint.to_string(), filter, page).await
    }

    /// An event's deliveries, newest first. `None`: no such event.
    pub async fn deliveries_of_event(
        &self,
        tenant: &TenantId,
        event: &EventId,
        filter: &Filter,
        page: &PageRequest<DeliveryId>,
    ) -> Result<Option<Page<DeliveryRecord, DeliveryId>>, StoreError> {
        let exists: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM events v JOIN tenants t ON t.id = v.tenant_id
             WHERE v.tenant_id = $1 AND v.id = $2 AND t.deleted_at IS NULL",
        )
        .bind(tenant.as_str())
        .bind(event.as_str())
        .fetch_optional(&self.browse)
        .await?;
        if exists.is_none() {
            return Ok(None);
        }
        self.deliveries(OF_EVENT, tenant, event.as_str(), filter, page).await.map(Some)
    }

    /// One delivery with its history, as it stood at one moment. `None`: no such.
    pub async fn delivery_with_history(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Option<DeliveryHistory>, StoreError> {
        let id = id.to_string();
        let mut snapshot = self.browse.begin_with(self.kind.begin_snapshot()).await?;
        let row: Option<Row> =
            sqlx::query_as(ONE).bind(tenant.as_str()).bind(&id).fetch_optional(&mut *snapshot).await?;
        let Some(row) = row else { return Ok(None) };
        let body = sqlx::query_scalar(BODY)
            .bind(tenant.as_str())
            .bind(&row.event_id)
            .bind(&id)
            .fetch_one(&mut *snapshot)
            .await?;
        let attempts: Vec<AttemptRow> = sqlx::query_as(
            "SELECT number, started_at, duration_ms, request_headers, status_code, response_body, response_truncated,
                    error
             FROM attempts WHERE tenant_id = $1 AND delivery_id = $2 ORDER BY number",
        )
        .bind(tenant.as_str())
        .bind(&id)
        .fetch_all(&mut *snapshot)
        .await?;
        let attempts = attempts.into_iter().map(|row| attempt(&id, row)).collect::<Result<_, _>>()?;
        let runs = plugin_runs::runs(&mut snapshot, tenant, &id).await?;
        Ok(Some(DeliveryHistory { delivery: record(row)?, body, attempts, runs }))
    }

    /// One delivery; `None`: no such.
    pub async fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Result<Option<DeliveryRecord>, StoreError> {
        let row: Option<Row> =
            sqlx::query_as(ONE).bind(tenant.as_str()).bind(id.to_string()).fetch_optional(&self.browse).await?;
        row.map(record).transpose()
    }

    /// Sends a delivery again: a finished one with the whole schedule anew, a waiting one at once.
    pub async fn restart_delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Result<(), NotRestartable>, StoreError> {
        let now = self.clock.now();
        let mut tx = self.begin().await?;
        let row: Option<RestartRow> = sqlx::query_as(RESTARTED.on(self.kind))
            .bind(tenant.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(Err(NotRestartable::NotFound)) };
        if row.endpoint_state != "active" {
            return Ok(Err(NotRestartable::EndpointNotActive));
        }
        let count = |column, count| u32::try_from(count).map_err(|_| unreadable("deliveries", column, &id.to_string()));
        let attempts = count("attempts", row.attempts)?;
        let restarted = if row.state == "pending" {
            let leased = row.claimable_at > row.next_attempt_at && row.claimable_at > Some(millis(now));
            if leased {
                return Ok(Err(NotRestartable::UnderWay));
            }
            Delivery::Pending { attempts, failures: count("failures", row.failures)?, next_attempt_at: now }
        } else {
            Delivery::Failed { attempts }.restarted(now)
        };
        let (state, failures, next_attempt_at) = rows::columns(restarted);
        sqlx::query(
            "UPDATE deliveries SET state = $3, failures = $4, next_attempt_at = $5, claimable_at = $5, finished_at = NULL,
                 state_reason = NULL
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(state)
        .bind(failures)
        .bind(next_attempt_at)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.flag_backlog(tenant, parsed("endpoints", "id", &row.endpoint_id, &row.endpoint_id)?);
        Ok(Ok(()))
    }

    /// Restarts every failed delivery of an endpoint created at or after `since`, test events left out; gives their
    /// number.
    pub async fn recover(&self, tenant: &TenantId, endpoint: EndpointId, since: Timestamp) -> Result<u64, StoreError> {
        let now = millis(self.clock.now());
        let mut total = 0;
        loop {
            // Only what failed before we began: what fails again meanwhile is not ours.
            let restarted = sqlx::query(RECOVER)
                .bind(tenant.as_str())
                .bind(endpoint.to_string())
                .bind(millis(since))
                .bind(now)
                .bind(CHUNK)
                .execute(&self.write)
                .await?
                .rows_affected();
            total += restarted;
            if restarted == 0 {
                return Ok(total);
            }
            self.flag_backlog(tenant, endpoint);
        }
    }

    /// Endpoints that have deliveries due, to be flagged: after a start, and in case a wake-up was lost. Test events whose sender
    /// died have failed.
    pub async fn flag_endpoints_with_due_deliveries(&self) -> Result<(), StoreError> {
        let rows = self.within_long_limit(self.endpoints_with_due_deliveries()).await?;
        {
            let mut lanes = self.handover.lanes();
            for (tenant, endpoint, failing_since) in rows {
                let tenant = parsed("endpoints", "tenant_id", &endpoint, &tenant)?;
                let endpoint = parsed("endpoints", "id", &endpoint, &endpoint)?;
                if failing_since.is_none() {
                    lanes.presume_proven(&tenant, endpoint);
                }
                lanes.flag_backlog(&tenant, endpoint);
            }
        }
        self.handover.wake.notify_one();
        Ok(())
    }

    async fn endpoints_with_due_deliveries(&self) -> Result<Vec<(String, String, Option<i64>)>, StoreError> {
        if self.kind == Kind::Postgres {
            sqlx::query(LOST_TESTS).bind(millis(self.clock.now())).execute(&self.write).await?;
        }
        Ok(sqlx::query_as(
            "SELECT e.tenant_id, e.id, e.failing_since FROM endpoints e
             WHERE e.state = 'active' AND EXISTS (
                 SELECT 1 FROM deliveries d
                 WHERE d.tenant_id = e.tenant_id AND d.endpoint_id = e.id AND d.state = 'pending'
                   AND d.claimable_at <= $1)",
        )
        .bind(millis(self.clock.now()))
        .fetch_all(&self.read)
        .await?)
    }

    /// Gives back every lease: only while no other process delivers from this database. A test event whose sender died
    /// has failed: nobody waits for it.
    pub(super) async fn release_all_leases(&self) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE deliveries SET state = 'failed', next_attempt_at = NULL, claimable_at = NULL, finished_at = $1
             WHERE state = 'pending' AND event_type = 'webhook.test'",
        )
        .bind(millis(self.clock.now()))
        .execute(&self.write)
        .await?;
        sqlx::query(
            "UPDATE deliveries SET claimable_at = next_attempt_at
             WHERE state = 'pending' AND claimable_at > next_attempt_at",
        )
        .execute(&self.write)
        .await?;
        Ok(())
    }

    async fn deliveries(
        &self,
        statement: &'static str,
        tenant: &TenantId,
        of: &str,
        filter: &Filter,
        page: &PageRequest<DeliveryId>,
    ) -> Result<Page<DeliveryRecord, DeliveryId>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(statement)
            .bind(tenant.as_str())
            .bind(of)
            .bind(page.before())
            .bind(filter.state)
            .bind(filter.event_type.as_ref().map(EventType::as_str))
            .bind(filter.after.map_or(i64::MIN, millis))
            .bind(filter.before.map_or(i64::MAX, millis))
            .bind(page.rows())
            .fetch_all(&self.browse)
            .await?;
        let records: Vec<DeliveryRecord> = rows.into_iter().map(record).collect::<Result<_, _>>()?;
        Ok(page.page(records, |record| record.id))
    }
}

fn record(row: Row) -> Result<DeliveryRecord, StoreError> {
    const TABLE: &str = "deliveries";
    let id = row.id.as_str();
    Ok(DeliveryRecord {
        id: parsed(TABLE, "id", id, id)?,
        event: parsed(TABLE, "event_id", id, &row.event_id)?,
        event_type: parsed(TABLE, "event_type", id, &row.event_type)?,
        endpoint: parsed(TABLE, "endpoint_id", id, &row.endpoint_id)?,
        attempts: u32::try_from(row.attempts).map_err(|_| unreadable(TABLE, "attempts", id))?,
        next_attempt_at: row.next_attempt_at.map(|at| timestamp(TABLE, "next_attempt_at", id, at)).transpose()?,
        created_at: timestamp(TABLE, "created_at", id, row.created_at)?,
        state: row.state,
        state_reason: row.state_reason,
    })
}

fn attempt(id: &str, row: AttemptRow) -> Result<AttemptRecord, StoreError> {
    const TABLE: &str = "attempts";
    Ok(AttemptRecord {
        number: u32::try_from(row.number).map_err(|_| unreadable(TABLE, "number", id))?,
        started_at: timestamp(TABLE, "started_at", id, row.started_at)?,
        duration_ms: u64::try_from(row.duration_ms).map_err(|_| unreadable(TABLE, "duration_ms", id))?,
        request_headers: row.request_headers,
        status_code: row
            .status_code
            .map(|status| u16::try_from(status).map_err(|_| unreadable(TABLE, "status_code", id)))
            .transpose()?,
        response_body: row.response_body,
        response_truncated: row.response_truncated != 0,
        error: row.error,
    })
}
