//! A move of all that a SQLite file holds into a PostgreSQL database.
//!
//! The file is marked first, so that no host changes it any more. Rows go over in the order of their keys, in batches; each
//! batch and how far it came are one transaction, so a move that was cut short goes on where it stood. The database is
//! served only once all is there and has been counted.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use uuid::Uuid;

use super::database::{self, Kind};
use super::file::Lock;
use super::sized::{Bound, Sized};
use super::{OpenError, Store, StoreError};

/// Why a move does not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// It goes from a file to a server only.
    #[error("a move goes from `sqlite://PATH` to `postgres://…`")]
    WrongWay,
    /// The target is in use.
    #[error("the PostgreSQL database holds tenants of its own; move into an empty one")]
    NotEmpty,
    /// After the last row the two differ.
    #[error(
        "{table} has {there} rows where {here} were to be: nothing is lost in the SQLite file; empty the PostgreSQL database and move again"
    )]
    Miscounted {
        /// Which table.
        table: &'static str,
        /// In the file.
        here: i64,
        /// In the target.
        there: i64,
    },
    /// One of the two cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for MoveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A table, and the columns that its rows are sorted by on the way: its key, or SQLite's own number of the row.
struct Table {
    name: &'static str,
    key: &'static [&'static str],
    /// In one batch: as many as have some MiB together at most.
    rows: i64,
}

/// What goes over. What an event or an endpoint belongs to comes before it.
const TABLES: [Table; 14] = [
    Table { name: "tenants", key: &["id"], rows: 256 },
    Table { name: "tokens", key: &["id"], rows: 256 },
    Table { name: "event_types", key: &["name"], rows: 256 },
    Table { name: "plugins", key: &["tenant_id", "name"], rows: 256 },
    Table { name: "plugin_versions", key: &["rowid"], rows: 256 },
    Table { name: "component_parts", key: &["rowid"], rows: 8 },
    Table { name: "endpoints", key: &["tenant_id", "id"], rows: 256 },
    Table { name: "attachments", key: &["tenant_id", "endpoint_id", "position"], rows: 256 },
    Table { name: "events", key: &["rowid"], rows: 32 },
    Table { name: "deliveries", key: &["id", "tenant_id"], rows: 256 },
    Table { name: "attempts", key: &["delivery_id", "number", "tenant_id"], rows: 256 },
    Table { name: "plugin_runs", key: &["rowid"], rows: 16 },
    Table { name: "plugin_usage", key: &["tenant_id", "plugin", "version"], rows: 256 },
    Table { name: "endpoint_hours", key: &["tenant_id", "endpoint_id", "hour"], rows: 256 },
];

/// A move under way.
pub struct Move {
    from: Store,
    to: Store,
    _lock: Option<Lock>,
}

impl Move {
    /// Begins a move, or goes on with one that was cut short. Both stores were opened with the same keys.
    pub async fn begin(from: (&str, Store), to: Store) -> Result<Self, MoveError> {
        let (url, from) = from;
        if (from.kind, to.kind) != (Kind::Sqlite, Kind::Postgres) {
            return Err(MoveError::WrongWay);
        }
        let lock = database::lock(url)?;
        let marked: Option<String> =
            sqlx::query_scalar("SELECT moving FROM installation").fetch_one(&from.write).await?;
        let id = marked.unwrap_or_else(|| Uuid::new_v4().to_string());
        sqlx::query("UPDATE installation SET moving = $1").bind(&id).execute(&from.write).await?;
        from.release_all_leases().await?;
        from.complete_events().await?;
        let this = Self { from, to, _lock: lock };
        this.receive(&id).await?;
        Ok(this)
    }

    /// Rows in the file, and how many of them are in the target already.
    pub async fn rows(&self) -> Result<(u64, u64), MoveError> {
        let (mut all, mut done) = (0, 0);
        for table in &TABLES {
            all += count(&mut *self.from.read.acquire().await?, table).await?;
            done += count(&mut *self.to.write.acquire().await?, table).await?;
        }
        Ok((u64::try_from(all).unwrap_or(0), u64::try_from(done).unwrap_or(0)))
    }

