//! Deletion of rows in small batches: what is too old, and what a deleted tenant or endpoint owned.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::database::{Kind, Sql, locking};
use super::{Store, StoreError, millis, parsed};
use crate::domain::id::{EndpointId, TenantId};

/// Events or deliveries deleted in one transaction.
const CHUNK: i64 = 500;

/// What one step of a purge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purged {
    /// So many rows went; there may be more.
    Some(u64),
    /// Nothing is left to delete.
    Nothing,
}

impl Store {
    /// Deletes what a deleted tenant owned, then the tenant.
    pub async fn purge_tenant(&self, tenant: &TenantId) -> Result<(), StoreError> {
        self.pass_writers().await?;
        while self.delete_events(tenant, EVENTS_OF_TENANT, i64::MAX).await? != Purged::Nothing {}
        while sqlx::query(PART_OF_TENANT).bind(tenant.as_str()).execute(&self.write).await?.rows_affected() > 0 {}
        while self.purge_oldest_hour(tenant, Timestamp::MAX).await? != Purged::Nothing {}
        let mut tx = self.begin().await?;
        for statement in [
            "DELETE FROM attachments WHERE tenant_id = $1",
            "DELETE FROM plugin_versions WHERE tenant_id = $1",
            "DELETE FROM plugin_usage WHERE tenant_id = $1",
            "DELETE FROM plugins WHERE tenant_id = $1",
            "DELETE FROM endpoints WHERE tenant_id = $1",
            "DELETE FROM tenants WHERE id = $1 AND deleted_at IS NOT NULL",
        ] {
            sqlx::query(statement).bind(tenant.as_str()).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Deletes a deleted endpoint's deliveries and hours, then the endpoint. Events stay: other endpoints may have got them.
    pub async fn purge_endpoint(&self, tenant: &TenantId, endpoint: EndpointId) -> Result<(), StoreError> {
        self.pass_writers().await?;
        loop {
            let mut tx = self.begin().await?;
            let mut deliveries = 0;
            for statement in OF_ENDPOINT {
                let deleted = sqlx::query(statement)
                    .bind(tenant.as_str())
                    .bind(endpoint.to_string())
                    .bind(CHUNK)
                    .execute(&mut *tx)
                    .await?;
                deliveries = deleted.rows_affected();
            }
            if deliveries == 0 {
                for statement in [
                    "DELETE FROM endpoint_hours WHERE tenant_id = $1 AND endpoint_id = $2",
                    "DELETE FROM endpoints WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NOT NULL",
                ] {
                    sqlx::query(statement).bind(tenant.as_str()).bind(endpoint.to_string()).execute(&mut *tx).await?;
                }
                return Ok(tx.commit().await?);
            }
            tx.commit().await?;
        }
    }

    /// Deletes a batch of a tenant's events accepted before `before` whose deliveries all finished before it, with
    /// their deliveries and what came of them.
    pub async fn purge_old_events(&self, tenant: &TenantId, before: Timestamp) -> Result<Purged, StoreError> {
        self.delete_events(tenant, OLD_EVENTS, millis(before)).await
    }

    /// Tenants that have events older than `before`.
    pub async fn tenants_with_old_events(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT t.id FROM tenants t
             WHERE EXISTS (SELECT 1 FROM events v WHERE v.tenant_id = t.id AND v.created_at < $1)",
        )
        .bind(millis(before))
        .fetch_all(&self.read)
        .await?;
        ids.iter().map(|id| parsed("tenants", "id", id, id)).collect()
    }

    /// Tenants and endpoints whose deletion was interrupted.
    pub async fn half_deleted(&self) -> Result<(Vec<TenantId>, Vec<(TenantId, EndpointId)>), StoreError> {
        let tenants: Vec<String> =
            sqlx::query_scalar("SELECT id FROM tenants WHERE deleted_at IS NOT NULL").fetch_all(&self.read).await?;
        let endpoints: Vec<(String, String)> =
            sqlx::query_as("SELECT tenant_id, id FROM endpoints WHERE deleted_at IS NOT NULL")
                .fetch_all(&self.read)
                .await?;
        let tenants = tenants.iter().map(|id| parsed("tenants", "id", id, id)).collect::<Result<_, _>>()?;
        let endpoint = |(tenant, id): &(String, String)| {
            Ok((parsed("endpoints", "tenant_id", id, tenant)?, parsed("endpoints", "id", id, id)?))
        };
        Ok((tenants, endpoints.iter().map(endpoint).collect::<Result<_, StoreError>>()?))
    }

    async fn delete_events(&self, tenant: &TenantId, which: Sql, before: i64) -> Result<Purged, StoreError> {
        let mut tx = self.begin().await?;
        let ids: Vec<String> = sqlx::query_scalar(which.on(self.kind))
            .bind(tenant.as_str())
            .bind(before)
            .bind(CHUNK)
            .fetch_all(&mut *tx)
            .await?;
        match self.kind {
            Kind::Sqlite => {
                for (id, statement) in ids.iter().flat_map(|id| OF_EVENT.map(|statement| (id, statement))) {
                    sqlx::query(statement).bind(tenant.as_str()).bind(id).execute(&mut *tx).await?;
                }
            }
            Kind::Postgres => delete_on_postgres(&mut tx, tenant, &ids, before).await?,
        }
        tx.commit().await?;
        Ok(if ids.is_empty() { Purged::Nothing } else { Purged::Some(ids.len() as u64) })
    }
}

/// Each statement costs the way there and back, so all events go at once. Those stay whose deliveries somebody restarted meanwhile.
async fn delete_on_postgres(
    connection: &mut AnyConnection,
    tenant: &TenantId,
    ids: &[String],
    before: i64,
) -> Result<(), StoreError> {
    let deliveries: Vec<(String, Option<i64>)> =
        sqlx::query_as(LOCK_OF_EVENTS).bind(tenant.as_str()).bind(ids.join(" ")).fetch_all(&mut *connection).await?;
    let unfinished = |finished_at: Option<i64>| before < i64::MAX && finished_at.is_none_or(|at| at >= before);
    let kept: HashSet<&str> = deliveries
        .iter()
        .filter(|(_, finished_at)| unfinished(*finished_at))
        .map(|(event, _)| event.as_str())
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| !kept.contains(id)).collect();
    for statement in OF_EVENTS {
        sqlx::query(statement).bind(tenant.as_str()).bind(ids.join(" ")).execute(&mut *connection).await?;
    }
    Ok(())
}

