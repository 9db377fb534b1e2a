//! Deliveries that are due become this host's for a while.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};

use super::database::{Kind, Sql};
use super::sized::Column::Text;
use super::sized::Sized;
use super::{StoreError, parsed, timestamp, unreadable};
use crate::domain::delivery::{Delivery, Leased};
use crate::domain::id::{DeliveryId, EventId, TenantId};
use crate::domain::lanes::{Remaining, Want};
use crate::domain::trace::TraceParent;

/// Claim numbers grow by 1 to this, by chance: who does not know whether its claim was committed may then give it back, and
/// does not meet the next one's.
const STEP: i64 = 1 << 24;
/// Gives the columns of [`Row`]. SQLite numbers `$1` by where it stands, `?1` as it says.
pub(super) const CLAIM: Sql = Sql {
    sqlite: "UPDATE deliveries SET claim = claim + ?6, claimable_at = ?4
     WHERE tenant_id = ?1 AND id IN (
         SELECT d.id FROM deliveries d
         WHERE d.tenant_id = ?1 AND d.endpoint_id = ?2 AND d.state = 'pending' AND d.claimable_at <= ?3
           AND EXISTS (SELECT 1 FROM endpoints e WHERE e.tenant_id = ?1 AND e.id = ?2 AND e.state = 'active')
         ORDER BY d.claimable_at LIMIT ?5)
     RETURNING id, event_id, event_type, attempts, failures, next_attempt_at, claim, transformed",
    // An array, because a join with what was claimed is planned anew, and badly, as the table grows.
    postgres: "UPDATE deliveries SET claim = claim + $6, claimable_at = $4
     WHERE tenant_id = $1 AND id = ANY(ARRAY(
         SELECT d.id FROM deliveries d
         WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.state = 'pending' AND d.claimable_at <= $3
           AND EXISTS (SELECT 1 FROM endpoints e WHERE e.tenant_id = $1 AND e.id = $2 AND e.state = 'active')
         ORDER BY d.claimable_at LIMIT $5 FOR UPDATE SKIP LOCKED))
     RETURNING id, event_id, event_type, attempts, failures, next_attempt_at, claim, transformed",
};
/// When there is something to be claimed after `$3`. Both drivers number these alike.
pub(super) const NEXT_DUE: &str = "SELECT MIN(d.claimable_at) FROM deliveries d
     WHERE d.tenant_id = $1 AND d.endpoint_id = $2 AND d.state = 'pending' AND d.claimable_at > $3
       AND EXISTS (SELECT 1 FROM endpoints e WHERE e.tenant_id = $1 AND e.id = $2 AND e.state = 'active')";

/// What a [`Want`] brought.
pub(super) type Claimed = (Vec<Leased>, Remaining);

/// A delivery as it was claimed.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) event_id: String,
    pub(super) event_type: String,
    pub(super) attempts: i64,
    pub(super) failures: i64,
    pub(super) next_attempt_at: i64,
    pub(super) claim: i64,
    pub(super) transformed: i64,
}

impl Row {
    /// To be attempted by this host until `lease_until`; `body` and `trace` are its event's.
    pub(super) fn leased(
        self,
        want: &Want,
        body: Bytes,
        trace: Option<TraceParent>,
        lease_until: Timestamp,
    ) -> Result<Leased, StoreError> {
        let number =
            |column, number: i64| u32::try_from(number).map_err(|_| unreadable("deliveries", column, &self.id));
        Ok(Leased {
            tenant: want.tenant.clone(),
            id: parsed::<DeliveryId>("deliveries", "id", &self.id, &self.id)?,
            endpoint: want.endpoint,
            event: self.event()?,
            event_type: parsed("deliveries", "event_type", &self.id, &self.event_type)?,
            body,
            transformed: self.transformed != 0,
            delivery: Delivery::Pending {
                attempts: number("attempts", self.attempts)?,
                failures: number("failures", self.failures)?,
                next_attempt_at: timestamp("deliveries", "next_attempt_at", &self.id, self.next_attempt_at)?,
            },
            claim: self.claim,
            lease_until,
            trace,
        })
    }

    fn event(&self) -> Result<EventId, StoreError> {
        parsed("deliveries", "event_id", &self.id, &self.event_id)
    }
}

/// The longest due first.
pub(super) fn in_turn(rows: &mut [Row]) {
    rows.sort_unstable_by(|a, b| (a.next_attempt_at, &a.id).cmp(&(b.next_attempt_at, &b.id)));
}

