//! A copy of a SQLite database, taken while a host may serve it.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::database::{self, Kind};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Only files are copied.
    #[error("`database_url` is PostgreSQL's: use its own means, such as pg_dump")]
    NotAFile,
    /// Nothing to copy.
    #[error("there is no database at {0}")]
    Missing(PathBuf),
    /// An older copy is not replaced.
    #[error("{0} is there already; name a new file")]
    Exists(PathBuf),
    /// What it holds is elsewhere.
    #[error("this database was moved to PostgreSQL, or is being moved; back up that one")]
    MovedAway,
    /// The copy cannot be written.
    #[error("cannot write {path}")]
    Unwritable {
        /// The copy.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("cannot copy the database")]
    Database(#[from] sqlx::Error),
    /// It was written and does not read back.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}

/// Copies the SQLite database at `url`, as it stands at one moment, into the new file `to`; gives its size in bytes.
///
/// The file is there only when it is complete, checked and on disk. Nobody but its owner may read it.
pub async fn back_up(url: &str, to: &Path) -> Result<u64, BackupError> {
    if Kind::of_url(url) == Kind::Postgres {
        return Err(BackupError::NotAFile);
    }
    let from = database::sqlite_path(url);
    if !from.exists() {
        return Err(BackupError::Missing(from));
    }
    if to.exists() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let unwritable = |source| BackupError::Unwritable { path: to.to_owned(), source };
    let name = to.to_str().ok_or_else(|| unwritable(std::io::ErrorKind::InvalidFilename.into()))?;
    let part = format!("{name}.part");
    // SQLite writes into an empty file; one that it made would be anybody's to read.
    let made = File::options().create(true).truncate(true).write(true).mode(0o600).open(&part);
    made.map_err(unwritable)?;
    let kept = match copy(&from, &part).await {
        Ok(()) => keep(&part, to).map_err(unwritable),
        Err(error) => Err(error),
    };
    if kept.is_err() {
        // What is left of it says nothing that the error does not.
        let _ = fs::remove_file(&part);
    }
    kept
}

async fn copy(from: &Path, part: &str) -> Result<(), BackupError> {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(from)).await?;
    let moving: Option<String> =
        sqlx::query_scalar("SELECT moving FROM installation").fetch_one(&mut connection).await?;
    if moving.is_some() {
        return Err(BackupError::MovedAway);
    }
    sqlx::query("VACUUM INTO $1").bind(part.to_owned()).execute(&mut connection).await?;
    connection.close().await?;
    let options = SqliteConnectOptions::new().filename(part).read_only(true);
    let mut written = SqliteConnection::connect_with(&options).await?;
    // An empty file would pass for a database, too.
    sqlx::query("SELECT one FROM installation").fetch_one(&mut written).await?;
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut written).await?;
    written.close().await?;
    if found == "ok" { Ok(()) } else { Err(BackupError::Damaged(found)) }
}

/// Gives the copy its name, once it is on disk, which SQLite does not see to.
fn keep(part: &str, to: &Path) -> std::io::Result<u64> {
    let file = File::open(part)?;
    file.sync_all()?;
    let size = file.metadata()?.len();
    fs::rename(part, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(size)
}
