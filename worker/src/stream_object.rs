use std::{cell::RefCell, collections::BTreeMap};

use relay_durable::{ConnectionId, Stream, StreamError, Subscription};
use relay_schemas::{
    Append, Connect, Counter, EdgeId, EventId, PageCommand, Problem, StatusCommand, UnixMillis,
};
use serde::Deserialize;
use serde_json::json;
use worker::{
    DurableObject, Env, Error, Request, Response, Result, State, WebSocket,
    WebSocketIncomingMessage, WebSocketPair, durable_object,
};
use worker_sys::WebSocketRequestResponsePair;

use crate::{
    host,
    loaded_stream::{LoadedStream, last_ping_at},
    log, metrics, respond,
    settings::Settings,
    sql_storage::SqlLogStorage,
    stream_client::{CONNECT_HEADER, RESUMED_FROM_HEADER},
};

/// One stream: a thin shell around [`Stream`]. Holds nothing in memory that can't be loaded again;
/// subscriptions outlive it as attachments of their sockets.
#[durable_object]
pub struct StreamObject {
    state: State,
    env: Env,
    core: RefCell<Option<LoadedStream>>,
    woken_at: UnixMillis,
}

/// How often an append looks for connections whose pings have stopped: a call to the platform for
/// each, and no other moment at which the object is awake anyway.
const SILENCE_CHECK_INTERVAL_MS: u64 = 5_000;

/// When an alarm that failed is tried again.
const ALARM_RETRY: std::time::Duration = std::time::Duration::from_secs(60);

type Outcome<T> = std::result::Result<T, StreamError<Error>>;

#[derive(Deserialize)]
struct EventQuery {
    edge: EdgeId,
    id: EventId,
}

#[derive(Deserialize)]
struct Revocation {
    edge: EdgeId,
}

impl DurableObject for StreamObject {
    fn new(state: State, env: Env) -> Self {
        if let Ok(pair) = WebSocketRequestResponsePair::new("ping", "pong") {
            state.set_websocket_auto_response(&pair);
        }
        Self { state, env, core: RefCell::new(None), woken_at: host::now() }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let path = request.path();
        let outcome = match path.as_str() {
            "/append" => self.append(request.bytes().await?),
            "/connect" => self.open(&request),
            "/page" => self.page(&request.text().await?),
            "/event" => self.event(&request.text().await?),
            "/status" => self.report(&request.text().await?),
            "/revoke" => self.revoke(&request.text().await?),
            "/state" => self.describe(),
            _ => return Response::error("no such command", 404),
        };
        match outcome {
            Ok(response) => {
                self.after_change(!matches!(path.as_str(), "/page" | "/event" | "/state")).await?;
                Ok(response)
            }
            Err(StreamError::Refused(problem)) => respond::problem(&problem),
            Err(StreamError::Storage(error)) => {
                // What is in memory may be wrong now: the next call loads again.
                self.core.replace(None);
                log::platform_error("stream_storage_failed", "", &error);
                respond::problem(&respond::unavailable())
            }
        }
    }

    async fn alarm(&self) -> Result<Response> {
        let outcome = self.with_core(|core| {
            // The platform has forgotten the alarm that it is calling for.
            core.alarm = Some(None);
            core.alarm_is_due = true;
            let commands = core.stream.alarm(host::now())?;
            core.execute(commands);
            Ok(())
        });
        if outcome.is_err() {
            // The platform gives up on an alarm that fails a few times; this one comes back.
            self.state.storage().set_alarm(ALARM_RETRY).await?;
        }
        self.settle(outcome).await?;
        Response::empty()
    }

    async fn websocket_message(
        &self,
        ws: WebSocket,
        message: WebSocketIncomingMessage,
    ) -> Result<()> {
        let Some(id) = self.connection_id(&ws) else { return Ok(()) };
        let outcome = self.with_core(|core| {
            let text = match &message {
                WebSocketIncomingMessage::String(text) => text.as_str(),
                WebSocketIncomingMessage::Binary(_) => "binary",
            };
            let commands = core.stream.message(id, text, host::now())?;
            core.execute(commands);
            Ok(())
        });
        self.settle(outcome).await
    }

