//! What waits, for operators to see: deliveries due in the table, those in the lanes, and connections that are busy.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use metrics::gauge;

use super::{Store, StoreError, millis, timestamp};

/// Between two counts, at least; and so many times as long as one takes, so that it costs little however much waits.
const PERIOD: SignedDuration = SignedDuration::from_secs(5);
const TIMES: i32 = 50;

pub(super) const BACKLOG: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(due), 0) AS BIGINT), MIN(oldest) FROM (
         SELECT (SELECT MIN(d.claimable_at) FROM deliveries d
                 WHERE d.tenant_id = e.tenant_id AND d.endpoint_id = e.id AND d.state = 'pending'
                   AND d.claimable_at <= $1) AS oldest,
                (SELECT COUNT(*) FROM (
                     SELECT 1 FROM deliveries d
                     WHERE d.tenant_id = e.tenant_id AND d.endpoint_id = e.id AND d.state = 'pending'
                       AND d.claimable_at <= $1
                     LIMIT 1000) AS counted) AS due
         FROM endpoints e WHERE e.state = 'active') AS backlogs
     WHERE oldest IS NOT NULL";

/// Deliveries to active endpoints that are due and that no host has leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Endpoints that have some.
    pub endpoints: u64,
    /// All of them, but no more than 1,000 of one endpoint.
    pub deliveries: u64,
    /// Since when the oldest is due; `None`: there are none.
    pub oldest: Option<Timestamp>,
}

impl Store {
    /// What is due now.
    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        let now = millis(self.clock.now());
        let row = async {
            let row: (i64, i64, Option<i64>) = sqlx::query_as(BACKLOG).bind(now).fetch_one(&self.browse).await?;
            Ok(row)
        };
        let (endpoints, deliveries, oldest) = self.within_long_limit(row).await?;
        Ok(Backlog {
            endpoints: endpoints.unsigned_abs(),
            deliveries: deliveries.unsigned_abs(),
            oldest: oldest.map(|at| timestamp("deliveries", "claimable_at", "", at)).transpose()?,
        })
    }

    /// Keeps the metrics of what is due, for ever.
    pub async fn watch_backlog(&self) {
        loop {
            let (now, began) = (self.clock.now(), Instant::now());
            match self.backlog().await {
                Ok(backlog) => {
                    let oldest = backlog.oldest.map_or(SignedDuration::ZERO, |oldest| now.duration_since(oldest));
                    gauge!("revnoxa_endpoints_with_due_deliveries").set(backlog.endpoints as f64);
                    gauge!("revnoxa_deliveries_due").set(backlog.deliveries as f64);
                    gauge!("revnoxa_deliveries_oldest_due_seconds").set(oldest.as_secs_f64().max(0.0));
                }
                // Whoever looks for due deliveries to attempt has said so already.
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "cannot count what is due"),
            }
            let took = SignedDuration::try_from(began.elapsed()).unwrap_or(PERIOD);
            let next = now.saturating_add(PERIOD.max(took * TIMES)).unwrap_or(Timestamp::MAX);
            self.clock.sleep_until(next).await;
        }
    }

    /// Brings the metrics up to date that are only known when one looks.
    pub fn observe(&self) {
        let load = self.handover.lanes().load();
        gauge!("revnoxa_deliveries_leased_waiting").set(load.waiting as f64);
        gauge!("revnoxa_attempts_running").set(load.running as f64);
        gauge!("revnoxa_attempts_running_limit").set(load.limit as f64);
        for (name, pool) in [("read", &self.read), ("browse", &self.browse), ("write", &self.write)] {
            let (open, idle) = (pool.size() as usize, pool.num_idle());
            gauge!("revnoxa_database_connections", "pool" => name, "state" => "idle").set(idle as f64);
            gauge!("revnoxa_database_connections", "pool" => name, "state" => "busy")
                .set(open.saturating_sub(idle) as f64);
        }
    }
}
