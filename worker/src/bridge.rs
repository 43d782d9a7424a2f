//! An HTTP reader's stream ends here: an open response would keep an object in memory, billed
//! every second. History comes from R2, and then the object follows the reader over a hibernatable
//! WebSocket.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use relay_schemas::{
    BridgeMessage, Bye, ByeCode, ClientMessage, Connect, Counter, Cursor, Dialect, Heartbeat,
    Position, UnixMillis, limits::CREDIT_BYTES, sse_event, sse_preamble,
};
use wasm_bindgen_futures::spawn_local;
use worker::{Delay, Headers, Response, ResponseBuilder, WebSocket};

use crate::{
    call::Call,
    flow::Flow,
    history::Opened,
    host, metrics,
    reading::{self, Reading},
};

/// What is shared by those who serve one reader.
#[derive(Clone)]
pub(crate) struct Bridge {
    pub(crate) writer: Rc<RefCell<Writer>>,
    pub(crate) flow: Flow,
    /// The socket to the object, while it follows the reader.
    socket: Rc<RefCell<Option<WebSocket>>>,
}

impl Bridge {
    /// Notes the socket to the object, or that there is none.
    pub(crate) fn set_socket(&self, socket: Option<WebSocket>) {
        self.socket.replace(socket);
    }

    /// Closes the socket to the object.
    pub(crate) fn close_socket(&self, reason: &str) {
        if let Some(socket) = self.socket.borrow_mut().take() {
            let _ = socket.close(Some(1000), Some(reason));
        }
    }

    /// Lets the object send so much more.
    fn grant(&self, bytes: i64) -> bool {
        let socket = self.socket.borrow();
        let Some(socket) = socket.as_ref() else { return false };
        let message = ClientMessage::Credit { bytes };
        serde_json::to_string(&message).is_ok_and(|text| socket.send_with_str(text).is_ok())
    }
}

/// Begins to answer a reader over HTTP.
pub(crate) fn answer(call: &Call, connect: Connect, opened: Opened) -> worker::Result<Response> {
    let (sender, receiver) = mpsc::unbounded();
    let (urgent_sender, urgent) = mpsc::unbounded();
    let flow = Flow::default();
    let writer = Writer {
        dialect: connect.dialect,
        position: None,
        sender: Some(sender),
        urgent: urgent_sender,
        flow: flow.clone(),
    };
    let bridge = Bridge { writer: Rc::new(RefCell::new(writer)), flow, socket: Rc::default() };
    if connect.dialect == Dialect::Sse {
        bridge.writer.borrow_mut().write(sse_preamble().into_bytes(), Weight::Control);
    }
    let (age_min, age_max) = call.settings.stream_age_ms;
    let planned_end = call.now + host::random_between(age_min, age_max);
    spawn_local(keep_time(connect.heartbeat_s, planned_end, connect.expires_at, bridge.clone()));
    let headers = stream_headers(connect.dialect)?;
    let chunks_until_open = if connect.dialect == Dialect::Sse { 2 } else { 1 };
    spawn_local(reading::serve(Reading::new(call, connect, bridge.clone()), opened));
    let body = Body {
        receiver,
        urgent,
        bridge,
        chunks_until_open,
        consumed_bytes: 0,
        last_weight: Weight::Control,
        ended: false,
    };
    ResponseBuilder::new().with_headers(headers).from_stream(body)
}

fn stream_headers(dialect: Dialect) -> worker::Result<Headers> {
    let headers = Headers::new();
    let content_type = match dialect {
        Dialect::Sse => "text/event-stream",
        Dialect::Ndjson | Dialect::WebSocket => "application/x-ndjson",
    };
    headers.set("Content-Type", content_type)?;
    headers.set("Cache-Control", "no-cache, no-transform")?;
    headers.set("Content-Encoding", "identity")?;
    headers.set("X-Accel-Buffering", "no")?;
    Ok(headers)
}

/// What a chunk counts for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// So many bytes of the reader's credit.
    Credit(u64),
    /// None: the Worker made it, or read it in history.
    Control,
    /// None: it is a heartbeat.
    Heartbeat,
    /// None: it is a signal, which passes ahead.
    Signal,
}

struct Chunk {
    bytes: Vec<u8>,
    weight: Weight,
}

/// Writes frames in the reader's dialect. What waits in the channel is bounded: by the credit that
/// the object has, which is granted as the reader takes chunks, and in history by [`Flow::room`].
pub(crate) struct Writer {
    dialect: Dialect,
    position: Option<Position>,
    sender: Option<UnboundedSender<Chunk>>,
    /// What passes ahead of what the reader has yet to take.
    urgent: UnboundedSender<Chunk>,
    flow: Flow,
}

impl Writer {
    fn write(&mut self, bytes: Vec<u8>, weight: Weight) {
        let Some(sender) = &self.sender else { return };
        let length = bytes.len();
        let sender = if weight == Weight::Signal { &self.urgent } else { sender };
        match sender.unbounded_send(Chunk { bytes, weight }) {
            Ok(()) => self.flow.written(length),
            Err(_) => self.sender = None,
        }
    }

    /// Hands on what the object sent.
    pub(crate) fn relay(&mut self, message: &BridgeMessage<'_>) {
        let weight = match message.lines.starts_with(r#"{"type":"signal""#) {
            true => Weight::Signal,
            false => Weight::Credit(message.charged_bytes),
        };
        self.write_lines(message.position, message.lines.to_owned(), weight);
        // The socket may break before its close arrives: nothing comes after a bye.
        if message.lines.starts_with(r#"{"type":"bye""#) {
            self.position = None;
        }
    }

