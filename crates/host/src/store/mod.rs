//! What outlives the supervisor: the journal of upgrades, their history, the events, some facts, and the
//! programs known to be bad. One SQLite database, `state.db`.
//!
//! Everything that belongs together is written by one [`Store::write`]: one transaction, one forced write to
//! the disk, all of it or nothing. The write-ahead log lets the CLI read while the supervisor writes.
//!
//! A database that is damaged, from a newer version, or half gone is an error that says so. It is never made
//! anew: a lost journal would be taken for "no upgrade was going on". A new database is prepared under another
//! name and renamed into place, so an empty `state.db` is damage too, never a beginning.

mod batch;
mod read;
mod schema;
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Plain files, processes and clocks will do for tests.
mod tests;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::trial::{self, fault};

pub use batch::{Batch, KEPT_EVENTS, KEPT_UPGRADES};
pub use read::{EventRow, HistoryRow, JournalRow, Pin, Reader};

/// How long a writer waits for another one. Transactions take milliseconds.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// A store that cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database.
    #[error("there is no {}", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// It is in use and no longer the file under its name.
    #[error("{} was moved away, removed or replaced while it is in use", path.display())]
    Gone {
        /// The database.
        path: PathBuf,
    },
    /// It is damaged. It was left as it is.
    #[error(
        "{} is damaged: {what}. It was left as it is; the journal of upgrades is in it, so it must be mended or \
         moved away by hand",
        path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer wemixvisor made it.
    #[error("{} has format {found}; this version of wemixvisor knows formats up to {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known format.
        known: i64,
    },
    /// An older wemixvisor made it, and a reader must not change it.
    #[error("{} has the old format {found}; the supervisor brings it up to date when it starts", path.display())]
    Older {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// No space, or the file system is read-only: nothing of the batch was written.
    #[error("cannot write to {}: nothing of it was written", path.display())]
    NotWritten {
        /// The database.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// Another process holds the database for too long.
    #[error("{} has been held by another process for {BUSY_LIMIT:?}", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// Any other answer of the database.
    #[error("cannot {doing} {}", path.display())]
    Failed {
        /// What was tried, as the object of "cannot".
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What it answered.
        source: rusqlite::Error,
    },
    /// The file of the database could not be made or looked at.
    #[error("cannot make {}", path.display())]
    NotMade {
        /// The database.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A value that cannot be written as JSON.
    #[error("cannot write {what} as JSON")]
    NotJson {
        /// What was to be written.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// A row that does not hold the JSON that it must.
    #[error("{what} number {seq} in {} cannot be understood", path.display())]
    BadRow {
        /// What kind of row.
        what: &'static str,
        /// Its number.
        seq: u64,
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A fact whose value is not of the kind that was asked for.
    #[error("the value of {key:?} in {} cannot be understood", path.display())]
    BadFact {
        /// The fact.
        key: String,
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The database, open for reading and writing. One thread at a time; every question of [`Reader`] can be asked.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    /// The file that was opened: device and inode.
    file: (u64, u64),
}

impl Store {
    /// Opens the database, makes it (mode 0600) when there is none, and brings it up to date.
    ///
    /// # Errors
    /// [`StoreError`]; a database that is there is never replaced.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        schema::ensure_exists(path)?;
        fault("store.open").map_err(|source| error(path, "open", sqlite(&source)))?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let failed = |source| error(path, "open", source);
        // FULL: a committed batch survives a power failure. The small cache keeps the supervisor small.
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA journal_size_limit=1048576;",
            )
            .map_err(failed)?;
        schema::bring_up_to_date(path, &mut connection)?;
        schema::check(path, &connection)?;
        let file = identity(path).map_err(|source| error(path, "open", sqlite(&source)))?;
        Ok(Self { reader: Reader::new(path, connection), file })
    }

    /// Whether the database is still the file under its name. One that was moved or replaced goes on being written,
    /// but nobody will find it there.
    ///
    /// # Errors
    /// [`StoreError::Gone`].
    pub fn in_place(&self) -> Result<(), StoreError> {
        match identity(&self.reader.path) {
            Ok(found) if found == self.file => Ok(()),
            _ => Err(StoreError::Gone { path: self.reader.path.clone() }),
        }
    }

    /// Opens the database for reading only, also while a supervisor writes to it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is made and nothing is changed.
    pub fn open_read_only(path: &Path) -> Result<Reader, StoreError> {
        schema::must_exist(path)?;
        let connection = match schema::is_frozen(path) {
            true => connect(&immutable(path), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?,
            false => connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        };
        match schema::version(path, &connection)? {
            found if found > schema::KNOWN => {
                Err(StoreError::Newer { path: path.into(), found, known: schema::KNOWN })
            }
            found if found < schema::KNOWN => Err(StoreError::Older { path: path.into(), found }),
            _ => Ok(Reader::new(path, connection)),
        }
    }

    /// Writes a batch: one transaction, forced to the disk before this returns. An error of the closure, or any
    /// other, leaves nothing of it.
    ///
    /// # Errors
    /// The closure's own, or [`StoreError`].
    pub fn write<T>(
        &mut self,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = self.transact("FULL", fill)?;
        trial::store_forced(&self.reader.path);
        Ok(answer)
    }

    /// Writes a batch as one transaction that is forced to the disk together with the next [`write`](Self::write).
    /// Until then it outlives this process, but not a power failure, which takes back whole batches, newest first.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_unforced<T>(
        &mut self,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // In this mode the write-ahead log is forced before a checkpoint only.
        self.transact("NORMAL", fill)
    }

    fn transact<T>(
        &mut self,
        synchronous: &str,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Reader { path, connection } = &mut self.reader;
        let failed = |source| error(path, "write to", source);
        connection.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
        let refused = |call| fault(call).map_err(|source| failed(sqlite(&source)));
        refused("store.begin")?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let answer = fill(&mut Batch::new(path, &transaction))?;
        refused("store.commit")?;
        transaction.commit().map_err(failed)?;
        Ok(answer)
    }

    /// Moves the write-ahead log into the database now, so that no batch has to do it soon: to be called in a
    /// quiet moment before an upgrade. A reader at work makes it move less; that is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        let Reader { path, connection } = &self.reader;
        connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|source| error(path, "checkpoint", source))
    }
}

impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    let failed = |source| error(path, "open", source);
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_LIMIT).map_err(failed)?;
    connection.execute_batch("PRAGMA cache_size=-256;").map_err(failed)?;
    Ok(connection)
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let data = std::fs::metadata(path)?;
    Ok((data.dev(), data.ino()))
}

/// The name under which SQLite reads a database without locks and without its companions, which it could not
/// make on a read-only file system.
fn immutable(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02x}").bytes()),
            other => uri.push(*other),
        }
    }
    uri.extend(b"?immutable=1");
    std::ffi::OsString::from_vec(uri).into()
}

/// An error of the system as SQLite passes it on.
fn sqlite(error: &std::io::Error) -> rusqlite::Error {
    let code = match error.raw_os_error() {
        Some(libc::ENOSPC) => rusqlite::ffi::SQLITE_FULL,
        Some(libc::EROFS) => rusqlite::ffi::SQLITE_READONLY,
        Some(libc::EMFILE) => rusqlite::ffi::SQLITE_CANTOPEN,
        _ => rusqlite::ffi::SQLITE_IOERR,
    };
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
}

/// What an answer of SQLite means for whoever asked.
fn error(path: &Path, doing: &'static str, source: rusqlite::Error) -> StoreError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { path, what: source.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => StoreError::NotWritten { path, source },
        _ => StoreError::Failed { doing, path, source },
    }
}
