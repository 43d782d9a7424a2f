mod commands;
mod history;

use std::{cell::RefCell, collections::BTreeMap};

use relay_durable::{ConnectionId, GivenUp, LogStorage, Stream, StreamError, Subscription};
use relay_schemas::{Counter, Problem, StreamKey, UnixMillis};
use worker::{
    DurableObject, Env, Error, Request, Response, Result, State, WebSocket,
    WebSocketIncomingMessage, durable_object,
};
use worker_sys::WebSocketRequestResponsePair;

use self::history::HistoryLock;
pub(crate) use self::history::HistoryQuery;
use crate::{
    give_up, host, loaded_stream::LoadedStream, log, metrics, respond, sealing, settings::Settings,
    sql_storage::SqlLogStorage,
};

/// One stream: a thin shell around [`Stream`]. Holds nothing in memory that can't be loaded again;
/// subscriptions outlive it as attachments of their sockets.
#[durable_object]
pub struct StreamObject {
    state: State,
    env: Env,
    core: RefCell<Option<LoadedStream>>,
    history_lock: HistoryLock,
    woken_at: UnixMillis,
}

/// Close codes of a client that ends and does not come back: normal, and going away.
const END_CODES: [usize; 2] = [1000, 1001];

/// When an alarm that failed is tried again.
const ALARM_RETRY: std::time::Duration = std::time::Duration::from_secs(60);

type Outcome<T> = std::result::Result<T, StreamError<Error>>;

impl DurableObject for StreamObject {
    fn new(state: State, env: Env) -> Self {
        if let Ok(pair) = WebSocketRequestResponsePair::new("ping", "pong") {
            state.set_websocket_auto_response(&pair);
        }
        Self {
            state,
            env,
            core: RefCell::new(None),
            history_lock: HistoryLock::default(),
            woken_at: host::now(),
        }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let path = request.path();
        let outcome = match path.as_str() {
            "/append" => self.append(request.bytes().await?),
            "/connect" => self.open(&request),
            "/history" => self.history(&request.text().await?),
            "/page" => self.page(&request.text().await?),
            "/event" => self.event(&request.text().await?),
            "/status" => self.report(&request.text().await?),
            "/may-report" => self.may_report(&request.text().await?),
            "/revoke" => self.revoke(&request.text().await?),
            "/uninstalled" => self.uninstalled(),
            "/state" => self.describe(),
            "/known" => self.known(),
            "/rebuild" => self.rebuild(&request.text().await?).await,
            _ => return Response::error("no such command", 404),
        };
        match outcome {
            Ok(response) => {
                self.after_change(!matches!(
                    path.as_str(),
                    "/page" | "/event" | "/may-report" | "/state" | "/history"
                ))
                .await?;
                Ok(response)
            }
            Err(StreamError::Refused(problem)) => respond::problem(&problem),
            Err(StreamError::Storage(error)) => {
                // What is in memory may be wrong now: the next call loads again.
                self.core.replace(None);
                if path == "/rebuild" {
                    self.send_all_away();
                }
                log::platform_error("stream_storage_failed", "", &error);
                respond::problem(&respond::unavailable())
            }
        }
    }

    async fn alarm(&self) -> Result<Response> {
        // While the one reads what R2 has, the other must not change it.
        let Some(_exclusive) = self.history_lock.take() else {
            self.state.storage().set_alarm(ALARM_RETRY).await?;
            return Response::empty();
        };
        let outcome = self.with_core(|core| {
            // The platform has forgotten the alarm that it is calling for.
            core.alarm = Some(None);
            let now = host::now();
            core.end_silent(&self.state, now)?;
            let commands = core.stream.alarm(now)?;
            core.execute(commands);
            Ok(())
        });
        let is_done = outcome.is_ok() && self.seal().await;
        if !is_done {
            // The platform gives up on an alarm that fails a few times; this one comes back.
            self.state.storage().set_alarm(ALARM_RETRY).await?;
        }
        self.settle(outcome).await?;
        if metrics::is_flush_due() {
            metrics::flush(&self.env).await;
        }
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
        code: usize,
        _reason: String,
        was_clean: bool,
    ) -> Result<()> {
        self.forget(&ws, was_clean && END_CODES.contains(&code)).await
    }

