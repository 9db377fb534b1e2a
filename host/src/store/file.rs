//! A SQLite file: its folder, who serves it, and whether it is still what it was.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::OpenError;

/// What the lock file says in its first line once its database was served. In the second, or where that would be, is the holder's
/// note.
const SERVED: &[u8] = b"The database beside this file was served. Whoever deletes it deletes this file, too.\n";

/// The lock file beside a database, held: nobody else serves it.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes it, unless another host has it.
    pub(super) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = lock_path(database);
        let folder = |source| OpenError::Folder { path: path.clone(), source };
        make_folder(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.to_owned())),
            Err(TryLockError::Error(source)) => Err(folder(source)),
        }
    }

    /// Notes that the database holds something by now: should it be empty one day, it is not a new one.
    pub(super) fn note_served(&self) -> Result<(), OpenError> {
        if says_served(&self.path) {
            return Ok(());
        }
        self.file.write_all_at(SERVED, 0).map_err(|source| OpenError::Folder { path: self.path.clone(), source })
    }

    /// Leaves a line for whoever asks with [`note_beside`]; the first one stays as it is, whatever becomes of this.
    pub(super) fn leave_note(&self, note: &str) {
        let first = SERVED.len() as u64;
        let left = self.file.set_len(first).and_then(|()| self.file.write_all_at(note.as_bytes(), first));
        if let Err(error) = left {
            tracing::warn!(%error, "cannot write to the lock file");
        }
    }

    /// Lets others serve the database.
    pub(super) fn release(&self) -> std::io::Result<()> {
        self.file.unlock()
    }
}

/// Makes the file when it is missing. Payloads are nobody else's business: a file and a folder that we make are their owner's
/// only.
pub(super) fn make(database: &Path) -> Result<(), OpenError> {
    // SQLite would take an empty file for a new one, and delete the write-ahead log beside it.
    let size_bytes = database.metadata().map_or(0, |file| file.len());
    let lock = lock_path(database);
    if size_bytes == 0 && says_served(&lock) {
        return Err(OpenError::Emptied { path: database.to_owned(), lock });
    }
    make_folder(database)?;
    let made = File::options().create(true).append(true).mode(0o600).open(database);
    made.map(drop).map_err(|source| OpenError::Folder { path: database.to_owned(), source })
}

/// What the holder of the lock file beside a database has left in it.
pub(super) fn note_beside(database: &Path) -> Result<String, OpenError> {
    let path = lock_path(database);
    let text = std::fs::read(&path).map_err(|source| OpenError::Folder { path, source })?;
    Ok(String::from_utf8_lossy(text.get(SERVED.len()..).unwrap_or_default()).into_owned())
}

/// A file that is not there, or cannot be read, says nothing.
fn says_served(lock: &Path) -> bool {
    std::fs::read(lock).is_ok_and(|text| text.starts_with(SERVED))
}

fn make_folder(file: &Path) -> Result<(), OpenError> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| OpenError::Folder { path: folder.to_owned(), source })
}

fn lock_path(database: &Path) -> PathBuf {
    database.with_extension("lock")
}
