//! PostgreSQL plans by what it knows of its tables, and keeps a plan for as long as it knows nothing new. In a young database it learns of
//! the first rows after a minute: until then plans stay that were made for empty tables, where every index is as good as the right
//! one. Lookups by id went through all rows of a tenant, and who posted heard 503. So the first times it is told to look.

use std::time::Duration;

use super::database::Kind;
use super::{Store, StoreError};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// Rows of a table that is not young any more: the plans for it are right for larger ones, and autovacuum looks after it.
const GROWN: i64 = 10_000;
/// The table that grows fastest, next to those that are looked up by the same ids. It is looked at anew when its file has twice the pages
/// that it had last, and 16 at least.
const AGE: &str = "SELECT CAST(reltuples AS BIGINT), pg_relation_size(oid) / 8192 - 2 * GREATEST(relpages, 8)
     FROM pg_class WHERE oid = to_regclass('deliveries')";
const ANALYZE: &str = "ANALYZE events, deliveries, attempts";

impl Store {
    /// Has the tables analysed as they grow, until they are large; then, and on SQLite at once, nothing more, for ever.
    pub async fn watch_statistics(&self) {
        let mut young = self.kind == Kind::Postgres;
        while young {
            match self.analyse_growth().await {
                Ok(rows) => young = rows < GROWN,
                // Whoever writes says so if it is the database; one that only speaks PostgreSQL's protocol may plan otherwise.
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "cannot analyse the tables"),
            }
            tokio::time::sleep(PERIOD).await;
        }
        std::future::pending().await
    }

    /// Gives how many rows the planner knows of.
    async fn analyse_growth(&self) -> Result<i64, StoreError> {
        let analyse = async {
            let (rows, growth): (i64, i64) = sqlx::query_as(AGE).fetch_one(&self.read).await?;
            if rows < GROWN && growth >= 0 {
                sqlx::query(ANALYZE).execute(&self.write).await?;
            }
            Ok(rows)
        };
        self.within_long_limit(analyse).await
    }
}
