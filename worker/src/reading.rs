//! What an HTTP reader is sent, from history to live and back: one loop for as long as it stays.

use std::rc::Rc;

use futures::StreamExt;
use relay_durable::{Replay, ReplayStep};
use relay_schemas::{
    BridgeMessage, ByeCode, Connect, Counter, HISTORY_CLOSE_CODE, UnixMillis, limits::CREDIT_BYTES,
};
use serde_json::json;
use worker::{Env, WebSocket, WebsocketEvent};

use crate::{
    bridge::{Bridge, Weight},
    call::Call,
    history::{self, Opened, Prefetch},
    host,
    log::{self, Level},
    metrics,
};

/// Bytes of frames that are written at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// What a reader in history may have unread before more is decoded for it.
const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// How long a reader in history goes on without a word of its object, which knows whether it may.
pub(crate) const ASK_INTERVAL_MS: u64 = 60_000;

/// Segments that one connection reads; then it ends by plan. An invocation may have 10,000 calls
/// to other services.
const SEGMENTS_MAX: u32 = 4_000;

/// A reader and what is needed to serve it.
pub(crate) struct Reading {
    env: Env,
    request_id: String,
    connect: Connect,
    bridge: Bridge,
    replay: Option<Replay>,
    prefetch: Prefetch,
    asked_at: UnixMillis,
    segments: u32,
}

/// How following has ended.
enum Followed {
    /// The reader's position was sealed: it goes on in history.
    ToHistory,
    /// The object has said why.
    Ended,
    /// The object was moved, updated or reset.
    Lost,
}

impl Reading {
    /// A reader that has been sent nothing yet.
    pub(crate) fn new(call: &Call, connect: Connect, bridge: Bridge) -> Self {
        Self {
            env: call.env.clone(),
            request_id: call.request_id.clone(),
            connect,
            bridge,
            replay: None,
            prefetch: Prefetch::default(),
            asked_at: call.now,
            segments: 0,
        }
    }

    /// Moves messages of the object to the reader until either is gone.
    async fn follow(&self, socket: &WebSocket) -> Followed {
        let Ok(mut events) = socket.events() else { return Followed::Lost };
        if socket.accept().is_err() {
            return Followed::Lost;
        }
        self.bridge.set_socket(Some(socket.clone()));
        // It may have gone while the object was asked.
        if self.bridge.flow.is_closed() {
            self.bridge.close_socket("the reader has gone");
            return Followed::Ended;
        }
        while let Some(event) = events.next().await {
            match event {
                Ok(WebsocketEvent::Message(message)) => {
                    let text = message.text().unwrap_or_default();
                    match BridgeMessage::decode(&text) {
                        Some(message) => self.bridge.writer.borrow_mut().relay(&message),
                        None => break,
                    }
                }
                Ok(WebsocketEvent::Close(close)) => match close.code() {
                    HISTORY_CLOSE_CODE => return Followed::ToHistory,
                    // A planned end has said so in a frame of its own.
                    4000..5000 => return Followed::Ended,
                    _ => break,
                },
                Err(_) => break,
            }
        }
        Followed::Lost
    }

    /// Reads history until the object follows the reader; `None` when the reader is gone or was
    /// told why it ends.
    async fn read_history(&mut self) -> Option<WebSocket> {
        let mut replay = self.replay.take()?;
        let socket = loop {
            match replay.next_step() {
                ReplayStep::Write => self.write(&mut replay).await?,
                ReplayStep::Fetch(_) if self.is_word_old() => replay.ask_next(),
                ReplayStep::Fetch(object) => {
                    self.segments += 1;
                    if self.segments > SEGMENTS_MAX {
                        return self.end(ByeCode::Reconnect);
                    }
                    let Ok(fetched) = self.prefetch.take(&self.env, &object).await else {
                        return self.fail();
                    };
                    replay.fetched(&object.entry, fetched);
                    self.prefetch.begin(&self.env, replay.ahead());
                }
                ReplayStep::List { prefix } => {
                    replay.listed(history::list(&self.env, prefix).await);
                }
                ReplayStep::Ask => match self.ask(&mut replay).await? {
                    Some(socket) => break socket,
                    None => continue,
                },
            }
        };
        self.count_lost(&mut replay);
        self.replay = Some(replay);
        Some(socket)
    }

