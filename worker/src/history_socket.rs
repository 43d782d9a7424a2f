//! A WebSocket reader whose position lies in history. The Worker holds it until history is read,
//! and then sends it back with its cursor: its next connection is the object's own, which costs
//! nothing while nothing happens.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use futures::StreamExt;
use relay_durable::{Replay, ReplayStep};
use relay_schemas::{
    Bye, ByeCode, ClientMessage, Connect, Counter, Cursor, Dialect, HistoryOffer, OnGap, Start,
    UnixMillis,
    limits::{
        CREDIT_BYTES, CREDIT_BYTES_MAX, SEGMENTS_OFFERED_MAX, SLOW_LAG_EVENTS, SLOW_STALL_MS,
    },
};
use wasm_bindgen_futures::spawn_local;
use worker::{Delay, Env, Response, WebSocket, WebSocketPair, WebsocketEvent};

use crate::{bridge::cursor_of, call::Call, history, host, metrics, reading::ASK_INTERVAL_MS};

/// Bytes of frames that are decoded at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How often a reader without credit is looked at.
const STALL_CHECK: Duration = Duration::from_secs(5);

/// Answers with a socket that is sent history.
pub(crate) fn answer(
    call: &Call,
    connect: Connect,
    offer: HistoryOffer,
) -> worker::Result<Response> {
    let pair = WebSocketPair::new()?;
    pair.server.accept()?;
    let credit = Credit::default();
    let reader = Reader {
        env: call.env.clone(),
        socket: pair.server.clone(),
        sent_until: offer.after,
        asked_at: call.now,
        replay: Replay::new(connect.clone(), offer),
        connect,
        credit: credit.clone(),
        lines: VecDeque::new(),
    };
    spawn_local(listen(pair.server.clone(), credit.clone()));
    spawn_local(watch(credit.clone()));
    spawn_local(async move {
        let mut reader = reader;
        let code = reader.run().await;
        reader.end(code);
        reader.credit.end(code);
        metrics::add(Counter::ConnectionsClosed(Dialect::WebSocket), 1);
        metrics::flush(&reader.env).await;
    });
    Response::from_websocket(pair.client)
}

/// What the reader may still be sent, and whether it is there.
#[derive(Clone, Default)]
struct Credit {
    state: Rc<CreditState>,
}

struct CreditState {
    bytes: Cell<i64>,
    stalled_since: Cell<Option<UnixMillis>>,
    ended: Cell<Option<ByeCode>>,
    is_gone: Cell<bool>,
    lag_events: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Default for CreditState {
    fn default() -> Self {
        Self {
            bytes: Cell::new(CREDIT_BYTES),
            stalled_since: Cell::default(),
            ended: Cell::default(),
            is_gone: Cell::default(),
            lag_events: Cell::default(),
            waker: RefCell::default(),
        }
    }
}

impl Credit {
    fn grant(&self, bytes: i64) {
        let granted = self.state.bytes.get().saturating_add(bytes.max(0)).min(CREDIT_BYTES_MAX);
        self.state.bytes.set(granted);
        self.wake();
    }

