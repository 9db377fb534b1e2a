//! The only user of sqlx and rusqlite: durable state on SQLite or PostgreSQL. Functions take and return domain types; rows stay here.
//!
//! Each statement has one text for both databases, but for the few that `database`, `batch`, `claims`, `rows` and `direct` have
//! twice. Events and attempts pass the group-commit writers, each of which commits many of them at once: one on SQLite, where all
//! writes go through one connection in turn, several on PostgreSQL.

mod attachments;
mod backlog;
mod backup;
mod batch;
mod catalog;
mod claims;
mod components;
mod database;
mod deliveries;
mod direct;
mod endpoints;
mod event_types;
mod events;
mod failing;
mod file;
mod group;
mod handover;
mod hours;
mod last_attempts;
mod leases;
mod moving;
mod page;
mod peers;
mod plugin_runs;
mod plugins;
mod purge;
mod rekey;
mod rows;
mod seal;
mod sessions;
mod sized;
mod statistics;
mod tenants;
#[cfg(test)]
mod tests;
mod tokens;
mod writer;
mod writing;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Any, AnyConnection, AnyPool, Transaction};

use crate::clock::Clock;
use crate::config::{KeyId, MasterKeys};
use crate::domain::id::TenantId;

pub use attachments::{AttachError, TENANT_SETTINGS_LIMIT};
pub use backlog::Backlog;
pub use backup::{BackupError, back_up};
pub use batch::{Attempt, Finished};
use catalog::Catalog;
use database::{Database, Kind, PASS_WRITERS};
pub use deliveries::{AttemptRecord, DeliveryHistory, DeliveryRecord, Filter, NotRestartable};
use direct::Direct;
pub use endpoints::{EndpointChange, Held, NewEndpoint};
pub use event_types::{EventTypeRecord, Retired};
pub use events::PastEvent;
use failing::Notes;
use file::Lock;
pub use group::{AcceptError, Accepted, FAN_OUT_LIMIT};
pub use handover::{Handover, Turn};
pub use hours::Totals;
use hours::Unwritten;
pub use last_attempts::LastAttempt;
pub use leases::{Lease, LeaseGuard, Leases};
pub use moving::{Move, MoveError};
pub use page::{Cursor, InvalidCursor, Page, PageRequest};
use peers::Peers;
pub use peers::SKEW_LIMIT;
pub use plugin_runs::{Output, PluginUsage, RunRecord};
pub use plugins::{PluginError, PluginRecord, VersionRecord};
pub use purge::Purged;
pub use rekey::{RekeyError, Rekeyed};
use seal::Sealer;
pub use tenants::Tenant;
pub use tokens::TokenRecord;
pub use writer::{Writer, WriterTask};
use writing::Writing;

/// How long PostgreSQL has for what others wait for.
const LIMIT: Duration = Duration::from_millis(1_500);
/// The same for what nobody waits for.
const LONG_LIMIT: Duration = Duration::from_secs(20);

/// Something went wrong that the caller cannot mend by asking differently.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not do what it was told; nothing was changed. May pass. Says why itself: logs show no sources.
    #[error("{trouble}: {0}", trouble = database::trouble(.0).unwrap_or("the database failed"))]
    Unavailable(sqlx::Error),
    /// A stored value does not have the form we write.
    #[error("unreadable {column} of {table} {id}{}", missing(.key))]
    Unreadable {
        /// Where.
        table: &'static str,
        /// What.
        column: &'static str,
        /// Which row.
        id: String,
        /// The master key that it is sealed under and that is not configured; `None`: that is not what is wrong, or not known.
        key: Option<KeyId>,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}

