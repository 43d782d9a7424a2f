use relay_schemas::{
    NewEvent, Seq, UnixMillis,
    limits::{LOG_ROW_BYTES_MAX, LOG_ROW_EXTENDED_BYTES_MAX},
};

use crate::storage::{LogRow, RowIndex};

/// The records of a row with their positions.
pub(super) fn records_of(row: &LogRow) -> impl Iterator<Item = (Seq, &str)> {
    row.records
        .split('\n')
        .enumerate()
        .map(|(place, record)| (Seq::new(row.index.first.get() + place as u64), record))
}

/// Packs events into rows of at most `LOG_ROW_BYTES_MAX`.
pub(super) fn rows_of(events: &[&NewEvent], first: Seq, now: UnixMillis) -> Vec<LogRow> {
    let mut rows: Vec<LogRow> = Vec::new();
    let mut next = first;
    for event in events {
        match rows.last_mut() {
            Some(row) if row.records.len() + event.record.len() < LOG_ROW_BYTES_MAX => {
                row.records.push('\n');
                row.records.push_str(&event.record);
                row.index.ids.push(event.id);
                row.index.received_at_max = row.index.received_at_max.max(event.received_at);
                row.index.bytes = row.records.len() as u64;
            }
            _ => rows.push(LogRow {
                index: RowIndex {
                    first: next,
                    ids: vec![event.id],
                    appended_at_min: now,
                    appended_at_max: now,
                    received_at_max: event.received_at,
                    bytes: event.record.len() as u64,
                },
                records: event.record.clone(),
            }),
        }
        next = next.next();
    }
    rows
}

/// Whether a row may take another's events.
pub(super) fn may_extend(row: &RowIndex, addition: &LogRow) -> bool {
    row.bytes + addition.index.bytes < LOG_ROW_EXTENDED_BYTES_MAX as u64
}