/// By how much the number of a claim grows.
pub(super) fn step() -> i64 {
    rand::random_range(1..=STEP)
}

/// What there is left to be claimed, where [`NEXT_DUE`] says `due`.
pub(super) fn remaining(want: &Want, due: Option<i64>) -> Result<Remaining, StoreError> {
    let due = due.map(|due| timestamp("deliveries", "claimable_at", &want.endpoint.to_string(), due)).transpose()?;
    Ok(due.map_or(Remaining::Nothing, Remaining::Until))
}

/// What cannot be read of a trace holds up no delivery.
pub(super) fn trace(column: Option<String>) -> Option<TraceParent> {
    column.and_then(|trace| trace.parse().ok())
}

/// Leases up to `want.credits` due deliveries of one active endpoint to this host, the longest due first.
pub(super) async fn claim(
    connection: &mut AnyConnection,
    want: &Want,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Claimed, StoreError> {
    let mut rows: Vec<Row> = sqlx::query_as(CLAIM.on(Kind::of(connection)))
        .bind(want.tenant.as_str())
        .bind(want.endpoint.to_string())
        .bind(now.as_millisecond())
        .bind(lease_until.as_millisecond())
        .bind(want.credits as i64)
        .bind(step())
        .fetch_all(&mut *connection)
        .await?;
    let remaining = if rows.len() < want.credits {
        let due = sqlx::query_scalar(NEXT_DUE)
            .bind(want.tenant.as_str())
            .bind(want.endpoint.to_string())
            .bind(now.as_millisecond())
            .fetch_one(&mut *connection)
            .await?;
        remaining(want, due)?
    } else {
        Remaining::More
    };
    in_turn(&mut rows);
    let events: Vec<(TenantId, EventId)> =
        rows.iter().map(|row| Ok((want.tenant.clone(), row.event()?))).collect::<Result<_, StoreError>>()?;
    let bodies = bodies(connection, &events).await?;
    let leased = |(row, (_, event)): (Row, &(TenantId, EventId))| {
        let (body, trace) = bodies.get(event).ok_or_else(|| unreadable("deliveries", "event_id", &row.id))?.clone();
        row.leased(want, body, trace, lease_until)
    };
    Ok((rows.into_iter().zip(&events).map(leased).collect::<Result<_, _>>()?, remaining))
}

/// Bodies and traces.
async fn bodies(
    connection: &mut AnyConnection,
    events: &[(TenantId, EventId)],
) -> Result<HashMap<EventId, (Bytes, Option<TraceParent>)>, StoreError> {
    static SELECT: LazyLock<Sized> = LazyLock::new(|| {
        let head = "SELECT e.id, e.body, e.trace FROM (VALUES";
        let tail = ") AS v CROSS JOIN events e WHERE e.tenant_id = v.column1 AND e.id = v.column2";
        Sized::padded(head, &[Text, Text], tail)
    });
    let mut bodies = HashMap::new();
    for (mut query, events) in SELECT.over(Kind::of(connection), events) {
        for (tenant, id) in events {
            query = query.bind(tenant.to_string()).bind(id.to_string());
        }
        for row in query.fetch_all(&mut *connection).await? {
            let id: String = row.try_get(0)?;
            let body: Vec<u8> = row.try_get(1)?;
            bodies.insert(parsed("events", "id", &id, &id)?, (body.into(), trace(row.try_get(2)?)));
        }
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, Row as _};

    use super::*;

    /// Finished deliveries must not cost a claim anything, however many there are: it reads the partial index only.
    #[tokio::test]
    async fn claims_read_the_partial_index_of_pending_deliveries() {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect("sqlite::memory:").await.unwrap();
        super::super::database::SQLITE.run(&mut connection).await.unwrap();
        for statement in [CLAIM.sqlite, NEXT_DUE] {
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
            let plan: Vec<String> =
                plan.fetch_all(&mut connection).await.unwrap().iter().map(|row| row.get("detail")).collect();
            let search = "INDEX deliveries_claimable (tenant_id=? AND endpoint_id=? AND claimable_at";
            assert!(plan.iter().any(|step| step.starts_with("SEARCH d") && step.contains(search)), "{plan:#?}");
            assert!(!plan.iter().any(|step| step.starts_with("SCAN") || step.contains("TEMP B-TREE")), "{plan:#?}");
        }
    }
}