impl StoreError {
    /// Another transaction came in between: the same again may well succeed.
    fn is_conflict(&self) -> bool {
        let Self::Unavailable(sqlx::Error::Database(error)) = self else { return false };
        // Unique violation, serialization failure, deadlock (https://www.postgresql.org/docs/current/errcodes-appendix.html).
        error.code().is_some_and(|code| ["23505", "40001", "40P01"].contains(&&*code))
    }
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
    /// The file is empty or gone, and should not be.
    #[error(
        "{path} was served and is empty or gone; put a backup in its place, or delete {lock} as well to begin anew"
    )]
    Emptied {
        /// The file.
        path: PathBuf,
        /// What says so.
        lock: PathBuf,
    },
    /// The database says no.
    #[error("cannot open the database {place}: {trouble}", trouble = database::trouble(.source).unwrap_or("it does not do what it is told"))]
    Database {
        /// Its file, or its host and name.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date. It is as it was, or some migrations further; the next start goes on.
    #[error("cannot bring the schema of the database {place} up to date")]
    Migrate {
        /// As in `Database`.
        place: String,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// Its schema has migrations that this program does not know.
    #[error("the database {0} belongs to a newer revnoxa-host")]
    Newer(String),
    /// Values are sealed under another master key.
    #[error(
        "`master_key` is not the key of this database{}; where it is to replace that key, give that in `previous_master_keys`",
        missing(.0)
    )]
    WrongMasterKey(Option<KeyId>),
    /// Some values are still sealed under a master key that was replaced.
    #[error(
        "some values of this database are still sealed under the master key before{}; give that in `previous_master_keys` until `revnoxa-host rekey` is through",
        missing(.0)
    )]
    MissingMasterKey(Option<KeyId>),
    /// It was moved away, or is being moved.
    #[error("this database was moved to PostgreSQL, or is being moved; `revnoxa-host move --give-up` takes it back")]
    MovedAway,
    /// A move to here is not through.
    #[error("a move into this database is not through; finish it with `revnoxa-host move`")]
    MovingHere,
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Names the database that a statement failed on.
    fn on(self, url: &str) -> Self {
        match self {
            Self::Store(StoreError::Unavailable(source)) => Self::Database { place: database::place(url), source },
            other => other,
        }
    }
}

/// The open database.
pub struct Store {
    kind: Kind,
    /// As in [`Database`].
    read: AnyPool,
    browse: AnyPool,
    write: AnyPool,
    direct: Option<Direct>,
    sealer: Sealer,
    catalog: Catalog,
    peers: Peers,
    unwritten: Unwritten,
    notes: Notes,
    writing: Writing,
    clock: Clock,
    /// Where deliveries wait for a worker.
    pub handover: Arc<Handover>,
    /// Held while this process serves the file.
    lock: Option<Lock>,
}

impl Store {
    /// Opens the database at `url`, brings its schema up to date and checks the master keys.
    pub async fn open(url: &str, keys: &MasterKeys, clock: Clock, handover: Arc<Handover>) -> Result<Self, OpenError> {
        let store = Self::over(Database::open(url, &keys.ids()).await?, keys, clock, handover);
        store.prepare().await.map_err(|error| error.on(url))?;
        Ok(store)
    }

    fn over(database: Database, keys: &MasterKeys, clock: Clock, handover: Arc<Handover>) -> Self {
        Self {
            kind: database.kind,
            read: database.read,
            browse: database.browse,
            write: database.write,
            direct: database.direct,
            sealer: Sealer::new(keys),
            catalog: Catalog::new(database.kind),
            peers: Peers::default(),
            unwritten: Unwritten::default(),
            notes: Notes::default(),
            writing: Writing::default(),
            clock,
            handover,
            lock: None,
        }
    }

    /// As [`Store::open`], to deliver from this database. On SQLite that is one process at a time, which takes back what one
    /// that died had leased; on PostgreSQL others may, and leases run out.
    pub async fn open_to_serve(
        url: &str,
        keys: &MasterKeys,
        clock: Clock,
        handover: Arc<Handover>,
    ) -> Result<Self, OpenError> {
        let lock = database::lock(url)?;
        if let Some(lock) = &lock {
            lock.leave_note(&keys.ids());
        }
        let mut store = Self::open(url, keys, clock, handover).await?;
        store.check_not_moving().await.map_err(|error| error.on(url))?;
        store.remind_of_rekey().await.map_err(|error| error.on(url))?;
        if let Some(lock) = &lock {
            let took_over = async {
                store.release_all_leases().await?;
                store.complete_events().await
            };
            took_over.await.map_err(|error: StoreError| OpenError::from(error).on(url))?;
            lock.note_served()?;
        }
        store.lock = lock;
        Ok(store)
    }

