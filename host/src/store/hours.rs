//! What attempts came to, by endpoint and hour: what lists and charts show without reading the history.
//!
//! Not written with the attempts: writers that commit at the same time would wait for each other's rows. After a commit its
//! attempts are counted in memory, and once a second the counts are added to the table, outside of every writer's way. A host
//! that dies loses those of a second. A write that failed is tried again; where the database had taken it and could not say so,
//! they are in it twice. Deliveries and the history know nothing of either.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::batch::Finished;
use super::database::Kind;
use super::purge::Purged;
use super::sized::Sized;
use super::{Store, StoreError, millis, parsed, timestamp, unreadable};
use crate::domain::hour::{self, Counts, Durations, Hour};
use crate::domain::id::{EndpointId, TenantId};

/// Hours of endpoints with counts that are not written yet at most; of further ones nothing is counted until they are.
pub(super) const UNWRITTEN: usize = 100_000;
/// Hours written in one transaction on SQLite, so that others get their turn to write in between.
const CHUNK: usize = 64;
/// On PostgreSQL others write meanwhile, and each transaction takes its time.
const LARGE_CHUNK: usize = 1_024;
/// Between two writes.
const PERIOD: Duration = Duration::from_secs(1);

/// What became of the attempts at one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those answered 2xx.
    pub succeeded: u64,
    /// All others.
    pub failed: u64,
}

pub(super) const OF_ENDPOINT: &str =
    "SELECT hour, succeeded, failed, ms_10, ms_30, ms_100, ms_300, ms_1000, ms_3000, ms_more FROM endpoint_hours
     WHERE tenant_id = $1 AND endpoint_id = $2 AND hour >= $3 ORDER BY hour";
pub(super) const TOTALS: &str =
    "SELECT endpoint_id, CAST(SUM(succeeded) AS BIGINT), CAST(SUM(failed) AS BIGINT) FROM endpoint_hours
     WHERE tenant_id = $1 AND endpoint_id >= $2 AND endpoint_id <= $3 AND hour >= $4 GROUP BY endpoint_id";
/// One hour at a time, so that others get their turn to write in between.
pub(super) const OLDEST: &str = "DELETE FROM endpoint_hours
     WHERE tenant_id = $1 AND hour = (SELECT MIN(hour) FROM endpoint_hours WHERE tenant_id = $1 AND hour < $2)";

impl Store {
    /// What the attempts at this endpoint came to, by the hour they began in: those that have any, oldest first, from the hour
    /// that `since` is in. As written up to now: what the last second brought may be missing.
    pub async fn hours_of_endpoint(
        &self,
        tenant: &TenantId,
        endpoint: EndpointId,
        since: Timestamp,
    ) -> Result<Vec<Hour>, StoreError> {
        type Row = (i64, i64, i64, i64, i64, i64, i64, i64, i64, i64);
        let id = endpoint.to_string();
        let rows: Vec<Row> = sqlx::query_as(OF_ENDPOINT)
            .bind(tenant.as_str())
            .bind(&id)
            .bind(hour::hour_of(since))
            .fetch_all(&self.browse)
            .await?;
        let number = |number: i64| number_of(number, &id);
        let hour = |(start, succeeded, failed, a, b, c, d, e, f, g): Row| {
            let mut durations = Durations::default();
            for (to, from) in durations.0.iter_mut().zip([a, b, c, d, e, f, g]) {
                *to = number(from)?;
            }
            let counts = Counts { succeeded: number(succeeded)?, failed: number(failed)?, durations };
            Ok(Hour { start: timestamp("endpoint_hours", "hour", &id, start)?, counts })
        };
        rows.into_iter().map(hour).collect()
    }

