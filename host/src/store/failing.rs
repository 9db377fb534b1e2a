//! Endpoints that fail: since when, and when that is too long.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use sqlx::SqliteConnection;

use super::batch::{self, Finished};
use super::{StoreError, parsed};
use crate::domain::id::TenantId;
use crate::domain::outcome::{Outcome, SendError};

/// Keeps account of who fails since when, and disables who failed too long or is gone. Gives the new
/// `endpoints_version` of each tenant concerned.
pub(super) async fn judge(
    connection: &mut SqliteConnection,
    finished: &[&Finished],
    now: Timestamp,
    disable_after: SignedDuration,
) -> Result<Vec<(TenantId, i64)>, StoreError> {
    let key = |finished: &Finished| (finished.leased.tenant.to_string(), finished.leased.endpoint.to_string());
    let (mut good, mut bad, mut gone) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (finished, outcome) in finished.iter().filter_map(|finished| Some((finished, asked(finished)?))) {
        if outcome.succeeded() {
            good.insert(key(finished));
        } else {
            bad.insert(key(finished));
        }
        if finished.gone {
            gone.insert(key(finished));
        }
    }
    bad.retain(|endpoint| !good.contains(endpoint));
    batch::clear_failing(connection, &good.into_iter().collect::<Vec<_>>()).await?;

    let too_long = now.saturating_sub(disable_after).unwrap_or(Timestamp::MIN).as_millisecond();
    let mut disabled = Vec::new();
    for (tenant, endpoint) in bad.union(&gone) {
        let is_gone = gone.contains(&(tenant.clone(), endpoint.clone()));
        let failing_since: Option<i64> = sqlx::query_scalar(
            "UPDATE endpoints SET failing_since = COALESCE(failing_since, $3)
             WHERE tenant_id = $1 AND id = $2 AND state = 'active' RETURNING failing_since",
        )
        .bind(tenant)
        .bind(endpoint)
        .bind(now.as_millisecond())
        .fetch_optional(&mut *connection)
        .await?;
        let Some(failing_since) = failing_since else { continue };
        let reason = if is_gone {
            "the receiver answered 410 Gone".to_owned()
        } else if failing_since <= too_long {
            format!("every attempt failed for {}", days_and_hours(disable_after))
        } else {
            continue;
        };
        sqlx::query("UPDATE endpoints SET state = 'disabled', state_reason = $3 WHERE tenant_id = $1 AND id = $2")
            .bind(tenant)
            .bind(endpoint)
            .bind(reason)
            .execute(&mut *connection)
            .await?;
        let version: i64 = sqlx::query_scalar(
            "UPDATE tenants SET endpoints_version = endpoints_version + 1 WHERE id = $1 RETURNING endpoints_version",
        )
        .bind(tenant)
        .fetch_one(&mut *connection)
        .await?;
        disabled.push((parsed("endpoints", "tenant_id", endpoint, tenant)?, version));
    }
    Ok(disabled)
}

/// What came of asking the receiver for an event; `None`: it was not asked, or for a test.
fn asked(finished: &Finished) -> Option<&Outcome> {
    let outcome = &finished.attempt.as_ref()?.outcome;
    let by_plugin = matches!(outcome.result, Err(SendError::Plugin(_)));
    (!by_plugin && !finished.leased.event_type.is_test()).then_some(outcome)
}

fn days_and_hours(duration: SignedDuration) -> String {
    match duration.as_hours() {
        0 => format!("{} minutes", duration.as_mins()),
        hours if hours % 24 == 0 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}
