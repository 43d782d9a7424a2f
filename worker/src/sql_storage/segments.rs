use relay_durable::{SealPlan, SegmentIds, SegmentRow};
use relay_schemas::{SegmentEntry, Seq, UnixMillis};
use worker::{Result, SqlStorageValue as Value};

use super::{
    SqlLogStorage, rows,
    values::{blob_of, ids_of, integer, number, text},
};

pub(super) fn load_plan(storage: &SqlLogStorage) -> Result<Option<SealPlan>> {
    let query = "SELECT first, last FROM segment WHERE entry IS NULL ORDER BY first DESC LIMIT 1";
    let Some(row) = storage.first_row(query, vec![])? else { return Ok(None) };
    Ok(Some(SealPlan { first: Seq::new(number(&row, 0)?), last: Seq::new(number(&row, 1)?) }))
}

pub(super) fn save_plan(storage: &SqlLogStorage, plan: Option<SealPlan>) -> Result<()> {
    match plan {
        Some(plan) => storage.write(
            "INSERT OR REPLACE INTO segment (first, last) VALUES (?, ?)",
            vec![integer(plan.first.get()), integer(plan.last.get())],
        ),
        None => storage.write("DELETE FROM segment WHERE entry IS NULL", vec![]),
    }
}

pub(super) fn save(storage: &SqlLogStorage, segment: &SegmentRow) -> Result<()> {
    let entry = &segment.entry;
    storage.write(
        "INSERT INTO segment (first, last, appended_at_max, received_at_max, entry, ids)
         VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (first) DO UPDATE SET last = excluded.last,
         appended_at_max = excluded.appended_at_max, received_at_max = excluded.received_at_max,
         entry = excluded.entry, ids = excluded.ids",
        vec![
            integer(entry.first.get()),
            integer(entry.last.get()),
            integer(segment.appended_at_max.get()),
            integer(entry.received_at_max.get()),
            Value::String(serde_json::to_string(entry)?),
            Value::Blob(blob_of(&segment.ids)),
        ],
    )
}

/// The first segment is found by its key, so that a long history isn't read from its beginning.
pub(super) fn after(
    storage: &SqlLogStorage,
    after: Seq,
    count: usize,
) -> Result<Vec<SegmentEntry>> {
    entries(
        storage,
        "SELECT entry FROM segment WHERE entry IS NOT NULL AND last > ?1 AND first >= COALESCE(
           (SELECT MAX(first) FROM segment WHERE first <= ?1 + 1 AND entry IS NOT NULL), 0)
         ORDER BY first LIMIT ?2",
        vec![integer(after.get()), integer(count as u64)],
    )
}

pub(super) fn until(storage: &SqlLogStorage, at: Seq, count: usize) -> Result<Vec<SegmentEntry>> {
    entries(
        storage,
        "SELECT entry FROM segment WHERE entry IS NOT NULL AND first <= ?
         ORDER BY first DESC LIMIT ?",
        vec![integer(at.get()), integer(count as u64)],
    )
}

pub(super) fn received_since(
    storage: &SqlLogStorage,
    at: UnixMillis,
) -> Result<Option<SegmentEntry>> {
    let query = "SELECT entry FROM segment WHERE entry IS NOT NULL AND received_at_max >= ?
         ORDER BY first LIMIT 1";
    Ok(entries(storage, query, vec![integer(at.get())])?.pop())
}

pub(super) fn oldest_appended_at(storage: &SqlLogStorage) -> Result<Option<UnixMillis>> {
    let query =
        "SELECT appended_at_max FROM segment WHERE entry IS NOT NULL ORDER BY first LIMIT 1";
    let row = storage.first_row(query, vec![])?;
    row.map(|row| number(&row, 0).map(UnixMillis::new)).transpose()
}

pub(super) fn appended_until(storage: &SqlLogStorage, at: UnixMillis) -> Result<Vec<SegmentEntry>> {
    entries(
        storage,
        "SELECT entry FROM segment WHERE entry IS NOT NULL AND first < COALESCE(
           (SELECT MIN(first) FROM segment WHERE appended_at_max > ?1), ?2) ORDER BY first",
        vec![integer(at.get()), integer(Seq::MAX.get())],
    )
}

pub(super) fn visit_newest_first(
    storage: &SqlLogStorage,
    visit: &mut dyn FnMut(SegmentIds) -> bool,
) -> Result<()> {
    let query = "SELECT first, appended_at_max, ids FROM segment WHERE entry IS NOT NULL
         ORDER BY first DESC";
    for row in rows(&storage.sql.exec(query, vec![])?) {
        let row = row?;
        let segment = SegmentIds {
            first: Seq::new(number(&row, 0)?),
            ids: ids_of(row.get(2))?,
            appended_at_max: UnixMillis::new(number(&row, 1)?),
        };
        if !visit(segment) {
            break;
        }
    }
    Ok(())
}

pub(super) fn totals(storage: &SqlLogStorage) -> Result<(u64, u64)> {
    let query = "SELECT COUNT(*), COALESCE(SUM(json_extract(entry, '$.bytes')), 0)
         FROM segment WHERE entry IS NOT NULL";
    let row = storage.first_row(query, vec![])?;
    row.map_or(Ok((0, 0)), |row| Ok((number(&row, 0)?, number(&row, 1)?)))
}

fn entries(storage: &SqlLogStorage, query: &str, values: Vec<Value>) -> Result<Vec<SegmentEntry>> {
    rows(&storage.sql.exec(query, values)?)
        .map(|row| Ok(serde_json::from_str(text(&row?, 0)?)?))
        .collect()
}
