use std::collections::BTreeMap;

use relay_durable::{Command, ConnectionId, GivenUp, Stream, Subscription};
use relay_schemas::{Dialect, HISTORY_CLOSE_CODE, UnixMillis};
use wasm_bindgen::JsCast;
use worker::{State, WebSocket};

use crate::sql_storage::SqlLogStorage;

/// A stream as its object holds it in memory: the value, and the sockets that it speaks of.
pub(crate) struct LoadedStream {
    pub(crate) stream: Stream<SqlLogStorage>,
    pub(crate) sockets: BTreeMap<ConnectionId, WebSocket>,
    /// The alarm that is set; `None` until the platform was asked.
    pub(crate) alarm: Option<Option<UnixMillis>>,
    /// When direct connections were last checked for missing pings.
    pub(crate) silence_checked_at: UnixMillis,
    /// Connections that ended in this call, to be counted after it.
    pub(crate) ended: Vec<Dialect>,
    /// Objects of R2 to be deleted after this call.
    pub(crate) discarded: Vec<String>,
    /// Events to be sent to the dead letters after this call.
    pub(crate) given_up: Vec<GivenUp>,
}

impl LoadedStream {
    /// Does what the stream has decided, in order.
    pub(crate) fn execute(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Send { connection, text } => self.send(connection, &text),
                Command::Remember { connection } => self.remember(connection),
                Command::Close { connection, code } => {
                    self.close(connection, code.close_code(), code.as_str());
                }
                Command::ReadHistory { connection } => {
                    self.close(connection, HISTORY_CLOSE_CODE, "history");
                }
                Command::Discard { keys } => self.discarded.extend(keys),
                Command::GiveUp(given_up) => self.given_up.push(*given_up),
            }
        }
    }

    /// Ends direct connections whose pings have stopped.
    pub(crate) fn end_silent(&mut self, state: &State, now: UnixMillis) -> worker::Result<()> {
        self.silence_checked_at = now;
        let sockets = &self.sockets;
        let last_ping_at = |id| sockets.get(&id).and_then(|ws| last_ping_at(state, ws));
        let silent = self.stream.end_silent(&last_ping_at, now)?;
        self.execute(silent);
        Ok(())
    }

    /// A socket that can't be written to is gone; its close is about to be told.
    fn send(&mut self, connection: ConnectionId, text: &str) {
        if let Some(ws) = self.sockets.get(&connection) {
            let _ = ws.send_with_str(text);
        }
    }

    fn remember(&mut self, connection: ConnectionId) {
        let subscription = self.stream.connection(connection);
        if let (Some(ws), Some(subscription)) = (self.sockets.get(&connection), subscription) {
            let text = serde_json::to_string(subscription).expect("plain fields serialise");
            let _ = ws.serialize_attachment(text);
        }
    }

    fn close(&mut self, connection: ConnectionId, code: u16, reason: &str) {
        let Some(ws) = self.sockets.remove(&connection) else { return };
        // A reader that goes on in history is still there.
        if code != HISTORY_CLOSE_CODE
            && let Ok(Some(text)) = ws.deserialize_attachment::<String>()
            && let Ok(subscription) = serde_json::from_str::<Subscription>(&text)
        {
            self.ended.push(subscription.dialect);
        }
        // Nothing is kept with it, so that an object that wakes meanwhile doesn't revive it.
        let _ = ws.serialize_attachment(());
        let _ = ws.close(Some(code), Some(reason));
    }
}

/// When the platform last answered a `ping` of this socket by itself.
fn last_ping_at(state: &State, ws: &WebSocket) -> Option<UnixMillis> {
    let state = state.as_raw();
    let method = js_sys::Reflect::get(state, &"getWebSocketAutoResponseTimestamp".into()).ok()?;
    let method: js_sys::Function = method.dyn_into().ok()?;
    let answer = method.call1(state, ws.as_ref()).ok()?;
    let date: js_sys::Date = answer.dyn_into().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a date's milliseconds"
    )]
    Some(UnixMillis::new(date.get_time() as u64))
}
