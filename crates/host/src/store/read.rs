//! What can be asked.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql};
use serde::de::DeserializeOwned;
use serde_json::Value;
use wemixvisor_core::time::WallMs;

use super::{StoreError, error};

/// The database, open for reading.
#[derive(Debug)]
pub struct Reader {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

/// A record of an upgrade's journal.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalRow {
    /// Its number; later is higher.
    pub seq: u64,
    /// When it was written.
    pub at: WallMs,
    /// The upgrade's name.
    pub upgrade: String,
    /// The record.
    pub record: Value,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRow {
    /// Its number; later is higher.
    pub seq: u64,
    /// When it was written.
    pub at: WallMs,
    /// The entry.
    pub entry: Value,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Its number, without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: WallMs,
    /// The topic that clients subscribe to.
    pub topic: String,
    /// The kind of event.
    pub kind: String,
    /// What it tells.
    pub data: Value,
}

/// A program known to be bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The upgrade's name.
    pub name: String,
    /// The sum of the program, as hex.
    pub sha256: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: WallMs,
}

impl Reader {
    pub(super) fn new(path: &Path, connection: Connection) -> Self {
        Self { path: path.into(), connection }
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The records of the upgrades that have not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError`], as in all of these; a record that cannot be understood is one, too.
    pub fn journal(&self) -> Result<Vec<JournalRow>, StoreError> {
        self.journal_rows(
            "SELECT seq, record, at_ms, upgrade FROM journal WHERE ended IS NULL ORDER BY seq",
            &[],
        )
    }

    /// The records of one upgrade, ended or not, oldest first; of all its attempts that are kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn journal_of(&self, upgrade: &str) -> Result<Vec<JournalRow>, StoreError> {
        self.journal_rows(
            "SELECT seq, record, at_ms, upgrade FROM journal WHERE upgrade = ?1 ORDER BY seq",
            &[&upgrade],
        )
    }

    /// The newest entries of the history, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history(&self, limit: usize) -> Result<Vec<HistoryRow>, StoreError> {
        self.rows(
            "a history entry",
            "SELECT seq, entry, at_ms FROM history ORDER BY seq DESC LIMIT ?1",
            &[&bounded(limit)],
            |row, seq, entry| Ok(HistoryRow { seq, at: wall(row)?, entry }),
        )
    }

    /// The events with a number above `seq`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events_since(&self, seq: u64, limit: usize) -> Result<Vec<EventRow>, StoreError> {
        self.rows(
            "an event",
            "SELECT seq, data, at_ms, topic, type FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            &[&i64::try_from(seq).unwrap_or(i64::MAX), &bounded(limit)],
            |row, seq, data| {
                Ok(EventRow { seq, at: wall(row)?, topic: row.get(3)?, kind: row.get(4)?, data })
            },
        )
    }

    /// The numbers of the oldest and the newest event that are kept; `None` before the first one. A client that
    /// asks for what follows a number below oldest − 1 has missed some.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn event_range(&self) -> Result<Option<(u64, u64)>, StoreError> {
        self.ask(|connection| {
            // Two questions to the index; min and max in one would read the whole table.
            connection
                .prepare_cached("SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)")?
                .query_row([], |row| {
                    let (oldest, newest): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
                    Ok(oldest
                        .zip(newest)
                        .map(|(oldest, newest)| (oldest.unsigned_abs(), newest.unsigned_abs())))
                })
        })
    }

    /// The value of a fact, if it was set.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::BadFact`] when it is of another kind.
    pub fn fact<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.ask(|connection| {
            connection
                .prepare_cached("SELECT value FROM facts WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|source| StoreError::BadFact {
            key: key.into(),
            path: self.path.clone(),
            source,
        })
    }

    /// The programs known to be bad, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        self.ask(|connection| {
            connection
                .prepare_cached("SELECT name, sha256, at_ms, reason FROM pins ORDER BY name, at_ms")?
                .query_map([], |row| {
                    Ok(Pin { name: row.get(0)?, sha256: row.get(1)?, at: wall(row)?, reason: row.get(3)? })
                })?
                .collect()
        })
    }

    fn journal_rows(&self, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<JournalRow>, StoreError> {
        self.rows("a journal record", sql, values, |row, seq, record| {
            Ok(JournalRow { seq, at: wall(row)?, upgrade: row.get(3)?, record })
        })
    }

    /// Rows whose first three columns are number, JSON and time.
    fn rows<T>(
        &self,
        what: &'static str,
        sql: &str,
        values: &[&dyn ToSql],
        make: impl Fn(&Row<'_>, u64, Value) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let parsed: Vec<Result<T, (u64, serde_json::Error)>> = self.ask(|connection| {
            connection
                .prepare_cached(sql)?
                .query_map(values, |row| {
                    let seq = row.get::<_, i64>(0)?.unsigned_abs();
                    match serde_json::from_str(row.get_ref(1)?.as_str()?) {
                        Ok(value) => make(row, seq, value).map(Ok),
                        Err(error) => Ok(Err((seq, error))),
                    }
                })?
                .collect()
        })?;
        parsed.into_iter().collect::<Result<_, _>>().map_err(|(seq, source)| StoreError::BadRow {
            what,
            seq,
            path: self.path.clone(),
            source,
        })
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        question(&self.connection).map_err(|source| error(&self.path, "read", source))
    }
}

/// The time of a row: always its third column.
fn wall(row: &Row<'_>) -> rusqlite::Result<WallMs> {
    row.get::<_, i64>(2).map(|ms| WallMs(ms.unsigned_abs()))
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
