//! The statements of the hot path: many rows in each, never a loop of single rows. Where the databases differ, both texts
//! stand side by side.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use sqlx::{AnyConnection, Row};

use super::database::Kind;
use super::leases::Lease;
use super::sized::Column::{Integer, Text};
use super::sized::{Sized, values};
use super::{StoreError, parsed};
use crate::domain::delivery::{Delivery, Leased};
use crate::domain::id::{DeliveryId, EventId, TenantId};
use crate::domain::outcome::Outcome;
use crate::domain::plugin::Ran;

/// A lease that came to its end, and where it leaves its delivery.
#[derive(Debug)]
pub struct Finished {
    /// As it was leased, its body the event's own.
    pub leased: Leased,
    /// Where the delivery stands now.
    pub next: Delivery,
    /// What is kept of the attempt; `None`: plugins decided that none is made.
    pub attempt: Option<Attempt>,
    /// What plugins did before it; `None`: none ran.
    pub plugins: Option<Ran>,
    /// Why it was dropped; `None`: it was not.
    pub reason: Option<String>,
    /// The receiver wants no more; its endpoint is disabled.
    pub gone: bool,
}

/// One line of the history.
#[derive(Debug)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// One `name: value` a line.
    pub request_headers: String,
    /// Shown to the tenant; `None`: there was an answer.
    pub error: Option<String>,
}

/// A delivery of an event that is about to be written.
pub(super) struct NewDelivery {
    pub(super) leased: Leased,
    pub(super) goes_to: GoesTo,
}

impl NewDelivery {
    /// When whoever claims may have it.
    pub(super) fn claimable_at(&self, now: Timestamp) -> Timestamp {
        match self.goes_to {
            GoesTo::Lane | GoesTo::Caller => self.leased.lease_until,
            GoesTo::Table | GoesTo::Held => now,
        }
    }
}

/// Where a new delivery goes once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoesTo {
    /// To the place in the lanes that was promised to it; leased.
    Lane,
    /// To whoever posted it, who attempts it; leased.
    Caller,
    /// Nowhere: it waits in the table to be claimed.
    Table,
    /// Nowhere: its endpoint is disabled.
    Held,
}

/// What is stored of events by tenant and id: fingerprint and number of deliveries. `None`: some are still to be made.
pub(super) type KnownEvents = HashMap<(TenantId, EventId), (Option<Vec<u8>>, Option<usize>)>;

/// What is stored of the events that have these ids.
pub(super) async fn existing_events(
    connection: &mut AnyConnection,
    events: &[(TenantId, EventId)],
) -> Result<KnownEvents, StoreError> {
    static SELECT: LazyLock<Sized> = LazyLock::new(|| {
        let head = "SELECT e.tenant_id, e.id, e.fingerprint, e.deliveries FROM (VALUES";
        let tail = ") AS v CROSS JOIN events e WHERE e.tenant_id = v.column1 AND e.id = v.column2";
        Sized::padded(head, &[Text, Text], tail)
    });
    let mut existing = HashMap::new();
    for (mut query, events) in SELECT.over(Kind::of(connection), events) {
        for (tenant, id) in events {
            query = query.bind(tenant.to_string()).bind(id.to_string());
        }
        for row in query.fetch_all(&mut *connection).await? {
            let (tenant, id): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let deliveries: i64 = row.try_get(3)?;
            let key = (parsed("events", "tenant_id", &id, &tenant)?, parsed("events", "id", &id, &id)?);
            existing.insert(key, (row.try_get(2)?, usize::try_from(deliveries).ok()));
        }
    }
    Ok(existing)
}

