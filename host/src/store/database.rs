//! The two databases: how each is opened, and the little they do differently.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnectionMetadata;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection};
use url::Url;

use super::OpenError;
use super::direct::Direct;
use super::file::{self, Lock};

/// Connections of each of the two pools that read. On SQLite each costs a thread and about 2 MiB of page cache.
const READERS: u32 = 3;
/// Group-commit writers on PostgreSQL; more gain nothing on one server.
const WRITERS: u32 = 4;
/// Connections for all other changes on PostgreSQL.
const CHANGERS: u32 = 4;
/// How long a request waits for a connection of SQLite, where writers take turns, before it is told that we are busy.
const TURN: Duration = Duration::from_secs(5);
/// The same on PostgreSQL, where it waits for the network as well.
const CONNECT: Duration = Duration::from_millis(1_500);
/// How often a start waits that long for its first connection.
const STARTS: u32 = 4;
/// Between two tries of a start that finds another command making the same file.
const BREATH: Duration = Duration::from_millis(20);
/// How long a connection has for its answer when it leaves its pool and when it goes back; one that hangs is closed. Leaves
/// time for a new one within [`CONNECT`].
const ANSWER: Duration = Duration::from_millis(700);
/// Pages that SQLite's write-ahead log has when it is folded into the file, which all that write wait for: at 500 events a second
/// one in a hundred waited 10 ms with the one and 23 ms with the other; at full load the other saves a tenth of all work.
pub(super) const FOLD_OFTEN: u32 = 250;
pub(super) const FOLD_SELDOM: u32 = 1_000;
/// Statements kept prepared on each connection to PostgreSQL: those of [`batch`](super::batch) come in several sizes.
const STATEMENTS: &str = "256";

pub(super) static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(super) fn of(connection: &AnyConnection) -> Self {
        if connection.backend_name() == "SQLite" { Self::Sqlite } else { Self::Postgres }
    }

    pub(super) fn of_url(url: &str) -> Self {
        if url.starts_with("sqlite:") { Self::Sqlite } else { Self::Postgres }
    }

    /// Begins a transaction that writes.
    pub(super) fn begin(self) -> &'static str {
        match self {
            // Deferred transactions that turn into writers hit SQLITE_BUSY without waiting.
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// Begins a transaction of a group-commit writer.
    pub(super) fn begin_group(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            // For `PASS_WRITERS`; the number is as good as any.
            Self::Postgres => "BEGIN; SELECT pg_advisory_xact_lock_shared(7305809)",
        }
    }

    /// Begins a transaction that reads what was there at one moment.
    pub(super) fn begin_snapshot(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        }
    }

    /// Group-commit writers at once. SQLite has one writer anyway, and our waiting line is fair where its lock is not.
    pub(super) fn writers(self) -> u32 {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => WRITERS,
        }
    }
}

/// Waits for the group-commit writers' transactions that have begun, on all hosts of a PostgreSQL database.
pub(super) const PASS_WRITERS: &str = "SELECT pg_advisory_xact_lock(7305809)";

/// One statement in the words of each database.
pub(super) struct Sql {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

impl Sql {
    pub(super) fn on(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Sqlite => self.sqlite,
            Kind::Postgres => self.postgres,
        }
    }
}

/// A statement that on PostgreSQL locks what it reads: `locking!("SELECT …", "FOR UPDATE")`. On SQLite whoever writes is alone.
macro_rules! locking {
    ($text:expr, $lock:literal) => {
        $crate::store::database::Sql { sqlite: $text, postgres: concat!($text, " ", $lock) }
    };
}
pub(super) use locking;

/// The open database.
pub(super) struct Database {
    pub(super) kind: Kind,
    /// For what the host itself must know: tokens, endpoints, what is due.
    pub(super) read: AnyPool,
    /// For the lists and the history that callers browse: however long they take, the host goes on.
    pub(super) browse: AnyPool,
    pub(super) write: AnyPool,
    /// `None`: on PostgreSQL.
    pub(super) direct: Option<Direct>,
}

impl Database {
    /// Opens the database at `url` and brings its schema up to date. `keys` are the names of our master keys, for others to see.
    pub(super) async fn open(url: &str, keys: &str) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let kind = Kind::of_url(url);
        match kind {
            Kind::Sqlite => open_sqlite(&sqlite_path(url)).await,
            Kind::Postgres => open_postgres(url, keys).await,
        }
    }
}

/// What a database is called in errors: its file, or its host and name.
pub(super) fn place(url: &str) -> String {
    match (Kind::of_url(url), Url::parse(url)) {
        (Kind::Sqlite, _) => sqlite_path(url).display().to_string(),
        (Kind::Postgres, Ok(url)) => format!("{}{}", url.host_str().unwrap_or_default(), url.path()),
        (Kind::Postgres, Err(_)) => "(setting `database_url`)".to_owned(),
    }
}

