//! What is stored of assigning: each thing is one row, as JSON, so that a field more needs no new
//! column.

use relay_durable::{AssignedHead, EdgeRecord, Holder, Lease};
use relay_schemas::{EdgeId, Seq};
use serde::de::DeserializeOwned;
use worker::{Result, SqlStorageValue as Value};

use super::{SqlLogStorage, rows, values::integer, values::text};

pub(super) fn load_head(storage: &SqlLogStorage) -> Result<Option<AssignedHead>> {
    Ok(all(storage, "SELECT head FROM assigned")?.pop())
}

pub(super) fn save_head(storage: &SqlLogStorage, head: &AssignedHead) -> Result<()> {
    storage.write(
        "INSERT INTO assigned (id, head) VALUES (1, ?)
         ON CONFLICT (id) DO UPDATE SET head = excluded.head",
        vec![Value::String(serde_json::to_string(head)?)],
    )
}

pub(super) fn clear(storage: &SqlLogStorage) -> Result<()> {
    // The head last: while it stands, the leases are cleared again.
    storage.write("DELETE FROM lease", vec![])?;
    storage.write("DELETE FROM assigned", vec![])
}

pub(super) fn load_leases(storage: &SqlLogStorage) -> Result<Vec<Lease>> {
    all(storage, "SELECT lease FROM lease ORDER BY seq")
}

pub(super) fn save_lease(storage: &SqlLogStorage, lease: &Lease) -> Result<()> {
    storage.write(
        "INSERT INTO lease (seq, lease) VALUES (?, ?)
         ON CONFLICT (seq) DO UPDATE SET lease = excluded.lease",
        vec![integer(lease.seq.get()), Value::String(serde_json::to_string(lease)?)],
    )
}

pub(super) fn delete_lease(storage: &SqlLogStorage, seq: Seq) -> Result<()> {
    storage.write("DELETE FROM lease WHERE seq = ?", vec![integer(seq.get())])
}

pub(super) fn load_holders(storage: &SqlLogStorage) -> Result<Vec<Holder>> {
    all(storage, "SELECT holder FROM holder")
}

pub(super) fn save_holder(storage: &SqlLogStorage, holder: &Holder) -> Result<()> {
    storage.write(
        "INSERT INTO holder (key, holder) VALUES (?, ?)
         ON CONFLICT (key) DO UPDATE SET holder = excluded.holder",
        vec![Value::String(holder.key.clone()), Value::String(serde_json::to_string(holder)?)],
    )
}

pub(super) fn delete_holder(storage: &SqlLogStorage, key: &str) -> Result<()> {
    storage.write("DELETE FROM holder WHERE key = ?", vec![Value::String(key.to_owned())])
}

pub(super) fn load_edges(storage: &SqlLogStorage) -> Result<Vec<EdgeRecord>> {
    all(storage, "SELECT state FROM edge")
}

pub(super) fn save_edge(storage: &SqlLogStorage, record: &EdgeRecord) -> Result<()> {
    storage.write(
        "INSERT INTO edge (edge, state) VALUES (?, ?)
         ON CONFLICT (edge) DO UPDATE SET state = excluded.state",
        vec![Value::String(record.edge.to_string()), Value::String(serde_json::to_string(record)?)],
    )
}

pub(super) fn delete_edge(storage: &SqlLogStorage, edge: &EdgeId) -> Result<()> {
    storage.write("DELETE FROM edge WHERE edge = ?", vec![Value::String(edge.to_string())])
}

fn all<T: DeserializeOwned>(storage: &SqlLogStorage, query: &str) -> Result<Vec<T>> {
    rows(&storage.sql.exec(query, vec![])?)
        .map(|row| Ok(serde_json::from_str(text(&row?, 0)?)?))
        .collect()
}
