//! SQLite's write-ahead log is folded into the file beside the writer. Left to itself, SQLite does so within the commit that finds a
//! thousand pages in the log, and whoever posts or is delivered to meanwhile waits for it
//! (<https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files>).

use std::time::Duration;

use super::{Store, StoreError};

/// From a commit to the checkpoint after it.
const PERIOD: Duration = Duration::from_millis(250);
/// Pages of 4 KiB in the log after which a commit folds what is left to be folded: only then does the log begin anew.
pub(super) const LOG_PAGES: u32 = 10_000;

impl Store {
    /// Folds the log a while after commits, for ever; on PostgreSQL there is nothing to do.
    pub async fn keep_log_folded(&self) {
        loop {
            self.committed.notified().await;
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = self.fold_log().await {
                // Whoever writes notices as well, and says so.
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot fold the write-ahead log");
            }
        }
    }

    /// Folds what no reader still needs to find in the log. Waits for nobody, and nobody waits for it.
    pub(super) async fn fold_log(&self) -> Result<(), StoreError> {
        if let Some(connection) = &self.checkpoints {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_all(connection).await?;
        }
        Ok(())
    }
}
