//! The format of the database: how it is made, brought up to date and checked.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::{CWD, RenameFlags, StatVfsMountFlags};

use super::{StoreError, error};
use crate::durable;
use crate::trial::{crash_point, fault};

/// Step n leads from format n to format n + 1 (`user_version`). A step that was released never changes.
const STEPS: [&str; 1] = ["
    CREATE TABLE journal (
        seq     INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms   INTEGER NOT NULL,
        upgrade TEXT NOT NULL,
        record  TEXT NOT NULL,
        -- NULL while the upgrade goes on; then the seq of its last record: upgrades end in this order.
        ended   INTEGER
    );
    CREATE INDEX journal_by_end ON journal (ended);
    CREATE TABLE history (
        seq     INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms   INTEGER NOT NULL,
        entry   TEXT NOT NULL
    );
    CREATE TABLE events (
        seq     INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms   INTEGER NOT NULL,
        topic   TEXT NOT NULL,
        type    TEXT NOT NULL,
        data    TEXT NOT NULL
    );
    CREATE TABLE facts (
        key     TEXT PRIMARY KEY,
        value   TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE pins (
        name    TEXT NOT NULL,
        sha256  TEXT NOT NULL,
        reason  TEXT NOT NULL,
        at_ms   INTEGER NOT NULL,
        PRIMARY KEY (name, sha256)
    ) WITHOUT ROWID;
"];

/// The newest known format.
pub(super) const KNOWN: i64 = STEPS.len() as i64;

/// Who may read the database: its owner.
const MODE: u32 = 0o600;

/// Makes a complete, empty database at `path` when nothing is there.
pub(super) fn ensure_exists(path: &Path) -> Result<(), StoreError> {
    match must_exist(path) {
        Err(StoreError::Missing { .. }) => make(path),
        other => other,
    }
}

/// An error unless there is a database that is not obviously damaged.
pub(super) fn must_exist(path: &Path) -> Result<(), StoreError> {
    let not_made = |source| StoreError::NotMade { path: path.into(), source };
    match fs::metadata(path) {
        Ok(data) if data.is_file() && data.len() == 0 => {
            Err(StoreError::Damaged { path: path.into(), what: "it is empty".into() })
        }
        Ok(data) if data.is_file() => Ok(()),
        Ok(_) => Err(StoreError::Damaged { path: path.into(), what: "it is not a file".into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match log_of(path).exists() {
            true => {
                let what = "it is gone, but its write-ahead log is there".into();
                Err(StoreError::Damaged { path: path.into(), what })
            }
            false => Err(StoreError::Missing { path: path.into() }),
        },
        Err(source) => Err(not_made(source)),
    }
}

/// Prepares the database under another name and renames it into place: it is there whole or not at all.
fn make(path: &Path) -> Result<(), StoreError> {
    let not_made = |source| StoreError::NotMade { path: path.into(), source };
    let dir = durable::parent(path);
    fault("store.make").map_err(not_made)?;
    let file = tempfile::Builder::new()
        .prefix(".state.db.")
        .suffix(durable::TEMPORARY)
        .tempfile_in(dir)
        .map_err(not_made)?;
    file.as_file().set_permissions(Permissions::from_mode(MODE)).map_err(not_made)?;
    let mut connection = Connection::open(file.path()).map_err(|source| error(path, "make", source))?;
    bring_up_to_date(path, &mut connection)?;
    connection.close().map_err(|(_, source)| error(path, "make", source))?;
    file.as_file().sync_all().map_err(not_made)?;
    crash_point("store.made");
    match rustix::fs::renameat_with(CWD, file.path(), CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // Another process made it meanwhile: ours goes away, theirs is used.
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        // A file system without RENAME_NOREPLACE. The supervisor's lock keeps others away.
        Err(rustix::io::Errno::INVAL) => fs::rename(file.path(), path).map_err(not_made)?,
        Err(error) => return Err(not_made(error.into())),
    }
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(not_made)
}

/// Takes the steps that are missing, all or none.
pub(super) fn bring_up_to_date(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    let found = version(path, connection)?;
    if found == KNOWN {
        return Ok(());
    }
    if found > KNOWN {
        return Err(StoreError::Newer { path: path.into(), found, known: KNOWN });
    }
    let failed = |source| error(path, "bring up to date", source);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Asked again now that nobody else can write.
    let found = version(path, &transaction)?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or_default()) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", KNOWN).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The format of the database.
pub(super) fn version(path: &Path, connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| error(path, "read", source))
}

/// Checks the pages of the tables that decide what happens next. The events, the bulk of the database, are not
/// read: damage there shows when they are asked for.
pub(super) fn check(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    for table in ["journal", "facts", "pins"] {
        let verdict: String = connection
            .query_row(&format!("PRAGMA quick_check('{table}')"), [], |row| row.get(0))
            .map_err(|source| error(path, "check", source))?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { path: path.into(), what: verdict });
        }
    }
    Ok(())
}

/// Whether nobody can write to the database: a file system mounted read-only, and no write-ahead log to apply.
pub(super) fn is_frozen(path: &Path) -> bool {
    let read_only = |mount: rustix::fs::StatVfs| mount.f_flag.contains(StatVfsMountFlags::RDONLY);
    !log_of(path).exists() && rustix::fs::statvfs(path).is_ok_and(read_only)
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}
