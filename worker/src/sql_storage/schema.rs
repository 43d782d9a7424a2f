use worker::{Result, SqlStorage};

/// The stored format, version 2. No secondary index anywhere: each would cost a billed write per
/// row. `records` are UTF-8 in a blob, which passes between wasm and SQLite without a conversion
/// to UTF-16; read them with `CAST(records AS TEXT)`. `ids` stands before `records`, so that
/// waking reads ids without the pages of the records. A segment without an entry is planned.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS head (
  id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL,
  epoch TEXT NOT NULL, trimmed INTEGER NOT NULL, stream TEXT);
CREATE TABLE IF NOT EXISTS log (
  first INTEGER NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL, last INTEGER NOT NULL,
  appended_at_min INTEGER NOT NULL, appended_at_max INTEGER NOT NULL,
  received_at_max INTEGER NOT NULL, bytes INTEGER NOT NULL,
  ids BLOB NOT NULL, records BLOB NOT NULL, PRIMARY KEY (first, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segment (
  first INTEGER PRIMARY KEY, last INTEGER NOT NULL, appended_at_max INTEGER,
  received_at_max INTEGER, entry TEXT, ids BLOB);
CREATE TABLE IF NOT EXISTS report (
  seq INTEGER NOT NULL, edge TEXT NOT NULL, status TEXT NOT NULL, at INTEGER NOT NULL,
  report TEXT NOT NULL, PRIMARY KEY (seq, edge, status)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revocation (
  edge TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS assigned (
  id INTEGER PRIMARY KEY CHECK (id = 1), head TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lease (seq INTEGER PRIMARY KEY, lease TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS given_up (
  event TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holder (key TEXT PRIMARY KEY, holder TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edge (edge TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
";

/// Version 1 knew one time of a row and not its size.
const FROM_VERSION_1: &str = "
ALTER TABLE log RENAME TO log_1;
ALTER TABLE head ADD COLUMN stream TEXT;
CREATE TABLE log (
  first INTEGER NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL, last INTEGER NOT NULL,
  appended_at_min INTEGER NOT NULL, appended_at_max INTEGER NOT NULL,
  received_at_max INTEGER NOT NULL, bytes INTEGER NOT NULL,
  ids BLOB NOT NULL, records BLOB NOT NULL, PRIMARY KEY (first, part)) WITHOUT ROWID;
INSERT INTO log SELECT first, part, parts, last, appended_at, appended_at, received_at_max,
  CASE part WHEN 0 THEN (SELECT SUM(length(records)) FROM log_1 AS all_parts
    WHERE all_parts.first = log_1.first AND all_parts.part < log_1.parts) ELSE 0 END,
  ids, records FROM log_1;
DROP TABLE log_1;
";

/// Makes the tables, or brings those of an earlier version up to this one.
pub(super) fn make(sql: &SqlStorage) -> Result<()> {
    let columns = sql.exec("SELECT name FROM pragma_table_info('log')", None)?;
    let is_version_1 =
        columns.raw().flatten().flatten().any(
            |name| matches!(name, worker::SqlStorageValue::String(name) if name == "appended_at"),
        );
    if is_version_1 {
        sql.exec(FROM_VERSION_1, None)?;
    }
    sql.exec(SCHEMA, None)?;
    Ok(())
}
