//! What is stored of assigning: each thing is one row, as JSON, so that a field more needs no new
//! column. Of events in the dead letters only the position is kept.

use relay_durable::{AssignedHead, EdgeRecord, Holder, Lease};
use relay_schemas::{EdgeId, EventId, Seq};
use serde::{Serialize, de::DeserializeOwned};
use worker::{Result, SqlStorageValue as Value};

use super::{SqlLogStorage, rows, values::integer, values::number, values::text};

/// A table with one thing in each row.
struct Table {
    name: &'static str,
    key: &'static str,
    value: &'static str,
}

const HEAD: Table = Table { name: "assigned", key: "id", value: "head" };
const LEASE: Table = Table { name: "lease", key: "seq", value: "lease" };
const HOLDER: Table = Table { name: "holder", key: "key", value: "holder" };
const EDGE: Table = Table { name: "edge", key: "edge", value: "state" };

impl Table {
    fn all<T: DeserializeOwned>(&self, storage: &SqlLogStorage) -> Result<Vec<T>> {
        let Self { name, key, value } = self;
        let query = format!("SELECT {value} FROM {name} ORDER BY {key}");
        let found = storage.sql.exec(&query, vec![])?;
        rows(&found).map(|row| Ok(serde_json::from_str(text(&row?, 0)?)?)).collect()
    }

    fn save(&self, storage: &SqlLogStorage, at: Value, thing: &impl Serialize) -> Result<()> {
        let Self { name, key, value } = self;
        let query = format!(
            "INSERT INTO {name} ({key}, {value}) VALUES (?, ?)
             ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}"
        );
        storage.write(&query, vec![at, Value::String(serde_json::to_string(thing)?)])
    }

    fn delete(&self, storage: &SqlLogStorage, at: Value) -> Result<()> {
        let Self { name, key, .. } = self;
        storage.write(&format!("DELETE FROM {name} WHERE {key} = ?"), vec![at])
    }

    fn clear(&self, storage: &SqlLogStorage) -> Result<()> {
        storage.write(&format!("DELETE FROM {}", self.name), vec![])
    }
}

pub(super) fn load_head(storage: &SqlLogStorage) -> Result<Option<AssignedHead>> {
    Ok(HEAD.all(storage)?.pop())
}

pub(super) fn save_head(storage: &SqlLogStorage, head: &AssignedHead) -> Result<()> {
    HEAD.save(storage, integer(1), head)
}

pub(super) fn clear(storage: &SqlLogStorage) -> Result<()> {
    // The head last: while it stands, the leases are cleared again.
    LEASE.clear(storage)?;
    HEAD.clear(storage)
}

pub(super) fn load_leases(storage: &SqlLogStorage) -> Result<Vec<Lease>> {
    LEASE.all(storage)
}

pub(super) fn save_lease(storage: &SqlLogStorage, lease: &Lease) -> Result<()> {
    LEASE.save(storage, integer(lease.seq.get()), lease)
}

pub(super) fn delete_lease(storage: &SqlLogStorage, seq: Seq) -> Result<()> {
    LEASE.delete(storage, integer(seq.get()))
}

pub(super) fn given_up(storage: &SqlLogStorage, id: EventId) -> Result<Option<Seq>> {
    let query = "SELECT seq FROM given_up WHERE event = ?";
    let row = storage.first_row(query, vec![Value::String(id.to_string())])?;
    row.map(|row| Ok(Seq::new(number(&row, 0)?))).transpose()
}

pub(super) fn count_given_up(storage: &SqlLogStorage) -> Result<u64> {
    let row = storage.first_row("SELECT COUNT(*) FROM given_up", vec![])?;
    row.map_or(Ok(0), |row| number(&row, 0))
}

pub(super) fn save_given_up(storage: &SqlLogStorage, id: EventId, seq: Seq) -> Result<()> {
    let values = vec![Value::String(id.to_string()), integer(seq.get())];
    storage.write("INSERT OR REPLACE INTO given_up (event, seq) VALUES (?, ?)", values)
}

pub(super) fn delete_given_up(storage: &SqlLogStorage, id: EventId) -> Result<()> {
    storage.write("DELETE FROM given_up WHERE event = ?", vec![Value::String(id.to_string())])
}

pub(super) fn delete_given_up_until(storage: &SqlLogStorage, last: Seq) -> Result<()> {
    storage.write("DELETE FROM given_up WHERE seq <= ?", vec![integer(last.get())])
}

pub(super) fn load_holders(storage: &SqlLogStorage) -> Result<Vec<Holder>> {
    HOLDER.all(storage)
}

pub(super) fn save_holder(storage: &SqlLogStorage, holder: &Holder) -> Result<()> {
    HOLDER.save(storage, Value::String(holder.key.clone()), holder)
}

pub(super) fn delete_holder(storage: &SqlLogStorage, key: &str) -> Result<()> {
    HOLDER.delete(storage, Value::String(key.to_owned()))
}

pub(super) fn load_edges(storage: &SqlLogStorage) -> Result<Vec<EdgeRecord>> {
    EDGE.all(storage)
}

pub(super) fn save_edge(storage: &SqlLogStorage, record: &EdgeRecord) -> Result<()> {
    EDGE.save(storage, Value::String(record.edge.to_string()), record)
}

pub(super) fn delete_edge(storage: &SqlLogStorage, edge: &EdgeId) -> Result<()> {
    EDGE.delete(storage, Value::String(edge.to_string()))
}
