//! What can be written, as parts of one transaction.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{ToSql, Transaction};
use serde::Serialize;
use wemixvisor_core::time::WallMs;

use super::{StoreError, error, sqlite};
use crate::digest::Digest;
use crate::trial::fault;

/// How many events are kept: a client that was away for longer reads the state anew.
pub const KEPT_EVENTS: u64 = 10_000;

/// Of how many ended upgrades the journal is kept.
pub const KEPT_UPGRADES: u64 = 50;

/// The parts of one transaction, all with the same time.
#[derive(Debug)]
pub struct Batch<'a> {
    path: &'a Path,
    transaction: &'a Transaction<'a>,
    at_ms: i64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(path: &'a Path, transaction: &'a Transaction<'a>) -> Self {
        Self { path, transaction, at_ms: now_ms() }
    }

    /// The time of everything in it.
    pub fn at(&self) -> WallMs {
        WallMs(self.at_ms.unsigned_abs())
    }

    /// Adds a record to the journal of an upgrade that goes on; the answer is its number.
    ///
    /// # Errors
    /// [`StoreError`], as in all of these.
    pub fn journal(&mut self, upgrade: &str, record: &impl Serialize) -> Result<u64, StoreError> {
        let record = json("a journal record", record)?;
        self.insert(
            "INSERT INTO journal (at_ms, upgrade, record) VALUES (?1, ?2, ?3)",
            &[&self.at_ms, &upgrade, &record],
        )
    }

    /// Ends the journal of an upgrade: its records are no longer part of [`journal`](super::Reader::journal),
    /// and are kept for [`journal_of`](super::Reader::journal_of) until [`KEPT_UPGRADES`] others have ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn clear_journal(&mut self, upgrade: &str) -> Result<(), StoreError> {
        self.execute(
            "UPDATE journal SET ended = (SELECT max(seq) FROM journal WHERE upgrade = ?1 AND ended IS NULL)
             WHERE upgrade = ?1 AND ended IS NULL",
            &[&upgrade],
        )?;
        self.execute(
            "DELETE FROM journal WHERE ended <=
                 (SELECT DISTINCT ended FROM journal WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT 1 OFFSET ?1)",
            &[&(KEPT_UPGRADES as i64)],
        )?;
        Ok(())
    }

    /// Adds an entry to the history, which is kept for ever; the answer is its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history(&mut self, entry: &impl Serialize) -> Result<u64, StoreError> {
        let entry = json("a history entry", entry)?;
        self.insert("INSERT INTO history (at_ms, entry) VALUES (?1, ?2)", &[&self.at_ms, &entry])
    }

    /// Adds an event and drops the one that is now too old; the answer is its number. Numbers have no gaps.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn event(&mut self, topic: &str, kind: &str, data: &impl Serialize) -> Result<u64, StoreError> {
        let data = json("an event", data)?;
        let seq = self.insert(
            "INSERT INTO events (at_ms, topic, type, data) VALUES (?1, ?2, ?3, ?4)",
            &[&self.at_ms, &topic, &kind, &data],
        )?;
        if seq > KEPT_EVENTS {
            self.execute("DELETE FROM events WHERE seq <= ?1", &[&((seq - KEPT_EVENTS) as i64)])?;
        }
        Ok(seq)
    }

    /// Sets a fact, replacing its value.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_fact(&mut self, key: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let value = json("a fact", value)?;
        self.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?1, ?2)", &[&key, &value])?;
        Ok(())
    }

    /// Pins a program as bad: under this name, with this content.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn pin(&mut self, name: &str, sha256: &Digest, reason: &str) -> Result<(), StoreError> {
        self.execute(
            "INSERT OR REPLACE INTO pins (name, sha256, reason, at_ms) VALUES (?1, ?2, ?3, ?4)",
            &[&name, &sha256.to_string(), &reason, &self.at_ms],
        )?;
        Ok(())
    }

    /// Takes back every pin of a name; the answer is whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unpin(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM pins WHERE name = ?1", &[&name])? > 0)
    }

    fn insert(&self, sql: &str, values: &[&dyn ToSql]) -> Result<u64, StoreError> {
        self.execute(sql, values)?;
        Ok(self.transaction.last_insert_rowid().unsigned_abs())
    }

    fn execute(&self, sql: &str, values: &[&dyn ToSql]) -> Result<usize, StoreError> {
        fault("store.write").map_err(|source| error(self.path, "write to", sqlite(&source)))?;
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values))
            .map_err(|source| error(self.path, "write to", source))
    }
}

fn json(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::NotJson { what, source })
}

#[allow(clippy::disallowed_methods)] // The time of a record, for people; nothing is decided by it.
fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
