mod assigned;
mod rebuild;
mod reports;
mod schema;
mod segments;
pub(crate) mod values;

use std::{cell::Cell, rc::Rc};

use relay_durable::{
    AssignedHead, EdgeRecord, Holder, Lease, LogHead, LogRow, LogStorage, Rebuilt, RowIndex,
    SealPlan, SegmentIds, SegmentRow,
};
use relay_schemas::{EdgeId, EventId, SegmentEntry, Seq, StoredReport, StreamKey, UnixMillis};
use worker::{Error, Result, SqlCursor, SqlStorage as PlatformSql, SqlStorageValue as Value};

use self::values::{blob_of, corrupt, ids_of, integer, number, text};

/// Greatest text of one row. The platform's limit for a row is 2 MB.
const PART_BYTES_MAX: usize = 1024 * 1024;

const INDEX_COLUMNS: &str = "first, ids, appended_at_min, appended_at_max, received_at_max, bytes";

/// A stream's storage in its object's SQLite.
#[derive(Clone)]
pub(crate) struct SqlLogStorage {
    sql: PlatformSql,
    rows_written: Rc<Cell<u64>>,
}

impl SqlLogStorage {
    /// Opens the storage and makes its tables.
    pub(crate) fn open(sql: PlatformSql) -> Result<Self> {
        schema::make(&sql)?;
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

    /// The newest position of an event in a table of runs. SQLite looks through the blobs; a hit
    /// that doesn't begin where an id begins is chance, and then the ids are compared one by one.
    fn position_in(&self, table: &str, id: EventId) -> Result<Option<Seq>> {
        let query = format!(
            "SELECT first, ids, instr(ids, ?1) FROM {table} WHERE instr(ids, ?1) > 0
             ORDER BY first DESC"
        );
        for row in rows(&self.sql.exec(&query, vec![Value::Blob(id.as_bytes().to_vec())])?) {
            let row = row?;
            let place = (number(&row, 2)? - 1) as usize;
            let is_aligned = place.is_multiple_of(EventId::LENGTH);
            let index = match is_aligned {
                true => Some(place / EventId::LENGTH),
                false => ids_of(row.get(1))?.iter().position(|known| *known == id),
            };
            if let Some(index) = index {
                return Ok(Some(Seq::new(number(&row, 0)?).plus(index as u64)));
            }
        }
        Ok(None)
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
        let Some(row) = self.first_row("SELECT epoch, trimmed, stream FROM head", vec![])? else {
            return Ok(None);
        };
        let epoch = text(&row, 0)?.parse().map_err(|_| corrupt("epoch"))?;
        let stream = match row.get(2) {
            Some(Value::String(name)) => Some(name.parse().map_err(|_| corrupt("stream"))?),
            _ => None,
        };
        Ok(Some(LogHead { epoch, trimmed: Seq::new(number(&row, 1)?), stream }))
    }

    fn save_head(&mut self, head: &LogHead) -> Result<()> {
        let stream = head.stream.as_ref();
        self.write(
            "INSERT INTO head (id, version, epoch, trimmed, stream) VALUES (1, 2, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE
             SET epoch = excluded.epoch, trimmed = excluded.trimmed, stream = excluded.stream",
            vec![
                Value::String(head.epoch.to_string()),
                integer(head.trimmed.get()),
                stream.map_or(Value::Null, |stream| Value::String(stream.to_string())),
            ],
        )
    }

    fn insert(&mut self, row: &LogRow) -> Result<()> {
        let ids = blob_of(&row.index.ids);
        let parts: Vec<&str> = parts_of(&row.records).collect();
        // The first part last: without it the others are not there, so that a write that fails
        // in between leaves nothing, and its repetition replaces them. The first itself is never
        // replaced: an event's content doesn't change.
        for (part, records) in parts.iter().enumerate().rev() {
            let verb = if part == 0 { "INSERT" } else { "INSERT OR REPLACE" };
            let statement = format!(
                "{verb} INTO log
                 (first, part, parts, last, appended_at_min, appended_at_max, received_at_max,
                  bytes, ids, records)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            );
            self.write(
                &statement,
                vec![
                    integer(row.index.first.get()),
                    integer(part as u64),
                    integer(parts.len() as u64),
                    integer(row.index.last().get()),
                    integer(row.index.appended_at_min.get()),
                    integer(row.index.appended_at_max.get()),
                    integer(row.index.received_at_max.get()),
                    integer(if part == 0 { row.index.bytes } else { 0 }),
                    Value::Blob(if part == 0 { ids.clone() } else { Vec::new() }),
                    Value::Blob(records.as_bytes().to_vec()),
                ],
            )?;
        }
        Ok(())
    }

    fn extend(&mut self, first: Seq, row: &LogRow) -> Result<()> {
        self.write(
            "UPDATE log SET last = ?, appended_at_max = ?, bytes = bytes + 1 + ?,
             received_at_max = MAX(received_at_max, ?), ids = CAST(ids || ? AS BLOB),
             records = CAST(records || char(10) || ? AS BLOB)
             WHERE first = ? AND part = 0",
            vec![
                integer(row.index.last().get()),
                integer(row.index.appended_at_max.get()),
                integer(row.index.bytes),
                integer(row.index.received_at_max.get()),
                Value::Blob(blob_of(&row.index.ids)),
                Value::Blob(row.records.as_bytes().to_vec()),
                integer(first.get()),
            ],
        )
    }

    fn delete_until(&mut self, last: Seq) -> Result<()> {
        let last = integer(last.get());
        self.write("DELETE FROM log WHERE first <= ?1 AND last <= ?1", vec![last])
    }

    fn row_at(&self, seq: Seq) -> Result<Option<LogRow>> {
        let cursor = self.sql.exec(
            "SELECT log.first, log.ids, log.appended_at_min, log.appended_at_max,
                    log.received_at_max, log.bytes, log.records
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

    fn first_after(&self, after: Seq) -> Result<Option<RowIndex>> {
        let query = format!(
            "SELECT {INDEX_COLUMNS} FROM log WHERE part = 0 AND last > ? ORDER BY first LIMIT 1"
        );
        self.index(&query, vec![integer(after.get())])
    }

    fn first_received_since(&self, after: Seq, at: UnixMillis) -> Result<Option<RowIndex>> {
        let query = format!(
            "SELECT {INDEX_COLUMNS} FROM log
             WHERE first > ? AND part = 0 AND received_at_max >= ? ORDER BY first LIMIT 1"
        );
        self.index(&query, vec![integer(after.get()), integer(at.get())])
    }

    fn bytes_after(&self, after: Seq) -> Result<u64> {
        let query = "SELECT COALESCE(SUM(bytes), 0) FROM log WHERE first > ?";
        let row = self.first_row(query, vec![integer(after.get())])?;
        row.map_or(Ok(0), |row| number(&row, 0))
    }

    fn position_of(&self, id: EventId) -> Result<Option<Seq>> {
        for table in ["log", "segment"] {
            if let Some(seq) = self.position_in(table, id)? {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    fn load_plan(&self) -> Result<Option<SealPlan>> {
        segments::load_plan(self)
    }

    fn save_plan(&mut self, plan: Option<SealPlan>) -> Result<()> {
        segments::save_plan(self, plan)
    }

    fn save_segment(&mut self, segment: &SegmentRow) -> Result<()> {
        segments::save(self, segment)
    }

    fn segments_after(&self, after: Seq, count: usize) -> Result<Vec<SegmentEntry>> {
        segments::after(self, after, count)
    }

    fn segments_until(&self, at: Seq, count: usize) -> Result<Vec<SegmentEntry>> {
        segments::until(self, at, count)
    }

    fn segment_received_since(&self, at: UnixMillis) -> Result<Option<SegmentEntry>> {
        segments::received_since(self, at)
    }

    fn oldest_segment_appended_at(&self) -> Result<Option<UnixMillis>> {
        segments::oldest_appended_at(self)
    }

    fn segments_appended_until(&self, at: UnixMillis) -> Result<Vec<SegmentEntry>> {
        segments::appended_until(self, at)
    }

    fn visit_segments_newest_first(&self, visit: &mut dyn FnMut(SegmentIds) -> bool) -> Result<()> {
        segments::visit_newest_first(self, visit)
    }

    fn segment_totals(&self) -> Result<(u64, u64)> {
        segments::totals(self)
    }

    fn delete_segments_until(&mut self, last: Seq) -> Result<()> {
        self.write("DELETE FROM segment WHERE last <= ?", vec![integer(last.get())])
    }

    fn rebuild(&mut self, stream: &StreamKey, rebuilt: &Rebuilt) -> Result<()> {
        rebuild::rebuild(self, stream, rebuilt)
    }

    fn save_report(&mut self, seq: Seq, report: &StoredReport) -> Result<()> {
        reports::save(self, seq, report)
    }

    fn reports(&self, seq: Seq) -> Result<Vec<StoredReport>> {
        reports::of(self, seq)
    }

    fn delete_reports_until(&mut self, last: Seq) -> Result<()> {
        reports::delete_until(self, last)
    }

    fn latest_reports(&self, count: usize) -> Result<Vec<StoredReport>> {
        reports::latest(self, count)
    }

    fn load_assigned(&self) -> Result<Option<AssignedHead>> {
        assigned::load_head(self)
    }

    fn save_assigned(&mut self, head: &AssignedHead) -> Result<()> {
        assigned::save_head(self, head)
    }

    fn clear_assigned(&mut self) -> Result<()> {
        assigned::clear(self)
    }

    fn load_leases(&self) -> Result<Vec<Lease>> {
        assigned::load_leases(self)
    }

    fn save_lease(&mut self, lease: &Lease) -> Result<()> {
        assigned::save_lease(self, lease)
    }

    fn delete_lease(&mut self, seq: Seq) -> Result<()> {
        assigned::delete_lease(self, seq)
    }

    fn given_up(&self, id: EventId) -> Result<Option<Seq>> {
        assigned::given_up(self, id)
    }

    fn count_given_up(&self) -> Result<u64> {
        assigned::count_given_up(self)
    }

    fn save_given_up(&mut self, id: EventId, seq: Seq) -> Result<()> {
        assigned::save_given_up(self, id, seq)
    }

    fn delete_given_up(&mut self, id: EventId) -> Result<()> {
        assigned::delete_given_up(self, id)
    }

    fn delete_given_up_until(&mut self, last: Seq) -> Result<()> {
        assigned::delete_given_up_until(self, last)
    }

    fn load_holders(&self) -> Result<Vec<Holder>> {
        assigned::load_holders(self)
    }

    fn save_holder(&mut self, holder: &Holder) -> Result<()> {
        assigned::save_holder(self, holder)
    }

    fn delete_holder(&mut self, key: &str) -> Result<()> {
        assigned::delete_holder(self, key)
    }

    fn load_edges(&self) -> Result<Vec<EdgeRecord>> {
        assigned::load_edges(self)
    }

    fn save_edge(&mut self, record: &EdgeRecord) -> Result<()> {
        assigned::save_edge(self, record)
    }

    fn delete_edge(&mut self, edge: &EdgeId) -> Result<()> {
        assigned::delete_edge(self, edge)
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
    Ok(RowIndex {
        first: Seq::new(number(row, 0)?),
        ids: ids_of(row.get(1))?,
        appended_at_min: UnixMillis::new(number(row, 2)?),
        appended_at_max: UnixMillis::new(number(row, 3)?),
        received_at_max: UnixMillis::new(number(row, 4)?),
        bytes: number(row, 5)?,
    })
}

fn records(mut row: Vec<Value>) -> Result<String> {
    match row.pop() {
        Some(Value::Blob(bytes)) => String::from_utf8(bytes).map_err(|_| corrupt("records")),
        _ => Err(corrupt("records")),
    }
}