    async fn websocket_error(&self, ws: WebSocket, _error: Error) -> Result<()> {
        self.forget(&ws, false).await
    }
}

impl StreamObject {
    /// Runs a command on the loaded stream, in one stretch without an await.
    fn with_core<T>(&self, run: impl FnOnce(&mut LoadedStream) -> Outcome<T>) -> Outcome<T> {
        let mut slot = self.core.borrow_mut();
        if slot.is_none() {
            *slot = Some(self.load(None)?);
        }
        run(slot.as_mut().expect("just loaded"))
    }

    /// The same for a command that may be the first of its stream.
    fn with_core_of<T>(
        &self,
        stream: &StreamKey,
        run: impl FnOnce(&mut LoadedStream) -> Outcome<T>,
    ) -> Outcome<T> {
        let is_unused = self.core.borrow().as_ref().is_none_or(|core| !core.stream.log().is_used());
        if is_unused {
            self.core.replace(Some(self.load(Some(stream))?));
        }
        self.with_core(run)
    }

    fn load(&self, stream: Option<&StreamKey>) -> Outcome<LoadedStream> {
        let settings = Settings::of(&self.env).map_err(StreamError::Refused)?;
        let storage = SqlLogStorage::open(self.state.storage().sql())?;
        let known = storage.load_head()?.and_then(|head| head.stream);
        let stream = known.as_ref().or(stream);
        let settings = settings.streams_of(stream).of(stream);
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
        let stream = Stream::load(storage, connections, settings, host::now(), salt)?;
        Ok(LoadedStream {
            stream,
            sockets,
            alarm: None,
            silence_checked_at: UnixMillis::default(),
            ended: Vec::new(),
            discarded: Vec::new(),
            given_up: Vec::new(),
        })
    }

    fn connection_id(&self, ws: &WebSocket) -> Option<ConnectionId> {
        self.state.get_tags(ws).first()?.parse().ok()
    }

    async fn forget(&self, ws: &WebSocket, says_end: bool) -> Result<()> {
        let Some(id) = self.connection_id(ws) else { return Ok(()) };
        let outcome = self.with_core(|core| {
            core.sockets.remove(&id);
            let (dialect, commands) = core.stream.closed(id, says_end, host::now())?;
            core.execute(commands);
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
        let (ended, discarded, given_up) = match self.core.borrow_mut().as_mut() {
            Some(core) => (
                std::mem::take(&mut core.ended),
                std::mem::take(&mut core.discarded),
                std::mem::take(&mut core.given_up),
            ),
            None => Default::default(),
        };
        sealing::discard(&self.env, discarded).await;
        if !given_up.is_empty() {
            self.give_up(given_up).await;
            // The next ones are due at once.
            self.set_alarm().await?;
        }
        let counts = match self.core.borrow_mut().as_mut() {
            Some(core) => core.stream.take_counts(),
            None => Default::default(),
        };
        let has_counts = !counts.is_empty();
        metrics::record(|delta| delta.merge(counts));
        if !ended.is_empty() {
            ended.iter().for_each(|dialect| metrics::add(Counter::ConnectionsClosed(*dialect), 1));
            metrics::flush(&self.env).await;
        } else if has_counts && metrics::is_flush_due() {
            metrics::flush(&self.env).await;
        }
        Ok(())
    }

    /// Sends events to the dead letters, and notes those that are there. What fails is tried again
    /// by the alarm.
    async fn give_up(&self, given_up: Vec<GivenUp>) {
        let stream =
            self.core.borrow().as_ref().and_then(|core| core.stream.log().stream().cloned());
        let Some(StreamKey { organization, .. }) = stream else { return };
        for one in given_up {
            let seq = one.seq;
            match give_up::send(&self.env, &organization, one).await {
                Ok(()) => {
                    let noted = self.with_core(|core| Ok(core.stream.gave_up(seq)?));
                    if let Err(error) = noted {
                        self.forget_core("give_up_not_stored", &error);
                    }
                }
                Err(error) => log::platform_error("give_up_not_sent", "", &error),
            }
        }
    }

    /// Sets the alarm only when it must come earlier than the one that is set: each setting is a
    /// billed row.
    async fn set_alarm(&self) -> Result<()> {
        let (wanted, known) = match self.core.borrow().as_ref() {
            Some(core) => (core.stream.next_alarm(), core.alarm),
            None => return Ok(()),
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
