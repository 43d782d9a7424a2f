//! What a client remembers, in one SQLite file: the cursor, the events handled lately, and the
//! things that the relay is to be told and has not taken yet.

mod identity;
mod keeper;
mod schema;

use std::{io, path::Path};

use relay_schemas::{Cursor, EventId};
use rusqlite::{Connection, ErrorCode, Transaction, params};

pub use self::{
    identity::StreamIdentity,
    keeper::{Keeper, KeeperThread},
};
use crate::{
    dispatch::Dispatch,
    limits::{OUTBOX_EVICTED, OUTBOX_REPORTS_MAX, RECENT_IDS_MAX},
    session::{Batch, Handled, Restored},
};

/// The state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "another edgerelay uses this state; end it, or give this one its own with --state PATH"
    )]
    Locked,
    /// Not ours, or from the future.
    #[error("{0}")]
    Foreign(String),
    /// The file or its directory.
    #[error("{0}")]
    File(#[from] io::Error),
    /// SQLite.
    #[error("{0}")]
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::NotADatabase) => {
                Self::Foreign("this file is not edgerelay's: name another with --state PATH".into())
            }
            _ => Self::Database(error),
        }
    }
}

/// Something that the relay is to be told, and has not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place: the outbox is sent in this order.
    pub number: i64,
    /// What to send.
    pub dispatch: Dispatch,
}

/// One stream's state. Exclusive: a second one on the same file is refused while this one lives.
#[derive(Debug)]
pub struct Store {
    database: Connection,
    stream: i64,
    next_handled: i64,
}

impl Store {
    /// Opens or creates the file, and what it knows about the stream.
    pub fn open(path: &Path, identity: &StreamIdentity) -> Result<(Self, Restored), StoreError> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        Self::start(Connection::open(path)?, identity)
    }

    /// A state that ends with the process.
    pub fn open_in_memory(identity: &StreamIdentity) -> Result<(Self, Restored), StoreError> {
        Self::start(Connection::open_in_memory()?, identity)
    }

    fn start(
        mut database: Connection,
        identity: &StreamIdentity,
    ) -> Result<(Self, Restored), StoreError> {
        schema::prepare(&mut database)?;
        let stream = identity.find(&database)?;
        let restored = restore(&database, stream)?;
        let next_handled = database.query_row(
            "SELECT coalesce(max(number), -1) + 1 FROM handled WHERE stream = ?1",
            [stream],
            |row| row.get(0),
        )?;
        Ok((Self { database, stream, next_handled }, restored))
    }

    /// Forgets cursor and handled events; reports that wait are kept.
    pub fn reset(&mut self) -> Result<(), StoreError> {
        let transaction = self.database.transaction()?;
        transaction.execute("UPDATE stream SET cursor = NULL WHERE key = ?1", [self.stream])?;
        transaction.execute("DELETE FROM handled WHERE stream = ?1", [self.stream])?;
        transaction.commit()?;
        Ok(())
    }

    /// Makes a batch durable, whole or not at all: a crash before the commit means that its
    /// events come again, a crash after it that they do not.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let transaction = self.database.transaction()?;
        if let Some(cursor) = batch.cursor {
            transaction
                .prepare_cached("UPDATE stream SET cursor = ?2 WHERE key = ?1")?
                .execute(params![self.stream, cursor.to_string()])?;
        }
        let newest = batch.handled.len().saturating_sub(RECENT_IDS_MAX);
        let next =
            insert_handled(&transaction, self.stream, self.next_handled, &batch.handled[newest..])?;
        insert_dispatches(&transaction, self.stream, &batch.dispatches)?;
        transaction.commit()?;
        self.next_handled = next;
        Ok(())
    }

    /// The oldest that wait, in their order.
    pub fn outbox(&self, count_max: usize) -> Result<Vec<Waiting>, StoreError> {
        let mut statement = self.database.prepare_cached(
            "SELECT number, report FROM outbox WHERE stream = ?1 ORDER BY number LIMIT ?2",
        )?;
        let rows = statement.query_map(
            params![self.stream, i64::try_from(count_max).unwrap_or(i64::MAX)],
            |row| Ok((row.get(0)?, row.get::<_, String>(1)?)),
        )?;
        let mut waiting = Vec::new();
        for row in rows {
            let (number, text) = row?;
            let dispatch = serde_json::from_str(&text).map_err(|_| {
                StoreError::Foreign(format!("entry {number} of the outbox can't be read"))
            })?;
            waiting.push(Waiting { number, dispatch });
        }
        Ok(waiting)
    }

    /// How many wait.
    pub fn outbox_length(&self) -> Result<u64, StoreError> {
        let count = self.database.query_row(
            "SELECT count(*) FROM outbox WHERE stream = ?1",
            [self.stream],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// These were taken, or never will be.
    pub fn forget_waiting(&mut self, numbers: &[i64]) -> Result<(), StoreError> {
        let transaction = self.database.transaction()?;
        {
            let mut statement =
                transaction.prepare_cached("DELETE FROM outbox WHERE number = ?1")?;
            for number in numbers {
                statement.execute([number])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn restore(database: &Connection, stream: i64) -> Result<Restored, StoreError> {
    let cursor: Option<String> =
        database
            .query_row("SELECT cursor FROM stream WHERE key = ?1", [stream], |row| row.get(0))?;
    let cursor = cursor.map(|text| text.parse::<Cursor>());
    let cursor = cursor
        .transpose()
        .map_err(|error| StoreError::Foreign(format!("the stored cursor is {error}")))?;
    let mut statement = database
        .prepare("SELECT id, given_up_at FROM handled WHERE stream = ?1 ORDER BY number")?;
    let handled = statement
        .query_map([stream], |row| {
            Ok(Handled { id: EventId::from_bytes(row.get(0)?), given_up_at: row.get(1)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Restored { cursor, handled })
}

/// The table is a ring: an event takes the place of the one [`RECENT_IDS_MAX`] before it.
fn insert_handled(
    transaction: &Transaction<'_>,
    stream: i64,
    first: i64,
    events: &[Handled],
) -> Result<i64, StoreError> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO handled (stream, slot, number, id, given_up_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut number = first;
    for event in events {
        statement.execute(params![
            stream,
            number % RECENT_IDS_MAX as i64,
            number,
            event.id.as_bytes(),
            event.given_up_at
        ])?;
        number += 1;
    }
    Ok(number)
}

fn insert_dispatches(
    transaction: &Transaction<'_>,
    stream: i64,
    dispatches: &[Dispatch],
) -> Result<(), StoreError> {
    if dispatches.is_empty() {
        return Ok(());
    }
    let mut statement =
        transaction.prepare_cached("INSERT INTO outbox (stream, report) VALUES (?1, ?2)")?;
    for dispatch in dispatches {
        let text = serde_json::to_string(dispatch).expect("plain fields serialise");
        statement.execute(params![stream, text])?;
    }
    bound_outbox(transaction, stream)
}

/// What a handler has shown goes before what became of an event.
fn bound_outbox(transaction: &Transaction<'_>, stream: i64) -> Result<(), StoreError> {
    let length: i64 = transaction
        .prepare_cached("SELECT count(*) FROM outbox WHERE stream = ?1")?
        .query_row([stream], |row| row.get(0))?;
    let excess = length - OUTBOX_REPORTS_MAX as i64;
    if excess <= 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "DELETE FROM outbox WHERE number IN (
               SELECT number FROM outbox WHERE stream = ?1
               ORDER BY json_type(report, '$.activity') IS NULL, number LIMIT ?2)",
        )?
        .execute(params![stream, excess + OUTBOX_EVICTED as i64])?;
    Ok(())
}