    fn spend(&self, bytes: usize) {
        self.state.bytes.set(self.state.bytes.get() - i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn end(&self, code: ByeCode) {
        self.state.ended.set(Some(code));
        self.wake();
    }

    fn note_lag(&self, events: u64) {
        self.state.lag_events.set(events);
    }

    fn wake(&self) {
        if let Some(waker) = self.state.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until the reader may be sent something; a code when it is to end instead.
    async fn wait(&self) -> Result<(), ByeCode> {
        poll_fn(|context| {
            if let Some(code) = self.state.ended.get() {
                return Poll::Ready(Err(code));
            }
            if self.state.bytes.get() > 0 {
                self.state.stalled_since.set(None);
                return Poll::Ready(Ok(()));
            }
            if self.state.stalled_since.get().is_none() {
                self.state.stalled_since.set(Some(host::now()));
            }
            self.state.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

struct Reader {
    env: Env,
    socket: WebSocket,
    connect: Connect,
    replay: Replay,
    credit: Credit,
    /// Lines decoded and not sent yet.
    lines: VecDeque<String>,
    /// The position after what was sent.
    sent_until: Cursor,
    asked_at: UnixMillis,
}

impl Reader {
    /// Sends history, and answers how the connection ends.
    async fn run(&mut self) -> ByeCode {
        loop {
            let outcome = match self.replay.next_step() {
                ReplayStep::Write => self.write().await,
                ReplayStep::Fetch(_) if self.is_word_old() => {
                    self.replay.ask_next();
                    Ok(())
                }
                ReplayStep::Fetch(object) => match history::fetch(&self.env, &object.key).await {
                    Ok(fetched) => {
                        self.replay.fetched(&object.entry, fetched);
                        Ok(())
                    }
                    Err(_) => Err(ByeCode::Error),
                },
                ReplayStep::List { prefix } => {
                    self.replay.listed(history::list(&self.env, prefix).await);
                    Ok(())
                }
                ReplayStep::Ask => self.ask().await,
            };
            metrics::add(Counter::SegmentsLost, self.replay.take_segments_lost());
            if let Err(code) = outcome {
                return code;
            }
        }
    }

    fn is_word_old(&self) -> bool {
        host::now().since_ms(self.asked_at) >= ASK_INTERVAL_MS
    }

    /// Sends frame by frame, as credit allows. One is sent whole, so that credit can end below
    /// zero by one.
    async fn write(&mut self) -> Result<(), ByeCode> {
        let mut text = String::new();
        let before = self.replay.position();
        self.replay.write(CHUNK_BYTES, &mut text);
        metrics::add(Counter::Delivered, self.replay.position().n - before.n);
        self.credit.note_lag(before.tail.seq.distance_from(before.cursor.seq));
        self.lines.extend(text.lines().map(str::to_owned));
        while let Some(line) = self.lines.pop_front() {
            self.credit.wait().await?;
            if host::now() >= self.connect.expires_at {
                return Err(ByeCode::Expired);
            }
            self.socket.send_with_str(&line).map_err(|_| ByeCode::Reconnect)?;
            if line.starts_with(r#"{"type":"webhook""#) {
                self.credit.spend(line.len());
            }
            self.sent_until = cursor_of(&line).unwrap_or(self.sent_until);
        }
        self.sent_until = self.replay.position().cursor;
        Ok(())
    }

    /// Whether there is more history: without it the reader comes back to the object.
    async fn ask(&mut self) -> Result<(), ByeCode> {
        self.asked_at = host::now();
        let cursor = self.replay.position().cursor.to_string();
        let start = (Start::Cursor(cursor), OnGap::Resume);
        let (stream, edge) = (&self.connect.stream, &self.connect.edge);
        let asked = history::offer(&self.env, stream, edge, start, SEGMENTS_OFFERED_MAX).await;
        match asked {
            Ok(Ok(offer)) if offer.has_more() => {
                self.replay.offered(offer);
                Ok(())
            }
            Ok(Ok(_)) => Err(ByeCode::Reconnect),
            Ok(Err(refusal)) if refusal.status_code() == 401 => Err(ByeCode::Revoked),
            Ok(Err(_)) | Err(_) => Err(ByeCode::Error),
        }
    }

    fn end(&self, code: ByeCode) {
        if self.credit.state.is_gone.get() {
            return;
        }
        let retry_after_ms = match code {
            ByeCode::Error | ByeCode::Slow => 1_000,
            _ => 0,
        };
        let bye = Bye { code, retry_after_ms, cursor: self.sent_until };
        let _ = self.socket.send_with_str(bye.to_line());
        let _ = self.socket.close(Some(code.close_code()), Some(code.as_str()));
    }
}

/// Takes the reader's messages until it is gone.
async fn listen(socket: WebSocket, credit: Credit) {
    let Ok(mut events) = socket.events() else { return };
    while let Some(event) = events.next().await {
        let Ok(WebsocketEvent::Message(message)) = event else { break };
        let text = message.text().unwrap_or_default();
        if text == "ping" {
            let _ = socket.send_with_str("pong");
            continue;
        }
        match serde_json::from_str(&text) {
            Ok(ClientMessage::Credit { bytes }) if bytes > 0 => credit.grant(bytes),
            // The object gives nothing to a reader of history.
            Ok(ClientMessage::Bye {} | ClientMessage::Unknown) => {}
            Ok(ClientMessage::Credit { .. }) | Err(_) => {
                credit.end(ByeCode::Protocol);
                return;
            }
        }
    }
    credit.state.is_gone.set(true);
    credit.end(ByeCode::Reconnect);
}

/// Ends a reader that grants nothing for long.
async fn watch(credit: Credit) {
    while credit.state.ended.get().is_none() {
        Delay::from(STALL_CHECK).await;
        let stalled = credit.state.stalled_since.get();
        let is_stalled = stalled.is_some_and(|since| host::now().since_ms(since) >= SLOW_STALL_MS);
        if is_stalled && credit.state.lag_events.get() >= SLOW_LAG_EVENTS {
            credit.end(ByeCode::Slow);
        }
    }
}