/// What is wrong with a database, in an operator's words. `None`: only the error itself tells.
pub(super) fn trouble(error: &sqlx::Error) -> Option<&'static str> {
    let Some(code) = sqlite_code(error) else { return postgres_trouble(error) };
    match code {
        8 => Some("the database file or its folder cannot be written to"),
        10 => Some("the disk of the database fails"),
        11 | 26 => {
            Some("the database file is damaged; stop the host, put a backup in its place, and delete its -wal and -shm")
        }
        13 => Some("the disk of the database is full"),
        14 => Some("the database file or one beside it cannot be opened"),
        _ => None,
    }
}

/// By its codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn postgres_trouble(error: &sqlx::Error) -> Option<&'static str> {
    match &*error.as_database_error()?.code()? {
        "25006" => Some("the database is read-only, or a standby"),
        "53100" => Some("the disk of the database is full"),
        _ => None,
    }
}

/// SQLite's result code without its details (<https://www.sqlite.org/rescode.html>). PostgreSQL's have five characters.
fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code().filter(|code| code.len() < 5)?;
    let code: u32 = code.parse().ok()?;
    Some(code & 0xff)
}

/// Keeps others from serving a SQLite file as long as it is held. `None`: a PostgreSQL database serves any number of hosts.
pub(super) fn lock(url: &str) -> Result<Option<Lock>, OpenError> {
    match Kind::of_url(url) {
        Kind::Sqlite => Lock::take(&sqlite_path(url)).map(Some),
        Kind::Postgres => Ok(None),
    }
}

/// What the process that serves a SQLite file has left in the lock file. `None`: nobody serves it.
pub(super) fn note_of_holder(url: &str) -> Result<Option<String>, OpenError> {
    match lock(url) {
        Ok(_) => Ok(None),
        Err(OpenError::InUse(database)) => file::note_beside(&database).map(Some),
        Err(error) => Err(error),
    }
}

async fn open_sqlite(path: &Path) -> Result<Database, OpenError> {
    let failed = |source| OpenError::Database { place: path.display().to_string(), source };
    file::make(path)?;
    // Written so that the driver reads it back as it is.
    let encoded = [("%", "%25"), ("?", "%3F"), ("#", "%23"), (" ", "%20")]
        .iter()
        .fold(path.display().to_string(), |text, (plain, encoded)| text.replace(plain, encoded));
    let url = |mode: &str| format!("sqlite:{encoded}?mode={mode}");
    let mut first = connect_sqlite(&url("rwc")).await.map_err(failed)?;
    let migrated = migrate_sqlite(&mut first, &SQLITE).await;
    migrated.map_err(|error| not_migrated(path.display().to_string(), error))?;
    let pool = |mode: &str, connections: u32| {
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(TURN)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(set_up_sqlite(connection)))
            .after_release(|connection, _| Box::pin(async { is_free(connection).await }));
        let url = url(mode);
        async move { pool.connect(&url).await.map_err(failed) }
    };
    // Opened after the migrations: a connection reads the planner's statistics, which those write, when it opens.
    let write = pool("rwc", 1).await?;
    let (read, browse) = (pool("ro", READERS).await?, pool("ro", READERS).await?);
    first.close().await.map_err(failed)?;
    Ok(Database { kind: Kind::Sqlite, read, browse, write, direct: Some(Direct::new(path)) })
}