    async fn websocket_close(
        &self,
        ws: WebSocket,
        _code: usize,
        _reason: String,
        _was_clean: bool,
    ) -> Result<()> {
        self.forget(&ws).await
    }

    async fn websocket_error(&self, ws: WebSocket, _error: Error) -> Result<()> {
        self.forget(&ws).await
    }
}

impl StreamObject {
    /// Runs a command on the loaded stream, in one stretch without an await.
    fn with_core<T>(&self, run: impl FnOnce(&mut LoadedStream) -> Outcome<T>) -> Outcome<T> {
        let mut slot = self.core.borrow_mut();
        if slot.is_none() {
            *slot = Some(self.load()?);
        }
        run(slot.as_mut().expect("just loaded"))
    }

    fn load(&self) -> Outcome<LoadedStream> {
        let settings = Settings::of(&self.env).map_err(StreamError::Refused)?;
        let storage = SqlLogStorage::open(self.state.storage().sql())?;
        let mut sockets = BTreeMap::new();
        let mut connections = BTreeMap::new();
        for ws in self.state.get_websockets() {
            let Some(id) = self.connection_id(&ws) else { continue };
            let attachment: Option<String> = ws.deserialize_attachment()?;
            let subscription: Option<Subscription> =
                attachment.and_then(|text| serde_json::from_str(&text).ok());
            if let Some(subscription) = subscription {
                connections.insert(id, subscription);
                sockets.insert(id, ws);
            }
        }
        let salt = u32::from_le_bytes(host::random_bytes());
        let stream = Stream::load(storage, connections, settings.retention_ms, host::now(), salt)?;
        Ok(LoadedStream {
            stream,
            sockets,
            alarm: None,
            alarm_is_due: true,
            silence_checked_at: UnixMillis::default(),
            ended: Vec::new(),
        })
    }

    fn connection_id(&self, ws: &WebSocket) -> Option<ConnectionId> {
        self.state.get_tags(ws).first()?.parse().ok()
    }