const EVENTS_OF_TENANT: Sql =
    locking!("SELECT id FROM events WHERE tenant_id = $1 AND created_at < $2 LIMIT $3", "FOR UPDATE SKIP LOCKED");
// Hosts that do so at the same time share the work.
pub(super) const OLD_EVENTS: Sql = locking!(
    "SELECT v.id FROM events v
     WHERE v.tenant_id = $1 AND v.created_at < $2 AND NOT EXISTS (
         SELECT 1 FROM deliveries d
         WHERE d.tenant_id = v.tenant_id AND d.event_id = v.id AND (d.finished_at IS NULL OR d.finished_at >= $2))
     ORDER BY v.created_at LIMIT $3",
    "FOR UPDATE OF v SKIP LOCKED"
);
const LOCK_OF_EVENTS: &str = "SELECT event_id, finished_at FROM deliveries
     WHERE tenant_id = $1 AND event_id = ANY(string_to_array($2, ' ')) FOR UPDATE";
/// What events own, then the events; on PostgreSQL.
const OF_EVENTS: [&str; 4] = [
    "DELETE FROM attempts WHERE tenant_id = $1 AND delivery_id = ANY(ARRAY(
         SELECT id FROM deliveries WHERE tenant_id = $1 AND event_id = ANY(string_to_array($2, ' '))))",
    "DELETE FROM plugin_runs WHERE tenant_id = $1 AND delivery_id = ANY(ARRAY(
         SELECT id FROM deliveries WHERE tenant_id = $1 AND event_id = ANY(string_to_array($2, ' '))))",
    "DELETE FROM deliveries WHERE tenant_id = $1 AND event_id = ANY(string_to_array($2, ' '))",
    "DELETE FROM events WHERE tenant_id = $1 AND id = ANY(string_to_array($2, ' '))",
];
/// One at a time, so that others get their turn to write in between.
const PART_OF_TENANT: &str = "DELETE FROM component_parts WHERE tenant_id = $1 AND (plugin, version, part) IN (
         SELECT plugin, version, part FROM component_parts WHERE tenant_id = $1 LIMIT 1)";
/// What an event owns, then the event.
pub(super) const OF_EVENT: [&str; 4] = [
    "DELETE FROM attempts WHERE tenant_id = $1 AND delivery_id IN (
         SELECT id FROM deliveries WHERE tenant_id = $1 AND event_id = $2)",
    "DELETE FROM plugin_runs WHERE tenant_id = $1 AND delivery_id IN (
         SELECT id FROM deliveries WHERE tenant_id = $1 AND event_id = $2)",
    "DELETE FROM deliveries WHERE tenant_id = $1 AND event_id = $2",
    "DELETE FROM events WHERE tenant_id = $1 AND id = $2",
];
/// What an endpoint's deliveries own, then the deliveries.
pub(super) const OF_ENDPOINT: [&str; 3] = [
    "DELETE FROM attempts WHERE tenant_id = $1 AND delivery_id IN (
         SELECT id FROM deliveries WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id LIMIT $3)",
    "DELETE FROM plugin_runs WHERE tenant_id = $1 AND delivery_id IN (
         SELECT id FROM deliveries WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id LIMIT $3)",
    "DELETE FROM deliveries WHERE tenant_id = $1 AND id IN (
         SELECT id FROM deliveries WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id LIMIT $3)",
];
