//! What edges reported on events.

use relay_schemas::{Seq, StoredReport};
use worker::{Result, SqlStorageValue as Value};

use super::{SqlLogStorage, rows, values::integer, values::text};

pub(super) fn save(storage: &SqlLogStorage, seq: Seq, report: &StoredReport) -> Result<()> {
    storage.write(
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

pub(super) fn of(storage: &SqlLogStorage, seq: Seq) -> Result<Vec<StoredReport>> {
    all(storage, "SELECT report FROM report WHERE seq = ? ORDER BY at, status", seq.get())
}

pub(super) fn latest(storage: &SqlLogStorage, count: usize) -> Result<Vec<StoredReport>> {
    all(storage, "SELECT report FROM report ORDER BY seq DESC LIMIT ?", count as u64)
}

pub(super) fn delete_until(storage: &SqlLogStorage, last: Seq) -> Result<()> {
    storage.write("DELETE FROM report WHERE seq <= ?", vec![integer(last.get())])
}

fn all(storage: &SqlLogStorage, query: &str, value: u64) -> Result<Vec<StoredReport>> {
    rows(&storage.sql.exec(query, vec![integer(value)])?)
        .map(|row| Ok(serde_json::from_str(text(&row?, 0)?)?))
        .collect()
}
