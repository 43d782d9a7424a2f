//! One line of JSON per decision. Never a payload, never a secret: only the names of fields that
//! are passed here reach a log.

use serde_json::{Map, Value, json};

/// What an operator is to make of a line.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    /// What happened.
    Info,
    /// Something was refused or put off.
    Warn,
    /// A person must act.
    Error,
}

/// Writes a line.
pub(crate) fn line(level: Level, event: &str, request_id: &str, fields: Value) {
    let mut line = Map::new();
    let name = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    line.insert("level".into(), name.into());
    line.insert("event".into(), event.into());
    line.insert("request_id".into(), request_id.into());
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    let text = Value::Object(line).to_string();
    match level {
        Level::Info => worker::console_log!("{text}"),
        Level::Warn => worker::console_warn!("{text}"),
        Level::Error => worker::console_error!("{text}"),
    }
}

/// Writes a line about an error of the platform, whose text may quote what it was given: it is
/// cut short.
pub(crate) fn platform_error(event: &str, request_id: &str, error: &worker::Error) {
    let text: String = error.to_string().chars().take(200).collect();
    line(Level::Error, event, request_id, json!({ "error": text }));
}