    /// Writes whole lines, after which the reader stands at `position`.
    pub(crate) fn write_lines(&mut self, position: Position, lines: String, weight: Weight) {
        self.position = Some(position);
        if lines.is_empty() {
            return;
        }
        let bytes = match self.dialect {
            Dialect::Ndjson | Dialect::WebSocket => lines.into_bytes(),
            Dialect::Sse => {
                let mut text = String::with_capacity(lines.len() * 5 / 4);
                lines.lines().for_each(|line| sse_event(line, cursor_of(line), &mut text));
                text.into_bytes()
            }
        };
        self.write(bytes, weight);
    }

    /// Where the reader stands.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Ends the stream; what it says was said.
    pub(crate) fn stop(&mut self) {
        self.sender = None;
    }

    fn control(&mut self, line: &str, cursor: Cursor, weight: Weight) {
        let mut text = String::new();
        match self.dialect {
            Dialect::Ndjson | Dialect::WebSocket => {
                text.push_str(line);
                text.push('\n');
            }
            Dialect::Sse => sse_event(line, Some(cursor), &mut text),
        }
        self.write(text.into_bytes(), weight);
    }

    fn heartbeat(&mut self) {
        if let Some(Position { cursor, tail, n }) = self.position {
            let line = Heartbeat::new(cursor, tail, n, host::now()).to_line();
            self.control(&line, cursor, Weight::Heartbeat);
        }
    }

    /// Ends the stream with a `bye`.
    pub(crate) fn end(&mut self, code: ByeCode, retry_after_ms: u64) {
        if let (Some(Position { cursor, .. }), true) = (self.position, self.sender.is_some()) {
            let line = Bye { code, retry_after_ms, cursor }.to_line();
            self.control(&line, cursor, Weight::Control);
        }
        self.sender = None;
    }
}

/// The cursor of an `open` or `webhook` line, which stands at a fixed place: it becomes the id
/// that a browser resumes from.
pub(crate) fn cursor_of(line: &str) -> Option<Cursor> {
    let rest = line
        .strip_prefix(r#"{"type":"webhook","cursor":""#)
        .or_else(|| line.strip_prefix(r#"{"type":"open","cursor":""#))?;
    rest.get(..Cursor::WIDTH)?.parse().ok()
}

/// Heartbeats and the planned end, from timers of the Worker: one in the object would keep it
/// awake. In its own task, because the platform's timer wakes only the task that polled it first.
async fn keep_time(
    heartbeat_s: u32,
    planned_end: UnixMillis,
    expires_at: UnixMillis,
    bridge: Bridge,
) {
    let writer = Rc::clone(&bridge.writer);
    let mut beat_at = host::now() + u64::from(heartbeat_s) * 1000;
    let end_at = planned_end.min(expires_at);
    loop {
        let wake_at = beat_at.min(end_at);
        Delay::from(Duration::from_millis(wake_at.since_ms(host::now()).max(1))).await;
        let now = host::now();
        if writer.borrow().sender.is_none() {
            break;
        }
        if now >= end_at {
            let code = if now >= expires_at { ByeCode::Expired } else { ByeCode::Reconnect };
            writer.borrow_mut().end(code, host::random_between(0, 1_000));
            bridge.close_socket("planned end");
            bridge.flow.close();
            break;
        }
        if now >= beat_at {
            writer.borrow_mut().heartbeat();
            beat_at = now + u64::from(heartbeat_s) * 1000;
        }
    }
}

/// The response's body. Dropped when the reader is gone, which the platform notices at a write:
/// heartbeats are also how that comes about.
struct Body {
    receiver: UnboundedReceiver<Chunk>,
    urgent: UnboundedReceiver<Chunk>,
    bridge: Bridge,
    /// The preamble of SSE and the chunk with `open` come first, whatever is urgent.
    chunks_until_open: u32,
    consumed_bytes: i64,
    last_weight: Weight,
    ended: bool,
}

impl Body {
    fn note_taken(&mut self, chunk: &Chunk) {
        self.last_weight = chunk.weight;
        self.bridge.flow.taken(chunk.bytes.len());
        if let Weight::Credit(bytes) = chunk.weight {
            self.consumed_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
        }
        if self.consumed_bytes >= CREDIT_BYTES / 2 && self.bridge.grant(self.consumed_bytes) {
            self.consumed_bytes = 0;
        }
    }
}

impl Stream for Body {
    type Item = worker::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.chunks_until_open == 0
            && let Poll::Ready(Some(chunk)) = self.urgent.poll_next_unpin(context)
        {
            self.note_taken(&chunk);
            return Poll::Ready(Some(Ok(chunk.bytes)));
        }
        match self.receiver.poll_next_unpin(context) {
            Poll::Ready(Some(chunk)) => {
                self.chunks_until_open = self.chunks_until_open.saturating_sub(1);
                self.note_taken(&chunk);
                Poll::Ready(Some(Ok(chunk.bytes)))
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.ended && self.last_weight == Weight::Heartbeat {
            metrics::add(Counter::HeartbeatLosses, 1);
        }
        self.bridge.flow.close();
        self.bridge.close_socket("the reader has gone");
    }
}
