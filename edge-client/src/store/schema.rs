use std::time::Duration;

use rusqlite::Connection;

use super::StoreError;

/// `EdRe` in ASCII, so that `file` and we can tell whose file it is.
const APPLICATION_ID: i32 = 0x4564_5265;

/// One entry for each version of the stored format: what leads to it from the one before.
const VERSIONS: [&str; 4] = [
    "
    CREATE TABLE stream (
        key INTEGER PRIMARY KEY,
        relay TEXT NOT NULL,
        edge TEXT NOT NULL,
        cursor TEXT,
        UNIQUE (relay, edge)
    ) STRICT;
    CREATE TABLE handled (
        stream INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        number INTEGER NOT NULL,
        id BLOB NOT NULL,
        PRIMARY KEY (stream, slot)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        stream INTEGER NOT NULL,
        report TEXT NOT NULL
    ) STRICT;
",
    // A cursor for each channel; an empty one is the credential's own person's. The outbox holds
    // activities, too, from here on.
    "
    CREATE TABLE stream_by_channel (
        key INTEGER PRIMARY KEY,
        relay TEXT NOT NULL,
        edge TEXT NOT NULL,
        channel TEXT NOT NULL,
        cursor TEXT,
        UNIQUE (relay, edge, channel)
    ) STRICT;
    INSERT INTO stream_by_channel SELECT key, relay, edge, '', cursor FROM stream;
    DROP TABLE stream;
    ALTER TABLE stream_by_channel RENAME TO stream;
",
    // How many machines had been given an event that was given up here; null where it was handled.
    "
    ALTER TABLE handled ADD COLUMN given_up_at INTEGER;
",
    // A cursor for each person, whichever machine that person has signed in here. Until the person
    // of a row from before is known, it has the edge; nulls are never the same.
    "
    CREATE TABLE stream_by_person (
        key INTEGER PRIMARY KEY,
        relay TEXT NOT NULL,
        organization TEXT,
        user TEXT,
        edge TEXT,
        channel TEXT NOT NULL,
        cursor TEXT,
        UNIQUE (relay, organization, user, channel)
    ) STRICT;
    INSERT INTO stream_by_person (key, relay, edge, channel, cursor)
        SELECT key, relay, edge, channel, cursor FROM stream;
    DROP TABLE stream;
    ALTER TABLE stream_by_person RENAME TO stream;
",
];

/// A client that was just ended may still be closing its file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Locks the database and brings it to the newest version.
pub(super) fn prepare(database: &mut Connection) -> Result<(), StoreError> {
    database.busy_timeout(BUSY_TIMEOUT)?;
    // Exclusive: the first write locks the file until the connection ends, however it ends. Full:
    // a commit survives a power cut, so nothing that was reported as done is done again.
    database.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA cache_size = -512;
         PRAGMA journal_size_limit = 1048576;",
    )?;
    let transaction =
        database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let application_id: i32 =
        transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: usize = transaction.pragma_query_value(None, "user_version", |row| {
        row.get::<_, i64>(0).map(|version| usize::try_from(version).unwrap_or(usize::MAX))
    })?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application_id != APPLICATION_ID && (tables > 0 || version > 0) {
        return Err(StoreError::Foreign(
            "this database is not edgerelay's: name another file with --state PATH".into(),
        ));
    }
    if version > VERSIONS.len() {
        return Err(StoreError::Foreign(format!(
            "the state has version {version}, this edgerelay knows {}: update edgerelay, or name \
             another file with --state PATH",
            VERSIONS.len()
        )));
    }
    for step in &VERSIONS[version..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSIONS.len() as i64)?;
    transaction.commit()?;
    Ok(())
}