    /// Takes all rows over and lets the target be served; tells `moved` of each batch.
    pub async fn run(&self, mut moved: impl FnMut(u64)) -> Result<(), MoveError> {
        for table in &TABLES {
            let columns = self.columns(table).await?;
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            let head = format!("INSERT INTO {} ({}) VALUES", table.name, names.join(", "));
            let insert = Sized::new(&head, columns.len(), "");
            while let Some(rows) = self.batch(table, &columns, &insert).await? {
                moved(rows);
            }
        }
        for table in &TABLES {
            let here = count(&mut *self.from.read.acquire().await?, table).await?;
            let there = count(&mut *self.to.write.acquire().await?, table).await?;
            if here != there {
                return Err(MoveError::Miscounted { table: table.name, here, there });
            }
        }
        let keys = sqlx::query_as("SELECT key_check, previous_key_check FROM installation").fetch_one(&self.from.read);
        let (key_check, previous_key_check): (Vec<u8>, Option<Vec<u8>>) = keys.await?;
        let mut tx = self.to.begin().await?;
        sqlx::query("DELETE FROM move_progress").execute(&mut *tx).await?;
        // What went over is sealed as it was.
        sqlx::query("UPDATE installation SET moving = NULL, key_check = $1, previous_key_check = $2")
            .bind(key_check)
            .bind(previous_key_check)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Closes both databases.
    pub async fn close(self) {
        self.from.close().await;
        self.to.close().await;
    }

    /// Makes the target ready for the move `id`: as it is where that was cut short, else empty.
    async fn receive(&self, id: &str) -> Result<(), MoveError> {
        let mut tx = self.to.begin().await?;
        let under_way: Option<String> =
            sqlx::query_scalar("SELECT moving FROM installation FOR UPDATE").fetch_one(&mut *tx).await?;
        if under_way.as_deref() == Some(id) {
            return Ok(());
        }
        let tenants = count(&mut tx, &TABLES[0]).await?;
        if under_way.is_none() && tenants > 0 {
            return Err(MoveError::NotEmpty);
        }
        // What every new database has, or what is left of a move that was given up.
        for table in &TABLES {
            sqlx::query(AssertSqlSafe(format!("DELETE FROM {}", table.name))).execute(&mut *tx).await?;
        }
        sqlx::query("DELETE FROM move_progress").execute(&mut *tx).await?;
        sqlx::query("UPDATE installation SET moving = $1").bind(id).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Columns with their declared types.
    async fn columns(&self, table: &Table) -> Result<Vec<(String, String)>, MoveError> {
        let columns = sqlx::query_as("SELECT name, type FROM pragma_table_info($1) ORDER BY cid");
        Ok(columns.bind(table.name).fetch_all(&self.from.read).await?)
    }

    /// Takes the next rows over; `None`: there are no more.
    async fn batch(
        &self,
        table: &Table,
        columns: &[(String, String)],
        insert: &Sized,
    ) -> Result<Option<u64>, MoveError> {
        let mut tx = self.to.begin().await?;
        let last: Option<String> = sqlx::query_scalar("SELECT last_key FROM move_progress WHERE table_name = $1")
            .bind(table.name)
            .fetch_optional(&mut *tx)
            .await?;
        let rows = self.next_rows(table, columns, last.as_deref()).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = serde_json::to_string(&last.key).expect("texts and numbers are JSON");
        for (mut query, rows) in insert.over(Kind::Postgres, &rows) {
            for value in rows.iter().flat_map(|row| &row.values) {
                query = value.bind_to(query);
            }
            query.execute(&mut *tx).await?;
        }
        sqlx::query(
            "INSERT INTO move_progress (table_name, last_key) VALUES ($1, $2)
             ON CONFLICT (table_name) DO UPDATE SET last_key = excluded.last_key",
        )
        .bind(table.name)
        .bind(last)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(rows.len() as u64))
    }

    /// The rows after the key `last`, each with its own.
    async fn next_rows(
        &self,
        table: &Table,
        columns: &[(String, String)],
        last: Option<&str>,
    ) -> Result<Vec<SourceRow>, MoveError> {
        let names = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let key = table.key.join(", ");
        let after: Vec<serde_json::Value> = last.and_then(|last| serde_json::from_str(last).ok()).unwrap_or_default();
        let places = (1..=table.key.len()).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ");
        let condition = if after.is_empty() { String::new() } else { format!("WHERE ({key}) > ({places})") };
        let text = format!("SELECT {names}, {key} FROM {} {condition} ORDER BY {key} LIMIT {}", table.name, table.rows);
        let mut query = sqlx::query(AssertSqlSafe(text));
        for value in &after {
            query = match value.as_i64() {
                Some(number) => query.bind(number),
                None => query.bind(value.as_str().unwrap_or_default().to_owned()),
            };
        }
        let row = |row: &AnyRow| {
            let values = columns.iter().enumerate().map(|(at, (_, kind))| value(row, at, kind));
            let key = (columns.len()..columns.len() + table.key.len()).map(|at| key_value(row, at));
            Ok(SourceRow { key: key.collect::<Result<_, _>>()?, values: values.collect::<Result<_, _>>()? })
        };
        query.fetch_all(&self.from.read).await?.iter().map(row).collect()
    }
}

impl Store {
    /// Lets a SQLite file be served again that a move had marked.
    pub async fn give_up_move(&self, url: &str) -> Result<(), MoveError> {
        let _lock = database::lock(url)?.ok_or(MoveError::WrongWay)?;
        sqlx::query("UPDATE installation SET moving = NULL").execute(&self.write).await?;
        Ok(())
    }
}

struct SourceRow {
    key: Vec<serde_json::Value>,
    values: Vec<Value>,
}

/// What one column of one row holds.
enum Value {
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Number(Option<i64>),
}

impl Value {
    fn bind_to(&self, query: Bound) -> Bound {
        match self {
            // PostgreSQL has no text with NUL in it.
            Self::Text(text) => query.bind(text.as_ref().map(|text| text.replace('\0', "\u{fffd}"))),
            Self::Bytes(bytes) => query.bind(bytes.clone()),
            Self::Number(number) => query.bind(*number),
        }
    }
}

fn value(row: &AnyRow, at: usize, kind: &str) -> Result<Value, sqlx::Error> {
    Ok(match kind {
        "TEXT" => Value::Text(row.try_get(at)?),
        "BLOB" => Value::Bytes(row.try_get(at)?),
        _ => Value::Number(row.try_get(at)?),
    })
}

fn key_value(row: &AnyRow, at: usize) -> Result<serde_json::Value, sqlx::Error> {
    match row.try_get::<i64, _>(at) {
        Ok(number) => Ok(number.into()),
        Err(_) => Ok(row.try_get::<String, _>(at)?.into()),
    }
}

async fn count(connection: &mut AnyConnection, table: &Table) -> Result<i64, MoveError> {
    let count = format!("SELECT COUNT(*) FROM {}", table.name);
    Ok(sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(connection).await?)
}
