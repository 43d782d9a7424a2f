//! The commands of the Worker that a stream's value answers by itself.

use relay_durable::{Connected, ConnectionId, StreamError};
use relay_schemas::{
    Append, ByeCode, Connect, EdgeId, EventId, KindFilter, PageCommand, Problem, StatusCommand,
};
use serde::Deserialize;
use serde_json::json;
use worker::{Error, Request, Response, WebSocketPair};

use super::{Outcome, StreamObject, answer, bad_command};
use crate::{
    host, respond,
    stream_client::{CONNECT_HEADER, RESUMED_FROM_HEADER},
};

/// How often an append looks for connections whose pings have stopped: a call to the platform for
/// each, while the object is awake anyway.
const SILENCE_CHECK_INTERVAL_MS: u64 = 5_000;

#[derive(Deserialize)]
struct EventQuery {
    edge: EdgeId,
    id: EventId,
    #[serde(default)]
    allowed: KindFilter,
}

#[derive(Deserialize)]
struct ReportQuery {
    edge: EdgeId,
    id: EventId,
}

#[derive(Deserialize)]
struct Revocation {
    edge: EdgeId,
}

impl StreamObject {
    pub(super) fn append(&self, body: Vec<u8>) -> Outcome<Response> {
        let body = String::from_utf8(body).map_err(|error| bad_command(&error.utf8_error()))?;
        let append = Append::decode(&body).map_err(|error| bad_command(&error))?;
        self.with_core_of(&append.stream, |core| {
            let now = host::now();
            if now.since_ms(core.silence_checked_at) >= SILENCE_CHECK_INTERVAL_MS {
                core.end_silent(&self.state, now)?;
            }
            let (reply, commands) = core.stream.append(&append, now)?;
            core.execute(commands);
            answer(respond::json(200, &reply))
        })
    }

    pub(super) fn open(&self, request: &Request) -> Outcome<Response> {
        let header = request.headers().get(CONNECT_HEADER)?.unwrap_or_default();
        let connect: Connect =
            serde_json::from_str(&header).map_err(|error| bad_command(&error))?;
        // Below 2^53, so that the tag reads the same everywhere.
        let id: ConnectionId = u64::from_le_bytes(host::random_bytes()) >> 11;
        let pair = WebSocketPair::new()?;
        self.with_core_of(&connect.stream, |core| {
            match core.stream.connect(id, &connect, host::now())? {
                Connected::History(offer) => answer(respond::json(200, &offer)),
                Connected::Live { resumed_from, commands } => {
                    self.state.accept_websocket_with_tags(&pair.server, &[&id.to_string()]);
                    core.sockets.insert(id, pair.server.clone());
                    core.execute(commands);
                    let response = Response::from_websocket(pair.client.clone())?;
                    if let Some(cursor) = resumed_from {
                        response.headers().set(RESUMED_FROM_HEADER, &cursor.to_string())?;
                    }
                    Ok(response)
                }
            }
        })
    }

    pub(super) fn page(&self, body: &str) -> Outcome<Response> {
        let command: PageCommand =
            serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core_of(&command.stream, |core| {
            answer(respond::json(200, &core.stream.page(&command)?))
        })
    }

    pub(super) fn event(&self, body: &str) -> Outcome<Response> {
        let query: EventQuery = serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            answer(respond::json(200, &core.stream.event(&query.edge, query.id, &query.allowed)?))
        })
    }

    pub(super) fn report(&self, body: &str) -> Outcome<Response> {
        let command: StatusCommand =
            serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            let (reply, commands) =
                core.stream.report(&command.edge, command.report, host::now())?;
            core.execute(commands);
            answer(respond::json(200, &reply))
        })
    }

    pub(super) fn may_report(&self, body: &str) -> Outcome<Response> {
        let query: ReportQuery = serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            answer(respond::json(200, &core.stream.may_report(&query.edge, query.id)?))
        })
    }

    pub(super) fn uninstalled(&self) -> Outcome<Response> {
        self.with_core(|core| {
            let commands = core.stream.end_all_with(ByeCode::Uninstalled, host::now())?;
            core.execute(commands);
            answer(respond::json(200, &json!({ "ended": true })))
        })
    }

    pub(super) fn revoke(&self, body: &str) -> Outcome<Response> {
        let revocation: Revocation =
            serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            let commands = core.stream.revoke(&revocation.edge, host::now())?;
            core.execute(commands);
            answer(respond::json(200, &json!({ "revoked": true })))
        })
    }

    pub(super) fn describe(&self) -> Outcome<Response> {
        self.with_core(|core| {
            if !core.stream.log().is_used() {
                return Err(StreamError::Refused(Problem::new(
                    relay_schemas::ErrorCode::NotFound,
                    "no such stream: nothing was appended and nobody has connected",
                )));
            }
            let storage = core.stream.log().storage();
            let mut state = serde_json::to_value(core.stream.state()?).map_err(Error::from)?;
            state["woken_at"] = json!(self.woken_at);
            state["rows_written"] = json!(storage.rows_written());
            state["bytes"] = json!(storage.bytes());
            answer(respond::json(200, &state))
        })
    }
}
