//! The only user of sqlx: durable state on SQLite. Functions take and return domain types; rows stay here.
//!
//! All writes go through one connection, in turn: SQLite has one writer anyway, and its waiting line is fair where
//! SQLite's own lock is not. Events and attempts pass the group-commit writer, which commits many of them at once.

mod attachments;
mod batch;
mod catalog;
mod components;
mod deliveries;
mod endpoints;
mod event_types;
mod events;
mod failing;
mod group;
mod handover;
mod page;
mod plugin_runs;
mod plugins;
mod purge;
mod seal;
mod tenants;
#[cfg(test)]
mod tests;
mod tokens;
mod writer;

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::clock::Clock;
use crate::config::MasterKey;
use crate::domain::id::TenantId;

pub use attachments::{AttachError, TENANT_SETTINGS_LIMIT};
pub use batch::{Attempt, Finished};
use catalog::Catalog;
pub use deliveries::{AttemptRecord, DeliveryHistory, DeliveryRecord, Filter, NotRestartable};
pub use endpoints::{EndpointChange, Held, NewEndpoint};
pub use event_types::{EventTypeRecord, Retired};
pub use events::PastEvent;
pub use group::{AcceptError, Accepted, FAN_OUT_LIMIT};
pub use handover::Handover;
pub use page::{Cursor, InvalidCursor, Page, PageRequest};
pub use plugin_runs::{Output, PluginUsage, RunRecord};
pub use plugins::{PluginError, PluginRecord, VersionRecord};
pub use purge::Purged;
use seal::Sealer;
pub use tenants::Tenant;
pub use tokens::TokenRecord;
pub use writer::{Writer, WriterTask};

/// Connections of each of the two pools that read; each costs a thread and about 2 MiB of page cache.
const READERS: u32 = 3;
/// How long a request waits for its turn to write before it is told that we are busy.
const WRITE_TURN: Duration = Duration::from_secs(5);
/// Statements kept prepared on each connection: those of [`batch`] come in nine sizes.
const STATEMENTS: usize = 256;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// Something went wrong that the caller cannot mend by asking differently.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not do what it was told; nothing was changed. May pass.
    #[error("the database failed")]
    Unavailable(#[from] sqlx::Error),
    /// A stored value does not have the form we write.
    #[error("unreadable {column} of {table} {id}")]
    Unreadable {
        /// Where.
        table: &'static str,
        /// What.
        column: &'static str,
        /// Which row.
        id: String,
    },
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another host serves this file.
    #[error("{0} is in use by another revnoxa-host; one SQLite file serves one host")]
    InUse(PathBuf),
    /// The folder or the lock file cannot be made.
    #[error("cannot open {path}")]
    Folder {
        /// What could not be opened.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("cannot open the database {path}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot migrate the database")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database was made with another master key.
    #[error("`master_key` is not the key this database was made with")]
    WrongMasterKey,
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The open database.
pub struct Store {
    /// For what the host itself must know: tokens, endpoints, what is due.
    read: SqlitePool,
    /// For the lists and the history that callers browse: however long they take, the host goes on.
    browse: SqlitePool,
    write: SqlitePool,
    sealer: Sealer,
    catalog: Catalog,
    clock: Clock,
    /// Where deliveries wait for a worker.
    pub handover: Arc<Handover>,
    /// Held while this process serves the file.
    lock: Option<File>,
}

impl Store {
    /// Opens the database at `url`, brings its schema up to date and checks the master key.
    pub async fn open(url: &str, key: &MasterKey, clock: Clock, handover: Arc<Handover>) -> Result<Self, OpenError> {
        let path = PathBuf::from(url.trim_start_matches("sqlite://"));
        let failed = |source| OpenError::Database { path: path.clone(), source };
        make_file(&path)?;
        let options = SqliteConnectOptions::from_str("sqlite://")
            .map_err(failed)?
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL loses acknowledged events in a power cut; FULL costs next to nothing when commits are grouped.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(WRITE_TURN)
            .statement_cache_capacity(STATEMENTS);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(WRITE_TURN)
                .max_lifetime(None)
                .idle_timeout(None)
                .test_before_acquire(false)
        };
        let write = pool(1).connect_with(options.clone()).await.map_err(failed)?;
        MIGRATIONS.run(&write).await?;
        // The first migration wrote the planner's statistics, which a connection reads when it opens.
        sqlx::query("ANALYZE sqlite_schema").execute(&write).await.map_err(failed)?;
        let options = options.read_only(true);
        let read = pool(READERS).connect_with(options.clone()).await.map_err(failed)?;
        let browse = pool(READERS).connect_with(options).await.map_err(failed)?;
        let store = Self {
            read,
            browse,
            write,
            sealer: Sealer::new(key),
            catalog: Catalog::new(),
            clock,
            handover,
            lock: None,
        };
        store.check_master_key().await?;
        store.seed_event_types().await?;
        Ok(store)
    }

    /// As [`Store::open`], for the one process that delivers from this file: takes back what a process that died
    /// had leased.
    pub async fn open_to_serve(
        url: &str,
        key: &MasterKey,
        clock: Clock,
        handover: Arc<Handover>,
    ) -> Result<Self, OpenError> {
        let path = PathBuf::from(url.trim_start_matches("sqlite://"));
        let lock = lock(&path)?;
        let mut store = Self::open(url, key, clock, handover).await?;
        store.release_all_leases().await?;
        store.lock = Some(lock);
        Ok(store)
    }

    /// Writes and reads back nothing but proves that the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT one FROM installation").fetch_one(&self.read).await?;
        Ok(())
    }

    /// Closes all connections, which folds the write-ahead log into the file, and lets another process serve it.
    pub async fn close(&self) {
        self.read.close().await;
        self.browse.close().await;
        self.write.close().await;
        // Not left to the drop: a connection that is being closed may hold on to the store for a moment.
        if let Some(Err(error)) = self.lock.as_ref().map(File::unlock) {
            tracing::warn!(%error, "cannot release the lock file");
        }
    }

    async fn check_master_key(&self) -> Result<(), OpenError> {
        const PLACE: [&str; 1] = ["installation.key_check"];
        const TEXT: &[u8] = b"revnoxa";
        let mut tx = self.begin().await?;
        let sealed: Option<Vec<u8>> = sqlx::query_scalar("SELECT key_check FROM installation")
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::from)?;
        match sealed {
            Some(sealed) => match self.sealer.open(&PLACE, &sealed) {
                Some(text) if text == TEXT => Ok(()),
                _ => Err(OpenError::WrongMasterKey),
            },
            None => {
                sqlx::query("INSERT INTO installation (one, key_check, created_at) VALUES (1, $1, $2)")
                    .bind(self.sealer.seal(&PLACE, TEXT))
                    .bind(self.clock.now().as_millisecond())
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::from)?;
                Ok(tx.commit().await.map_err(StoreError::from)?)
            }
        }
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        // Deferred transactions that turn into writers hit SQLITE_BUSY without waiting.
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Begins a change to what the catalog caches of a tenant.
    async fn begin_change<'s>(&'s self, tenant: &'s TenantId) -> Result<Change<'s>, StoreError> {
        Ok(Change { tx: self.begin().await?, store: self, tenant })
    }
}