/// The `endpoints_version` of each of these tenants that exists.
pub(super) async fn endpoints_versions(
    connection: &mut AnyConnection,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, i64>, StoreError> {
    static SELECT: LazyLock<Sized> = LazyLock::new(|| {
        let head = "SELECT t.id, t.endpoints_version FROM (VALUES";
        let tail = ") AS v CROSS JOIN tenants t WHERE t.id = v.column1 AND t.deleted_at IS NULL";
        Sized::padded(head, &[Text], tail)
    });
    let mut versions = HashMap::new();
    for (mut query, tenants) in SELECT.over(Kind::of(connection), tenants) {
        for tenant in tenants {
            query = query.bind(tenant.to_string());
        }
        for row in query.fetch_all(&mut *connection).await? {
            let id: String = row.try_get(0)?;
            versions.insert(parsed("tenants", "id", &id, &id)?, row.try_get(1)?);
        }
    }
    Ok(versions)
}

/// Which of these are still under the claim they were attempted under, by their indexes; the others were taken over, restarted
/// or deleted. Until the end of the transaction they stay so.
pub(super) async fn still_held(
    connection: &mut AnyConnection,
    finished: &[Finished],
) -> Result<Vec<usize>, StoreError> {
    static SELECT: LazyLock<Sized> = LazyLock::new(|| {
        let head = "SELECT v.column4 FROM (VALUES";
        let tail = ") AS v CROSS JOIN deliveries d WHERE d.tenant_id = v.column1 AND d.id = v.column2
                        AND d.claim = v.column3 AND d.next_attempt_at IS NOT NULL";
        let text = |kind, lock| move |rows: usize| format!("{head} {} {tail} {lock}", values(kind, 4, rows));
        let columns = vec![Text, Text, Integer, Integer];
        Sized::of(text(Kind::Sqlite, ""), text(Kind::Postgres, "FOR UPDATE OF d"), columns)
    });
    let mut held = HashMap::with_capacity(finished.len());
    let numbered: Vec<(usize, &Leased)> =
        finished.iter().enumerate().map(|(index, finished)| (index, &finished.leased)).collect();
    for (mut query, leases) in SELECT.over(Kind::of(connection), &numbered) {
        for (index, leased) in leases {
            query = query
                .bind(leased.tenant.to_string())
                .bind(leased.id.to_string())
                .bind(leased.claim)
                .bind(*index as i64);
        }
        for row in query.fetch_all(&mut *connection).await? {
            let index: i64 = row.try_get(0)?;
            let index = usize::try_from(index).expect("an index that we bound");
            // Of two that say the same one is enough.
            held.insert((finished[index].leased.id, finished[index].leased.claim), index);
        }
    }
    let mut held: Vec<usize> = held.into_values().collect();
    held.sort_unstable();
    Ok(held)
}

/// Gives leases back: the deliveries are claimable again as soon as they are due.
pub(super) async fn release(connection: &mut AnyConnection, leased: &[Leased]) -> Result<(), StoreError> {
    static UPDATE: LazyLock<Sized> = LazyLock::new(|| {
        let head = "UPDATE deliveries SET claimable_at = next_attempt_at FROM (VALUES";
        let tail = ") AS v WHERE deliveries.tenant_id = v.column1 AND deliveries.id = v.column2
                        AND deliveries.claim = v.column3 AND deliveries.next_attempt_at IS NOT NULL";
        Sized::padded(head, &[Text, Text, Integer], tail)
    });
    for (mut query, leased) in UPDATE.over(Kind::of(connection), leased) {
        for leased in leased {
            query = query.bind(leased.tenant.to_string()).bind(leased.id.to_string()).bind(leased.claim);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Lets leases run until `lease_until`. Gives the indexes of those that nobody took over meanwhile.
pub(super) async fn renew(
    connection: &mut AnyConnection,
    leases: &[Lease],
    lease_until: Timestamp,
) -> Result<Vec<usize>, StoreError> {
    static UPDATE: LazyLock<Sized> = LazyLock::new(|| {
        let head = "UPDATE deliveries SET claimable_at = v.column4 FROM (VALUES";
        // Leased still: what was recorded or given back under the same claim waits for its own time. SQLite returns no column
        // but of the table that is updated (https://www.sqlite.org/lang_returning.html).
        let tail = ") AS v WHERE deliveries.tenant_id = v.column1 AND deliveries.id = v.column2
                        AND deliveries.claim = v.column3 AND deliveries.claimable_at > deliveries.next_attempt_at
                    RETURNING deliveries.id, deliveries.claim";
        Sized::padded(head, &[Text, Text, Integer, Integer], tail)
    });
    let mut indexes: HashMap<(DeliveryId, i64), usize> =
        leases.iter().enumerate().map(|(index, lease)| ((lease.id, lease.claim), index)).collect();
    let mut renewed = Vec::with_capacity(leases.len());
    for (mut query, leases) in UPDATE.over(Kind::of(connection), leases) {
        for lease in leases {
            query = query
                .bind(lease.tenant.to_string())
                .bind(lease.id.to_string())
                .bind(lease.claim)
                .bind(lease_until.as_millisecond());
        }
        for row in query.fetch_all(&mut *connection).await? {
            let id: String = row.try_get(0)?;
            renewed.extend(indexes.remove(&(parsed("deliveries", "id", &id, &id)?, row.try_get(1)?)));
        }
    }
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sqlx::{AssertSqlSafe, Connection, Row};

    use super::super::claims::claim;
    use super::super::rows::Rows;
    use super::*;
    use crate::domain::event::{Event, EventType};
    use crate::domain::id::EndpointId;
    use crate::domain::lanes::Want;
    use crate::domain::outcome::SendError;

    async fn migrated() -> AnyConnection {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect("sqlite::memory:").await.unwrap();
        super::super::database::SQLITE.run(&mut connection).await.unwrap();
        connection
    }

    async fn written(connection: &mut AnyConnection, finished: &[&Finished], now: Timestamp) -> bool {
        Rows { events: &[], deliveries: &[], finished }.write(connection, now).await.unwrap()
    }

    /// A host that was stopped beyond its lease comes back with the result of an attempt that another has taken over.
    #[tokio::test]
    async fn a_late_twin_cannot_overwrite() {
        let mut connection = migrated().await;
        let now = Timestamp::from_second(1_000).unwrap();
        let lease_until = Timestamp::from_second(1_060).unwrap();
        let late = Leased {
            tenant: "acme".parse().unwrap(),
            id: DeliveryId::new(now),
            endpoint: EndpointId::new(now),
            event: EventId::new(now),
            event_type: EventType::test(),
            body: Bytes::from_static(b"{}"),
            transformed: false,
            delivery: Delivery::new(now),
            claim: 1,
            lease_until,
            trace: None,
        };
        sqlx::query(
            "INSERT INTO endpoints (tenant_id, id, url, description, headers, secret, state, created_at)
             VALUES ('acme', $1, '', '', '', '', 'active', 0)",
        )
        .bind(late.endpoint.to_string())
        .execute(&mut connection)
        .await
        .unwrap();
        let event = Event {
            tenant: late.tenant.clone(),
            id: late.event.clone(),
            event_type: late.event_type.clone(),
            body: late.body.clone(),
            fingerprint: None,
            trace: None,
        };
        let delivery = NewDelivery { leased: late.clone(), goes_to: GoesTo::Lane };
        let new = Rows { events: &[(&event, Some(1))], deliveries: &[delivery], finished: &[] };
        assert!(new.write(&mut connection, now).await.unwrap());
        let want = Want { tenant: late.tenant.clone(), endpoint: late.endpoint, credits: 5 };
        let (early, _) = claim(&mut connection, &want, now, lease_until).await.unwrap();
        assert!(early.is_empty(), "the lease still runs");

        let (taken_over, _) =
            claim(&mut connection, &want, lease_until, Timestamp::from_second(2_000).unwrap()).await.unwrap();
        let [new] = &taken_over[..] else { panic!("{taken_over:?}") };
        assert_eq!(new.id, late.id);
        assert!(new.claim > late.claim);
        let result = |leased: &Leased, next| Finished {
            leased: leased.clone(),
            next,
            attempt: Some(Attempt {
                started_at: now,
                outcome: Outcome { duration: Duration::ZERO, result: Err(SendError::ConnectionRefused) },
                request_headers: String::new(),
                error: None,
            }),
            plugins: None,
            reason: None,
            gone: false,
        };
        let failed = result(&late, Delivery::Failed { attempts: 1 });
        assert!(!written(&mut connection, &[&failed], now).await);
        // Both at once: only the newest claim counts.
        let both = [failed, result(new, Delivery::Succeeded { attempts: 1 })];
        assert_eq!(still_held(&mut connection, &both).await.unwrap(), [1]);
        assert!(!written(&mut connection, &[&both[0], &both[1]], now).await);
        assert!(still_held(&mut connection, &both).await.unwrap().is_empty());
        let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM attempts").fetch_one(&mut connection).await.unwrap();
        assert_eq!(kept, 1);
        let state: String =
            sqlx::query_scalar("SELECT state FROM deliveries").fetch_one(&mut connection).await.unwrap();
        assert_eq!(state, "succeeded");
    }

    /// Without the statistics that the migration writes, SQLite reads all of a tenant's deliveries for one event's.
    #[tokio::test]
    async fn deliveries_are_found_by_the_index_that_fits() {
        let mut connection = migrated().await;
        sqlx::query("ANALYZE sqlite_schema").execute(&mut connection).await.unwrap();
        use super::super::{components, deliveries, events, hours, plugin_runs, purge};
        for (statement, index) in [
            (deliveries::OF_ENDPOINT, "deliveries_of_endpoint (tenant_id=? AND endpoint_id=? AND id<?)"),
            (deliveries::OF_EVENT, "deliveries_of_event (event_id=? AND tenant_id=?"),
            (deliveries::RECOVER, "deliveries_failed (tenant_id=? AND endpoint_id=? AND created_at>?)"),
            (purge::OLD_EVENTS.sqlite, "deliveries_of_event (event_id=? AND tenant_id=?"),
            (purge::OF_EVENT[0], "deliveries_of_event (event_id=? AND tenant_id=?"),
            (purge::OF_EVENT[1], "deliveries_of_event (event_id=? AND tenant_id=?"),
            (purge::OF_EVENT[1], "plugin_runs_of_delivery (delivery_id=?)"),
            (purge::OF_EVENT[2], "deliveries_of_event (event_id=? AND tenant_id=?"),
            (purge::OF_ENDPOINT[1], "plugin_runs_of_delivery (delivery_id=?)"),
            (purge::OF_ENDPOINT[2], "deliveries_of_endpoint (tenant_id=? AND endpoint_id=?"),
            (events::PAST_EVENTS, "deliveries_of_endpoint (tenant_id=? AND endpoint_id=? AND id<?)"),
            (deliveries::BODY, "plugin_runs_of_delivery (delivery_id=?)"),
            (plugin_runs::OUTPUT, "plugin_runs_of_delivery (delivery_id=?)"),
            (plugin_runs::RUNS, "plugin_runs_of_delivery (delivery_id=?)"),
            (hours::OF_ENDPOINT, "PRIMARY KEY (tenant_id=? AND endpoint_id=? AND hour>?)"),
            (hours::TOTALS, "PRIMARY KEY (tenant_id=? AND endpoint_id>? AND endpoint_id<?)"),
            (hours::OLDEST, "endpoint_hours_by_age (tenant_id=? AND hour=?)"),
            (components::PARTS, "component_parts_of_version (tenant_id=? AND plugin=? AND version=?)"),
        ] {
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
            let plan: Vec<String> =
                plan.fetch_all(&mut connection).await.unwrap().iter().map(|row| row.get("detail")).collect();
            assert!(plan.iter().any(|step| step.contains(index)), "{statement}\n{plan:#?}");
        }
    }
}
