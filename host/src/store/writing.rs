//! Whether the database takes writes: it may answer and take none, on a full disk or as a standby.
//!
//! Nobody looks as long as the writers get through. When one does not, a write of its own is tried at once, and again every second until it
//! succeeds. So whoever asks costs nothing, however often, and a host that is sent no more events finds out by itself that it may go on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Store, StoreError, database};

/// Between two tries.
const PERIOD: Duration = Duration::from_secs(1);
/// Bytes of a try, as of a large event: where there is no room for one any more, there may be for a few bytes.
const SIZE: usize = 64 * 1024;

/// What is known of it.
#[derive(Default)]
pub(super) struct Writing {
    /// A writer could not write, and nobody has looked into it yet.
    pub(super) doubted: Notify,
    /// Why the last try failed; `None`: it did not.
    trouble: Mutex<Option<&'static str>>,
}

impl Writing {
    fn trouble(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Why the database takes no writes, in an operator's words. `None`: it does, as far as is known.
    #[must_use]
    pub fn write_trouble(&self) -> Option<&'static str> {
        *self.writing.trouble()
    }

    /// Looks whether the database takes writes each time that a writer could not write, for ever.
    pub async fn watch_writing(&self) {
        loop {
            self.writing.doubted.notified().await;
            while let Err(error) = self.within_limit(self.try_to_write()).await {
                *self.writing.trouble() = Some(why(&error));
                tokio::time::sleep(PERIOD).await;
            }
            *self.writing.trouble() = None;
            // Whatever keeps the writers from writing then, it is not looked into oftener.
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn try_to_write(&self) -> Result<(), StoreError> {
        // Other bytes than before: a page that stays as it is SQLite does not write.
        let mut bytes = vec![0_u8; SIZE];
        rand::fill(&mut bytes[..]);
        sqlx::query("UPDATE installation SET probe = $1").bind(bytes).execute(&self.write).await?;
        Ok(())
    }
}

fn why(error: &StoreError) -> &'static str {
    let known = match error {
        StoreError::Unavailable(error) => database::trouble(error),
        StoreError::Unreadable { .. } => None,
    };
    known.unwrap_or("the log says why")
}