/// A transaction that changes a tenant's endpoints.
struct Change<'s> {
    tx: Transaction<'static, Sqlite>,
    store: &'s Store,
    tenant: &'s TenantId,
}

impl Change<'_> {
    fn on(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    /// Commits; after it nobody uses what was cached before.
    async fn commit(mut self) -> Result<(), StoreError> {
        let version: Option<i64> = sqlx::query_scalar(
            "UPDATE tenants SET endpoints_version = endpoints_version + 1 WHERE id = $1 RETURNING endpoints_version",
        )
        .bind(self.tenant.as_str())
        .fetch_optional(&mut *self.tx)
        .await?;
        // Before the commit: should our caller go away meanwhile, the change is made all the same.
        match version {
            Some(version) => self.store.catalog.require(self.tenant, version),
            None => self.store.catalog.forget(self.tenant),
        }
        let committed = self.tx.commit().await;
        if committed.is_err() {
            self.store.catalog.forget(self.tenant);
        }
        Ok(committed?)
    }
}

fn lock(database: &Path) -> Result<File, OpenError> {
    let path = database.with_extension("lock");
    let folder = |source| OpenError::Folder { path: path.clone(), source };
    make_folder(&path)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.to_owned())),
        Err(TryLockError::Error(source)) => Err(folder(source)),
    }
}

/// Payloads are nobody else's business: a file and a folder that we make are their owner's only.
fn make_file(path: &Path) -> Result<(), OpenError> {
    make_folder(path)?;
    let made = File::options().create(true).append(true).mode(0o600).open(path);
    made.map(drop).map_err(|source| OpenError::Folder { path: path.to_owned(), source })
}

fn make_folder(file: &Path) -> Result<(), OpenError> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| OpenError::Folder { path: folder.to_owned(), source })
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// Reads a column that holds what we once wrote in text form.
fn parsed<T: FromStr>(table: &'static str, column: &'static str, id: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| unreadable(table, column, id))
}

fn timestamp(table: &'static str, column: &'static str, id: &str, millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| unreadable(table, column, id))
}

fn unreadable(table: &'static str, column: &'static str, id: &str) -> StoreError {
    StoreError::Unreadable { table, column, id: id.to_owned() }
}