    fn is_word_old(&self) -> bool {
        host::now().since_ms(self.asked_at) >= ASK_INTERVAL_MS
    }

    async fn write(&self, replay: &mut Replay) -> Option<()> {
        if !self.bridge.flow.room(UNREAD_BYTES_MAX).await {
            return None;
        }
        let mut lines = String::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        let before = replay.position().n;
        replay.write(CHUNK_BYTES, &mut lines);
        metrics::add(Counter::Delivered, replay.position().n - before);
        self.count_lost(replay);
        self.bridge.writer.borrow_mut().write_lines(replay.position(), lines, Weight::Control);
        Some(())
    }

    /// The object starts with a whole credit: what lies unread from history is little by then.
    async fn ask(&mut self, replay: &mut Replay) -> Option<Option<WebSocket>> {
        if !self.bridge.flow.room(CHUNK_BYTES).await {
            return None;
        }
        self.asked_at = host::now();
        match history::connect(&self.env, &replay.ask(CREDIT_BYTES)).await {
            Ok((Opened::Live(socket), _)) => Some(Some(socket)),
            Ok((Opened::History(offer), _)) => {
                replay.offered(offer);
                Some(None)
            }
            Ok((Opened::Refused(response), _)) => {
                let code = match response.status_code() {
                    401 => ByeCode::Revoked,
                    _ => ByeCode::Error,
                };
                self.end(code)
            }
            Err(error) => {
                log::platform_error("connect_failed", &self.request_id, &error);
                self.fail()
            }
        }
    }

    fn fail<T>(&self) -> Option<T> {
        self.end(ByeCode::Error)
    }

    fn end<T>(&self, code: ByeCode) -> Option<T> {
        self.bridge.writer.borrow_mut().end(code, host::random_between(1_000, 5_000));
        None
    }

    fn count_lost(&self, replay: &mut Replay) {
        let segments = replay.take_segments_lost();
        if segments > 0 {
            metrics::add(Counter::SegmentsLost, segments);
            let fields = json!({ "stream": self.connect.stream.to_string(), "segments": segments });
            log::line(Level::Error, "segments_lost", &self.request_id, fields);
        }
    }
}

/// Serves a reader until it is gone or its stream ends.
pub(crate) async fn serve(mut reading: Reading, opened: Opened) {
    let writer = Rc::clone(&reading.bridge.writer);
    let mut socket = match opened {
        Opened::Live(socket) => Some(socket),
        Opened::History(offer) => {
            reading.replay = Some(Replay::new(reading.connect.clone(), offer));
            reading.read_history().await
        }
        Opened::Refused(_) => None,
    };
    let mut ends_in_history = socket.is_none();
    while let Some(followed) = &socket {
        let outcome = reading.follow(followed).await;
        reading.bridge.set_socket(None);
        let position = writer.borrow().position();
        socket = match (outcome, position) {
            (Followed::ToHistory, Some(position)) => {
                match &mut reading.replay {
                    Some(replay) => replay.go_on_after(position),
                    none => *none = Some(Replay::after(reading.connect.clone(), position)),
                }
                let next = reading.read_history().await;
                ends_in_history = next.is_none();
                next
            }
            (Followed::Ended, _) => break,
            (Followed::ToHistory | Followed::Lost, _) => {
                writer.borrow_mut().end(ByeCode::Reconnect, host::random_between(100, 1_000));
                None
            }
        };
    }
    // Whom the object followed last it counts itself.
    if ends_in_history {
        metrics::add(Counter::ConnectionsClosed(reading.connect.dialect), 1);
    }
    writer.borrow_mut().stop();
    if metrics::is_flush_due() {
        metrics::flush(&reading.env).await;
    }
}