    fn append(&self, body: Vec<u8>) -> Outcome<Response> {
        let body = String::from_utf8(body).map_err(|error| bad_command(&error.utf8_error()))?;
        let append = Append::decode(&body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            let now = host::now();
            if now.since_ms(core.silence_checked_at) >= SILENCE_CHECK_INTERVAL_MS {
                core.silence_checked_at = now;
                let silent = core.stream.end_silent(
                    &|id| core.sockets.get(&id).and_then(|ws| last_ping_at(&self.state, ws)),
                    now,
                );
                core.execute(silent);
            }
            // The first event kept may be due before anything that the alarm is set for.
            core.alarm_is_due |= core.stream.log().tail() == core.stream.log().trimmed();
            let (reply, commands) = core.stream.append(&append, now)?;
            core.execute(commands);
            answer(respond::json(200, &reply))
        })
    }

    fn open(&self, request: &Request) -> Outcome<Response> {
        let header = request.headers().get(CONNECT_HEADER)?.unwrap_or_default();
        let connect: Connect =
            serde_json::from_str(&header).map_err(|error| bad_command(&error))?;
        // Below 2^53, so that the tag reads the same everywhere.
        let id: ConnectionId = u64::from_le_bytes(host::random_bytes()) >> 11;
        let pair = WebSocketPair::new()?;
        self.with_core(|core| {
            let connected = core.stream.connect(id, &connect, host::now())?;
            self.state.accept_websocket_with_tags(&pair.server, &[&id.to_string()]);
            core.sockets.insert(id, pair.server.clone());
            core.alarm_is_due = true;
            core.execute(connected.commands);
            let response = Response::from_websocket(pair.client.clone())?;
            if let Some(cursor) = connected.resumed_from {
                response.headers().set(RESUMED_FROM_HEADER, &cursor.to_string())?;
            }
            Ok(response)
        })
    }

    fn page(&self, body: &str) -> Outcome<Response> {
        let command: PageCommand =
            serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            let page = core.stream.page(&command.edge, &command.query)?;
            let response = answer(respond::json(200, &page))?;
            if let Some(gap) = &page.gap {
                response.headers().set(RESUMED_FROM_HEADER, &gap.resumed_from.to_string())?;
            }
            Ok(response)
        })
    }

    fn event(&self, body: &str) -> Outcome<Response> {
        let query: EventQuery = serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            answer(respond::json(200, &core.stream.event(&query.edge, query.id)?))
        })
    }

    fn report(&self, body: &str) -> Outcome<Response> {
        let command: StatusCommand =
            serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            core.stream.report(&command.edge, command.report, host::now())?;
            answer(respond::json(200, &json!({ "received": true })))
        })
    }

    fn revoke(&self, body: &str) -> Outcome<Response> {
        let revocation: Revocation =
            serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core(|core| {
            let commands = core.stream.revoke(&revocation.edge, host::now())?;
            core.execute(commands);
            answer(respond::json(200, &json!({ "revoked": true })))
        })
    }

    fn describe(&self) -> Outcome<Response> {
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

    async fn forget(&self, ws: &WebSocket) -> Result<()> {
        let Some(id) = self.connection_id(ws) else { return Ok(()) };
        let outcome = self.with_core(|core| {
            core.sockets.remove(&id);
            let dialect = core.stream.closed(id);
            core.ended.extend(dialect);
            Ok(())
        });
        self.settle(outcome).await
    }

    async fn settle(&self, outcome: Outcome<()>) -> Result<()> {
        match outcome {
            Ok(()) => self.after_change(true).await,
            Err(error) => {
                self.core.replace(None);
                log::platform_error(
                    "stream_event_failed",
                    "",
                    &Error::RustError(error.to_string()),
                );
                Ok(())
            }
        }
    }

    /// What may wait until the command is done: the alarm, and counting ended connections.
    async fn after_change(&self, has_changed: bool) -> Result<()> {
        if !has_changed {
            return Ok(());
        }
        self.set_alarm().await?;
        let ended = match self.core.borrow_mut().as_mut() {
            Some(core) => std::mem::take(&mut core.ended),
            None => Vec::new(),
        };
        if !ended.is_empty() {
            ended.iter().for_each(|dialect| metrics::add(Counter::ConnectionsClosed(*dialect), 1));
            metrics::flush(&self.env).await;
        }
        Ok(())
    }

    /// Sets the alarm only when it must come earlier than the one that is set: each setting is a
    /// billed row.
    async fn set_alarm(&self) -> Result<()> {
        let (wanted, known) = match self.core.borrow().as_ref() {
            Some(core) if core.alarm_is_due => (core.stream.next_alarm()?, core.alarm),
            _ => return Ok(()),
        };
        let Some(wanted) = wanted else { return Ok(()) };
        let set = match known {
            Some(set) => set,
            None => {
                let set = self.state.storage().get_alarm().await?;
                set.and_then(|at| u64::try_from(at).ok()).map(UnixMillis::new)
            }
        };
        let mut alarm = set;
        if set.is_none_or(|set| wanted < set) {
            let delay_ms = wanted.since_ms(host::now()).max(1);
            self.state.storage().set_alarm(std::time::Duration::from_millis(delay_ms)).await?;
            alarm = Some(wanted);
        }
        if let Some(core) = self.core.borrow_mut().as_mut() {
            core.alarm = Some(alarm);
            core.alarm_is_due = false;
        }
        Ok(())
    }
}

fn answer(response: std::result::Result<Response, Problem>) -> Outcome<Response> {
    response.map_err(StreamError::Refused)
}

fn bad_command(error: &dyn std::fmt::Display) -> StreamError<Error> {
    StreamError::Refused(Problem::new(
        relay_schemas::ErrorCode::Internal,
        format!("a command between Worker and object can't be read: {error}"),
    ))
}