/// One connection without a pool, which would try again whatever the reason, and not tell it in the end.
async fn connect_sqlite(url: &str) -> Result<AnyConnection, sqlx::Error> {
    const BUSY: u32 = 5;
    let began = Instant::now();
    loop {
        let mut connection = AnyConnection::connect(url).await?;
        match set_up_sqlite(&mut connection).await {
            Ok(()) => return Ok(connection),
            Err(error) if sqlite_code(&error) == Some(BUSY) && began.elapsed() < TURN => {
                tokio::time::sleep(BREATH).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// All that is missing or nothing, and one command at a time: `token create` may meet a host that starts.
pub(super) async fn migrate_sqlite(connection: &mut AnyConnection, migrator: &Migrator) -> Result<(), MigrateError> {
    let mut tx = connection.begin_with(Kind::Sqlite.begin()).await?;
    migrator.run(&mut *tx).await?;
    Ok(tx.commit().await?)
}

fn not_migrated(place: String, error: MigrateError) -> OpenError {
    match error {
        MigrateError::Execute(source) => OpenError::Database { place, source },
        MigrateError::VersionMissing(_) => OpenError::Newer(place),
        source => OpenError::Migrate { place, source },
    }
}

/// Whether a connection that comes back to its pool may be lent out again. Where the disk fails, SQLite rolls back by itself,
/// and the driver goes on counting a transaction that is not there any more: none could begin on it.
async fn is_free(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // Its roll-back may still be under way; this is answered after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

async fn set_up_sqlite(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    // NORMAL loses acknowledged events in a power cut; FULL costs next to nothing when commits are grouped.
    for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 5000"] {
        sqlx::query(pragma).execute(&mut *connection).await?;
    }
    let fold = AssertSqlSafe(format!("PRAGMA wal_autocheckpoint = {FOLD_OFTEN}"));
    sqlx::query(fold).execute(&mut *connection).await?;
    Ok(())
}

async fn open_postgres(url: &str, keys: &str) -> Result<Database, OpenError> {
    let place = place(url);
    let failed = |source| OpenError::Database { place: place.clone(), source };
    let mut url = Url::parse(url).map_err(|error| failed(sqlx::Error::Configuration(error.into())))?;
    url.query_pairs_mut().append_pair("statement-cache-capacity", STATEMENTS);
    let options: AnyConnectOptions = url.as_str().parse().map_err(failed)?;
    let probe = Arc::new(Probe::default());
    // Short enough for PostgreSQL, which takes 63 bytes, with as many keys as there may be.
    let name: Arc<str> = format!("revnoxa-host {keys}").into();
    let pool = |connections: u32| {
        let (leaving, back) = (probe.clone(), probe.clone());
        let name = name.clone();
        AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT)
            .after_connect(move |connection, _| {
                let name = name.clone();
                Box::pin(async move { set_up_postgres(connection, &name).await })
            })
            // The pool's own test would wait for ever.
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let probe = leaving.clone();
                Box::pin(async move { probe.answers(connection, meta).await })
            })
            .after_release(move |connection, meta| {
                let probe = back.clone();
                Box::pin(async move { probe.answers(connection, meta).await })
            })
    };
    let mut tries = 1;
    let write = loop {
        match pool(WRITERS + CHANGERS).connect_with(options.clone()).await {
            // Nobody waits for a start: a database that is slow to answer need not end it.
            Err(sqlx::Error::PoolTimedOut) if tries < STARTS => tries += 1,
            connected => break connected.map_err(&failed)?,
        }
    };
    POSTGRES.run(&write).await.map_err(|error| not_migrated(place.clone(), error))?;
    let readers = || pool(READERS).connect_lazy_with(options.clone());
    Ok(Database { kind: Kind::Postgres, read: readers(), browse: readers(), write, direct: None })
}

/// Whether pooled connections still carry anything.
#[derive(Default)]
struct Probe {
    hung_at: Mutex<Option<Instant>>,
}

impl Probe {
    /// Where one hangs, all that are as old hang most likely, too: they go without a wait for each.
    async fn answers(&self, connection: &mut AnyConnection, meta: PoolConnectionMetadata) -> Result<bool, sqlx::Error> {
        let hung_at = || self.hung_at.lock().unwrap_or_else(PoisonError::into_inner);
        let hangs = || Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        if hung_at().is_some_and(|hung_at| meta.age > hung_at.elapsed()) {
            return hangs();
        }
        let Ok(answer) = tokio::time::timeout(ANSWER, connection.ping()).await else {
            *hung_at() = Some(Instant::now());
            return hangs();
        };
        answer.map(|()| true)
    }
}

async fn set_up_postgres(connection: &mut AnyConnection, name: &str) -> Result<(), sqlx::Error> {
    let settings = [
        ("application_name", name),
        // Every statement here leads along an index. Left alone, the planner takes a table that was just filled, or never
        // analysed, for a small one and reads all of it: claims went from 2 to 200 ms.
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
        // A host that is stopped, or that the network cut off, must not keep its locks: whoever posts one of its events again
        // waits for them, and so does the group that this is in. Longer than `LIMIT`, after which nobody goes on with it.
        ("idle_in_transaction_session_timeout", "2s"),
        ("statement_timeout", "60s"),
    ];
    for (name, value) in settings {
        let set =
            sqlx::query("SELECT set_config($1, $2, false)").bind(name).bind(value).execute(&mut *connection).await;
        match set {
            Ok(_) => {}
            // Databases that speak PostgreSQL's protocol do not know all of its settings.
            Err(sqlx::Error::Database(error)) => {
                tracing::debug!(setting = name, %error, "the database refuses a setting")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn sqlite_path(url: &str) -> PathBuf {
    PathBuf::from(url.trim_start_matches("sqlite://"))
}
