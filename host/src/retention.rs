//! Deletes what is too old, and finishes deletions that a stop interrupted, in small batches.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{Purged, Store, StoreError};
use crate::telemetry::METRICS;

/// Between two looks.
const PERIOD: SignedDuration = SignedDuration::from_mins(10);
/// How long hourly counts of attempts are kept: a week of them is shown, whole.
const HOURS_KEPT: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Between two batches, so that deliveries get their turn to write.
const BREATH: Duration = Duration::from_millis(20);

/// Looks now and every ten minutes, until `soft`.
pub async fn run(store: Arc<Store>, clock: Clock, retention: Duration, soft: CancellationToken) {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    loop {
        let now = clock.now();
        let look = async {
            if let Err(error) = finish_deletions(&store).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot finish a deletion");
            }
            if let Err(error) = purge(&store, now.saturating_sub(retention).unwrap_or(Timestamp::MIN)).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot delete old events");
            }
            if let Err(error) = purge_hours(&store, now.saturating_sub(HOURS_KEPT).unwrap_or(Timestamp::MIN)).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot delete old hourly counts of attempts"
                );
            }
            if let Err(error) = store.sweep_components(now).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot delete components without a version");
            }
            if let Err(error) = store.sweep_sessions(now).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot delete expired sessions");
            }
            clock.sleep_until(now.saturating_add(PERIOD).unwrap_or(Timestamp::MAX)).await;
        };
        tokio::select! {
            () = soft.cancelled() => return,
            () = look => {}
        }
    }
}

async fn finish_deletions(store: &Store) -> Result<(), StoreError> {
    let (tenants, endpoints) = store.half_deleted().await?;
    for (tenant, endpoint) in endpoints {
        store.purge_endpoint(&tenant, endpoint).await?;
    }
    for tenant in tenants {
        store.purge_tenant(&tenant).await?;
    }
    Ok(())
}

async fn purge(store: &Store, before: Timestamp) -> Result<(), StoreError> {
    for tenant in store.tenants_with_old_events(before).await? {
        while let Purged::Some(events) = store.purge_old_events(&tenant, before).await? {
            METRICS.purged_events.increment(events);
            tracing::debug!(tenant.id = %tenant, events, "deleted old events");
            tokio::time::sleep(BREATH).await;
        }
    }
    Ok(())
}

async fn purge_hours(store: &Store, before: Timestamp) -> Result<(), StoreError> {
    for tenant in store.tenants_with_old_hours(before).await? {
        while store.purge_oldest_hour(&tenant, before).await? != Purged::Nothing {
            tokio::time::sleep(BREATH).await;
        }
    }
    Ok(())
}