    /// What became of the attempts at each endpoint from `first` to `last`, in the order of their ids, that began in the hour
    /// that `since` is in, or later. As written up to now; endpoints without any are left out.
    pub async fn totals(
        &self,
        tenant: &TenantId,
        first: EndpointId,
        last: EndpointId,
        since: Timestamp,
    ) -> Result<HashMap<EndpointId, Totals>, StoreError> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(TOTALS)
            .bind(tenant.as_str())
            .bind(first.to_string())
            .bind(last.to_string())
            .bind(hour::hour_of(since))
            .fetch_all(&self.browse)
            .await?;
        let totals = |(id, succeeded, failed): (String, i64, i64)| {
            let totals = Totals { succeeded: number_of(succeeded, &id)?, failed: number_of(failed, &id)? };
            Ok((parsed("endpoint_hours", "endpoint_id", &id, &id)?, totals))
        };
        rows.into_iter().map(totals).collect()
    }

    /// Writes what is counted once a second, until `stop`. What comes later is for [`Store::write_hours`].
    pub async fn keep_hours(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.unwritten.next()).await.is_some() {
            if let Err(error) = self.write_hours().await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot write the hourly counts of attempts");
            }
        }
    }

    /// Writes what is counted. After an error the rest of it waits for the next try.
    pub async fn write_hours(&self) -> Result<(), StoreError> {
        let mut counted = self.unwritten.take();
        let (mut written, mut result) = (0, Ok(()));
        let at_once = match self.kind {
            Kind::Sqlite => CHUNK,
            Kind::Postgres => LARGE_CHUNK,
        };
        for chunk in counted.chunks(at_once) {
            result = self.within_limit(self.add_hours(chunk)).await;
            if result.is_err() {
                break;
            }
            written += chunk.len();
        }
        self.unwritten.put_back(counted.split_off(written));
        result
    }

    /// Deletes a tenant's oldest hour, if it is before `before`.
    pub async fn purge_oldest_hour(&self, tenant: &TenantId, before: Timestamp) -> Result<Purged, StoreError> {
        let deleted =
            sqlx::query(OLDEST).bind(tenant.as_str()).bind(millis(before)).execute(&self.write).await?.rows_affected();
        Ok(if deleted == 0 { Purged::Nothing } else { Purged::Some(deleted) })
    }

    /// Tenants that have hours older than `before`.
    pub async fn tenants_with_old_hours(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT t.id FROM tenants t
             WHERE EXISTS (SELECT 1 FROM endpoint_hours h WHERE h.tenant_id = t.id AND h.hour < $1)",
        )
        .bind(millis(before))
        .fetch_all(&self.read)
        .await?;
        ids.iter().map(|id| parsed("tenants", "id", id, id)).collect()
    }

    /// Adds to the hours of endpoints that still exist.
    async fn add_hours(&self, counted: &[Counted]) -> Result<(), StoreError> {
        static UPSERT: LazyLock<Sized> = LazyLock::new(|| {
            const COLUMNS: [&str; 9] =
                ["succeeded", "failed", "ms_10", "ms_30", "ms_100", "ms_300", "ms_1000", "ms_3000", "ms_more"];
            let sum = |column: &str| format!("{column} = endpoint_hours.{column} + excluded.{column}");
            let head = format!(
                "INSERT INTO endpoint_hours (tenant_id, endpoint_id, hour, {}) SELECT v.* FROM (VALUES",
                COLUMNS.join(", ")
            );
            let tail = format!(
                ") AS v WHERE EXISTS (
                     SELECT 1 FROM endpoints e
                     WHERE e.tenant_id = v.column1 AND e.id = v.column2 AND e.deleted_at IS NULL)
                 ON CONFLICT (tenant_id, endpoint_id, hour) DO UPDATE SET {}",
                COLUMNS.map(sum).join(", ")
            );
            Sized::new(&head, 3 + COLUMNS.len(), &tail)
        });
        let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        // As a group does: whoever purges an endpoint waits for those that may not have seen its deletion.
        let mut tx = self.write.begin_with(self.kind.begin_group()).await?;
        for (mut query, counted) in UPSERT.over(self.kind, counted) {
            for Counted { tenant, endpoint, hour, counts } in counted {
                query = query
                    .bind(tenant.to_string())
                    .bind(endpoint.to_string())
                    .bind(*hour)
                    .bind(integer(counts.succeeded))
                    .bind(integer(counts.failed));
                for count in counts.durations.0 {
                    query = query.bind(integer(count));
                }
            }
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Counts that are not in the table yet.
#[derive(Default)]
pub(super) struct Unwritten {
    /// By endpoint and hour; the tenant goes along.
    counts: Mutex<HashMap<(EndpointId, i64), (TenantId, Counts)>>,
    /// The bound was met, and that was said.
    full: AtomicBool,
    wake: Notify,
}

/// One row to add.
pub(super) struct Counted {
    tenant: TenantId,
    endpoint: EndpointId,
    pub(super) hour: i64,
    pub(super) counts: Counts,
}

impl Unwritten {
    /// Counts the attempts among these, which were recorded just now.
    pub(super) fn count<'f>(&self, recorded: impl Iterator<Item = &'f Finished>) {
        let attempts = recorded.filter_map(|finished| Some((&finished.leased, finished.attempt.as_ref()?)));
        let (mut any, mut dropped) = (false, false);
        let mut counts = self.counts();
        for (leased, attempt) in attempts {
            let key = (leased.endpoint, hour::hour_of(attempt.started_at));
            match find(&mut counts, key, &leased.tenant) {
                Some(counts) => counts.count(&attempt.outcome),
                None => dropped = true,
            }
            any = true;
        }
        drop(counts);
        if any {
            self.wake.notify_one();
        }
        if dropped {
            self.tell_full();
        }
    }

    /// Waits until something is counted, and then as long as it may grow.
    async fn next(&self) {
        self.wake.notified().await;
        tokio::time::sleep(PERIOD).await;
    }

    /// All of it, in the order of the table's keys: two hosts that add to the same rows must not wait for each other.
    pub(super) fn take(&self) -> Vec<Counted> {
        let counts = std::mem::take(&mut *self.counts());
        let counted = |((endpoint, hour), (tenant, counts))| Counted { tenant, endpoint, hour, counts };
        let mut counted: Vec<Counted> = counts.into_iter().map(counted).collect();
        counted.sort_unstable_by(|a, b| (&a.tenant, a.endpoint, a.hour).cmp(&(&b.tenant, b.endpoint, b.hour)));
        counted
    }

    /// After a write: adds what it left to what came meanwhile.
    pub(super) fn put_back(&self, left: Vec<Counted>) {
        if left.is_empty() {
            self.full.store(false, Ordering::Relaxed);
            return;
        }
        let mut dropped = false;
        let mut counts = self.counts();
        for Counted { tenant, endpoint, hour, counts: more } in left {
            match find(&mut counts, (endpoint, hour), &tenant) {
                Some(counts) => *counts += more,
                None => dropped = true,
            }
        }
        drop(counts);
        self.wake.notify_one();
        if dropped {
            self.tell_full();
        }
    }

    /// Once, until all could be written.
    fn tell_full(&self) {
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(limit = UNWRITTEN, "attempts are missing from the hourly counts until those can be written");
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<(EndpointId, i64), (TenantId, Counts)>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where to count; `None`: there is no room for another hour.
fn find<'c>(
    counts: &'c mut HashMap<(EndpointId, i64), (TenantId, Counts)>,
    key: (EndpointId, i64),
    tenant: &TenantId,
) -> Option<&'c mut Counts> {
    let room = counts.len() < UNWRITTEN;
    match counts.entry(key) {
        Entry::Occupied(known) => Some(&mut known.into_mut().1),
        Entry::Vacant(new) => room.then(|| &mut new.insert((tenant.clone(), Counts::default())).1),
    }
}

fn number_of(number: i64, id: &str) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| unreadable("endpoint_hours", "one of the counts", id))
}