    /// The time that rows are written with.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Before what belongs to something deleted is purged: waits until no writer that has not seen the deletion can add to it.
    async fn pass_writers(&self) -> Result<(), StoreError> {
        if self.kind == Kind::Postgres {
            let mut tx = self.begin().await?;
            sqlx::query(PASS_WRITERS).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Writes and reads back nothing but proves that the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let ping = async { Ok(sqlx::query("SELECT one FROM installation").fetch_one(&self.read).await.map(drop)?) };
        self.within_limit(ping).await
    }

    /// Closes all connections, which folds the write-ahead log into the file, and lets another process serve it.
    pub async fn close(&self) {
        if let Some(direct) = &self.direct {
            direct.close();
        }
        self.read.close().await;
        self.browse.close().await;
        self.write.close().await;
        // Not left to the drop: a connection that is being closed may hold on to the store for a moment.
        if let Some(Err(error)) = self.lock.as_ref().map(Lock::release) {
            tracing::warn!(%error, "cannot release the lock file");
        }
    }

    async fn prepare(&self) -> Result<(), OpenError> {
        if self.kind == Kind::Postgres {
            self.compare_clocks().await?;
        }
        self.check_master_keys().await?;
        Ok(self.seed_event_types().await?)
    }

    async fn check_not_moving(&self) -> Result<(), OpenError> {
        let moving: Option<String> = sqlx::query_scalar("SELECT moving FROM installation")
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::from)?;
        match (moving, self.kind) {
            (None, _) => Ok(()),
            (Some(_), Kind::Sqlite) => Err(OpenError::MovedAway),
            (Some(_), Kind::Postgres) => Err(OpenError::MovingHere),
        }
    }

    /// How long those who post events wait for an answer; after it, they are told that it is not known.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self.kind {
            Kind::Sqlite => Duration::from_secs(5),
            Kind::Postgres => Duration::from_millis(1_800),
        }
    }

    /// Bounds what waits for the network. A SQLite file may be slow, but it is here.
    async fn within_limit<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.within(LIMIT, work).await
    }

    /// As [`Store::within_limit`], for what reads much and nobody waits for.
    async fn within_long_limit<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.within(LONG_LIMIT, work).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.kind == Kind::Sqlite {
            return work.await;
        }
        let timed_out = |_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into());
        tokio::time::timeout(limit, work).await.unwrap_or_else(timed_out)
    }

    async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        Ok(self.write.begin_with(self.kind.begin()).await?)
    }

    /// Begins a change to what a tenant owns, one at a time, as all changes are on SQLite.
    async fn begin_for(&self, tenant: &TenantId) -> Result<Transaction<'static, Any>, StoreError> {
        let mut tx = self.begin().await?;
        if self.kind == Kind::Postgres {
            sqlx::query("SELECT 1 FROM tenants WHERE id = $1 FOR UPDATE")
                .bind(tenant.as_str())
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx)
    }

    /// Begins a change to what the catalog caches of a tenant, one at a time.
    async fn begin_change<'s>(&'s self, tenant: &'s TenantId) -> Result<Change<'s>, StoreError> {
        let mut tx = self.begin().await?;
        let version = sqlx::query_scalar(
            "UPDATE tenants SET endpoints_version = endpoints_version + 1 WHERE id = $1 RETURNING endpoints_version",
        )
        .bind(tenant.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        Ok(Change { tx, store: self, tenant, version })
    }
}

/// A transaction that changes a tenant's endpoints.
struct Change<'s> {
    tx: Transaction<'static, Any>,
    store: &'s Store,
    tenant: &'s TenantId,
    /// After the change; `None`: there is no such tenant.
    version: Option<i64>,
}

impl Change<'_> {
    fn on(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }

    /// Commits; after it nobody on this host uses what was cached before.
    async fn commit(self) -> Result<(), StoreError> {
        // Before the commit: should our caller go away meanwhile, the change is made all the same.
        match self.version {
            Some(version) => self.store.catalog.require(self.tenant, version),
            None => self.store.catalog.forget(self.tenant),
        }
        let committed = self.tx.commit().await;
        if committed.is_err() {
            self.store.catalog.forget(self.tenant);
        }
        Ok(committed?)
    }

    /// Commits; after it nobody on any host uses what was cached before.
    async fn commit_for_all(self) -> Result<(), StoreError> {
        let catalog = &self.store.catalog;
        self.commit().await?;
        catalog.wait_for_others().await;
        Ok(())
    }
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
    StoreError::Unreadable { table, column, id: id.to_owned(), key: None }
}

/// What an error says of a key that is missing.
fn missing(key: &Option<KeyId>) -> String {
    key.map_or_else(String::new, |key| format!(": it is sealed under the master key {key}, which is not configured"))
}
