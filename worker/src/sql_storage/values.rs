use relay_schemas::EventId;
use worker::{Error, Result, SqlStorageValue as Value};

/// Positions and times are below 2^53, which passes through JavaScript exactly.
pub(crate) fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(crate) fn number(row: &[Value], column: usize) -> Result<u64> {
    match row.get(column) {
        Some(Value::Integer(value)) => u64::try_from(*value).map_err(|_| corrupt("number")),
        _ => Err(corrupt("number")),
    }
}

pub(crate) fn text(row: &[Value], column: usize) -> Result<&str> {
    match row.get(column) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(corrupt("text")),
    }
}

pub(crate) fn blob_of(ids: &[EventId]) -> Vec<u8> {
    ids.iter().flat_map(|id| *id.as_bytes()).collect()
}

/// The ids of a run; every run has at least one.
pub(crate) fn ids_of(value: Option<&Value>) -> Result<Vec<EventId>> {
    let Some(Value::Blob(bytes)) = value else { return Err(corrupt("ids")) };
    let (ids, rest) = bytes.as_chunks::<{ EventId::LENGTH }>();
    if ids.is_empty() || !rest.is_empty() {
        return Err(corrupt("ids"));
    }
    Ok(ids.iter().map(|id| EventId::from_bytes(*id)).collect())
}

pub(crate) fn corrupt(what: &str) -> Error {
    Error::RustError(format!("stored {what} can't be read"))
}
