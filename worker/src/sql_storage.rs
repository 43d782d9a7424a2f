use std::{cell::Cell, rc::Rc};

use relay_durable::{LogHead, LogRow, LogStorage, RowIndex};
use relay_schemas::{EdgeId, EventId, Seq, StoredReport, UnixMillis};
use worker::{Error, Result, SqlCursor, SqlStorage as PlatformSql, SqlStorageValue as Value};

/// Greatest text of one row. The platform's limit for a row is 2 MB.
const PART_BYTES_MAX: usize = 1024 * 1024;

/// The stored format, version 1. No secondary index anywhere: each would cost a billed write per
/// row. `records` are UTF-8 in a blob, which passes between wasm and SQLite without a conversion to
/// UTF-16; read them with `CAST(records AS TEXT)`. `ids` stands before `records`, so that waking reads ids without the pages of the records.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS head (
  id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL,
  epoch TEXT NOT NULL, trimmed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS log (
  first INTEGER NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL, last INTEGER NOT NULL,
  appended_at INTEGER NOT NULL, received_at_max INTEGER NOT NULL,
  ids BLOB NOT NULL, records BLOB NOT NULL, PRIMARY KEY (first, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS report (
  seq INTEGER NOT NULL, edge TEXT NOT NULL, status TEXT NOT NULL, at INTEGER NOT NULL,
  report TEXT NOT NULL, PRIMARY KEY (seq, edge, status)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revocation (
  edge TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
";

const INDEX_COLUMNS: &str = "first, ids, appended_at, received_at_max";

/// A stream's storage in its object's SQLite.
#[derive(Clone)]
pub(crate) struct SqlLogStorage {
    sql: PlatformSql,
    rows_written: Rc<Cell<u64>>,
}

impl SqlLogStorage {
    /// Opens the storage and makes its tables.
    pub(crate) fn open(sql: PlatformSql) -> Result<Self> {
        sql.exec(SCHEMA, None)?;
        Ok(Self { sql, rows_written: Rc::default() })
    }

    /// Row writes since the object woke, as the platform bills them.
    pub(crate) fn rows_written(&self) -> u64 {
        self.rows_written.get()
    }

    /// Bytes of the database.
    pub(crate) fn bytes(&self) -> usize {
        self.sql.database_size()
    }

    fn write(&self, statement: &str, values: Vec<Value>) -> Result<()> {
        let cursor = self.sql.exec(statement, values)?;
        self.rows_written.set(self.rows_written.get() + cursor.rows_written() as u64);
        Ok(())
    }

    fn first_row(&self, query: &str, values: Vec<Value>) -> Result<Option<Vec<Value>>> {
        rows(&self.sql.exec(query, values)?).next().transpose()
    }

    fn index(&self, query: &str, values: Vec<Value>) -> Result<Option<RowIndex>> {
        self.first_row(query, values)?.map(|row| read_index(&row)).transpose()
    }
}

fn rows(cursor: &SqlCursor) -> impl Iterator<Item = Result<Vec<Value>>> + use<> {
    cursor.raw()
}

impl LogStorage for SqlLogStorage {
    type Error = Error;

    fn load_head(&self) -> Result<Option<LogHead>> {
        let Some(row) = self.first_row("SELECT epoch, trimmed FROM head", vec![])? else {
            return Ok(None);
        };
        let epoch = text(&row, 0)?.parse().map_err(|_| corrupt("epoch"))?;
        Ok(Some(LogHead { epoch, trimmed: Seq::new(number(&row, 1)?) }))
    }

    fn save_head(&mut self, head: &LogHead) -> Result<()> {
        self.write(
            "INSERT INTO head (id, version, epoch, trimmed) VALUES (1, 1, ?, ?)
             ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, trimmed = excluded.trimmed",
            vec![Value::String(head.epoch.to_string()), integer(head.trimmed.get())],
        )
    }

    fn insert(&mut self, row: &LogRow) -> Result<()> {
        let ids: Vec<u8> = row.index.ids.iter().flat_map(|id| *id.as_bytes()).collect();
        let parts: Vec<&str> = parts_of(&row.records).collect();
        // The first part last: without it the others are not there, so that a write that fails
        // in between leaves nothing, and its repetition replaces them. The first itself is never
        // replaced: an event's content doesn't change.
        for (part, records) in parts.iter().enumerate().rev() {
            let verb = if part == 0 { "INSERT" } else { "INSERT OR REPLACE" };
            let statement = format!(
                "{verb} INTO log
                 (first, part, parts, last, appended_at, received_at_max, ids, records)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            );
            self.write(
                &statement,
                vec![
                    integer(row.index.first.get()),
                    integer(part as u64),
                    integer(parts.len() as u64),
                    integer(row.index.last().get()),
                    integer(row.index.appended_at.get()),
                    integer(row.index.received_at_max.get()),
                    Value::Blob(if part == 0 { ids.clone() } else { Vec::new() }),
                    Value::Blob(records.as_bytes().to_vec()),
                ],
            )?;
        }
        Ok(())
    }

    fn delete_until(&mut self, last: Seq) -> Result<()> {
        let last = integer(last.get());
        self.write("DELETE FROM log WHERE first <= ?1 AND last <= ?1", vec![last.clone()])?;
        self.write("DELETE FROM report WHERE seq <= ?", vec![last])
    }

    fn row_at(&self, seq: Seq) -> Result<Option<LogRow>> {
        let cursor = self.sql.exec(
            "SELECT log.first, log.ids, log.appended_at, log.received_at_max, log.records
             FROM (SELECT first, parts FROM log WHERE first <= ?1 AND part = 0
                   ORDER BY first DESC LIMIT 1) AS head
             JOIN log ON log.first = head.first AND log.part < head.parts
             WHERE log.last >= ?1 ORDER BY log.part",
            vec![integer(seq.get())],
        )?;
        let mut found: Option<LogRow> = None;
        for row in rows(&cursor) {
            let row = row?;
            match &mut found {
                Some(found) => found.records.push_str(records(row)?.as_str()),
                None => found = Some(LogRow { index: read_index(&row)?, records: records(row)? }),
            }
        }
        Ok(found)
    }

    fn visit_newest_first(&self, visit: &mut dyn FnMut(RowIndex) -> bool) -> Result<()> {
        let query = format!("SELECT {INDEX_COLUMNS} FROM log WHERE part = 0 ORDER BY first DESC");
        for row in rows(&self.sql.exec(&query, vec![])?) {
            if !visit(read_index(&row?)?) {
                break;
            }
        }
        Ok(())
    }

    fn oldest(&self) -> Result<Option<RowIndex>> {
        self.index(
            &format!("SELECT {INDEX_COLUMNS} FROM log WHERE part = 0 ORDER BY first LIMIT 1"),
            vec![],
        )
    }

    fn first_received_since(&self, at: UnixMillis) -> Result<Option<RowIndex>> {
        let query = format!(
            "SELECT {INDEX_COLUMNS} FROM log WHERE part = 0 AND received_at_max >= ? ORDER BY first LIMIT 1"
        );
        self.index(&query, vec![integer(at.get())])
    }

    fn save_report(&mut self, seq: Seq, report: &StoredReport) -> Result<()> {
        self.write(
            "INSERT INTO report (seq, edge, status, at, report) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET at = excluded.at, report = excluded.report",
            vec![
                integer(seq.get()),
                Value::String(report.edge.clone()),
                Value::String(report.status.as_str().to_owned()),
                integer(report.at.get()),
                Value::String(serde_json::to_string(report)?),
            ],
        )
    }

    fn reports(&self, seq: Seq) -> Result<Vec<StoredReport>> {
        let query = "SELECT report FROM report WHERE seq = ? ORDER BY at, status";
        rows(&self.sql.exec(query, vec![integer(seq.get())])?)
            .map(|row| Ok(serde_json::from_str(text(&row?, 0)?)?))
            .collect()
    }

    fn save_revocation(&mut self, edge: &EdgeId, at: UnixMillis) -> Result<()> {
        self.write(
            "INSERT INTO revocation (edge, at) VALUES (?, ?) ON CONFLICT DO NOTHING",
            vec![Value::String(edge.to_string()), integer(at.get())],
        )
    }

    fn is_revoked(&self, edge: &EdgeId) -> Result<bool> {
        let query = "SELECT at FROM revocation WHERE edge = ?";
        Ok(self.first_row(query, vec![Value::String(edge.to_string())])?.is_some())
    }
}

/// Splits where characters end.
fn parts_of(records: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(records);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = text.floor_char_boundary(PART_BYTES_MAX);
        rest = (end < text.len()).then(|| &text[end..]);
        Some(&text[..end])
    })
}

fn read_index(row: &[Value]) -> Result<RowIndex> {
    let Some(Value::Blob(ids)) = row.get(1) else { return Err(corrupt("ids")) };
    let (ids, rest) = ids.as_chunks::<{ EventId::LENGTH }>();
    if ids.is_empty() || !rest.is_empty() {
        return Err(corrupt("ids"));
    }
    Ok(RowIndex {
        first: Seq::new(number(row, 0)?),
        ids: ids.iter().map(|id| EventId::from_bytes(*id)).collect(),
        appended_at: UnixMillis::new(number(row, 2)?),
        received_at_max: UnixMillis::new(number(row, 3)?),
    })
}

/// Positions and times are below 2^53, which passes through JavaScript exactly.
fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn number(row: &[Value], column: usize) -> Result<u64> {
    match row.get(column) {
        Some(Value::Integer(value)) => u64::try_from(*value).map_err(|_| corrupt("number")),
        _ => Err(corrupt("number")),
    }
}

fn text(row: &[Value], column: usize) -> Result<&str> {
    match row.get(column) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(corrupt("text")),
    }
}

fn records(mut row: Vec<Value>) -> Result<String> {
    match row.pop() {
        Some(Value::Blob(bytes)) => String::from_utf8(bytes).map_err(|_| corrupt("records")),
        _ => Err(corrupt("records")),
    }
}

fn corrupt(what: &str) -> Error {
    Error::RustError(format!("stored {what} can't be read"))
}
