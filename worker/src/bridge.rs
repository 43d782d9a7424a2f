//! An HTTP reader's stream ends here, over a hibernatable WebSocket to the object: an open
//! response would keep an object in memory, billed every second.

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
use worker::{Delay, Headers, Response, ResponseBuilder, WebSocket, WebsocketEvent};

use crate::{call::Call, host, metrics, stream_client::RESUMED_FROM_HEADER};

/// The answer to a reader whose socket to the object is open.
pub(crate) fn answer(call: &Call, connect: &Connect, opened: Response) -> worker::Result<Response> {
    let resumed_from = opened.headers().get(RESUMED_FROM_HEADER)?;
    let socket = opened
        .websocket()
        .ok_or_else(|| worker::Error::RustError("the object opened no socket".into()))?;
    let response = if connect.dialect.is_bridged() {
        let (age_min, age_max) = call.settings.stream_age_ms;
        let planned_end = call.now + host::random_between(age_min, age_max);
        bridged(connect, socket, planned_end)?
    } else {
        Response::from_websocket(socket)?
    };
    if let Some(cursor) = resumed_from {
        response.headers().set(RESUMED_FROM_HEADER, &cursor)?;
    }
    Ok(response)
}

fn bridged(
    connect: &Connect,
    socket: WebSocket,
    planned_end: UnixMillis,
) -> worker::Result<Response> {
    socket.accept()?;
    let (sender, receiver) = mpsc::unbounded();
    let writer = Rc::new(RefCell::new(Writer {
        dialect: connect.dialect,
        position: None,
        sender: Some(sender),
    }));
    if connect.dialect == Dialect::Sse {
        writer.borrow_mut().write(sse_preamble().into_bytes(), Weight::Control);
    }
    spawn_local(pump(socket.clone(), Rc::clone(&writer)));
    spawn_local(keep_time(
        connect.heartbeat_s,
        planned_end,
        connect.expires_at,
        socket.clone(),
        writer,
    ));
    let body =
        Body { receiver, socket, consumed_bytes: 0, last_weight: Weight::Control, ended: false };
    ResponseBuilder::new().with_headers(stream_headers(connect.dialect)?).from_stream(body)
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
enum Weight {
    /// So many bytes of the reader's credit.
    Credit(u64),
    /// None: the Worker made it.
    Control,
    /// None: it is a heartbeat.
    Heartbeat,
}

struct Chunk {
    bytes: Vec<u8>,
    weight: Weight,
}

/// Writes frames in the reader's dialect. What waits in the channel is bounded by the credit that
/// the object has, which is granted as the reader takes chunks.
struct Writer {
    dialect: Dialect,
    position: Option<Position>,
    sender: Option<UnboundedSender<Chunk>>,
}

impl Writer {
    fn write(&mut self, bytes: Vec<u8>, weight: Weight) {
        if let Some(sender) = &self.sender
            && sender.unbounded_send(Chunk { bytes, weight }).is_err()
        {
            self.sender = None;
        }
    }

    fn relay(&mut self, message: &BridgeMessage<'_>) {
        self.position = Some(message.position);
        if message.lines.is_empty() {
            return;
        }
        let weight = Weight::Credit(message.charged_bytes);
        let bytes = match self.dialect {
            Dialect::Ndjson | Dialect::WebSocket => message.lines.as_bytes().to_vec(),
            Dialect::Sse => {
                let mut text = String::with_capacity(message.lines.len() * 5 / 4);
                message.lines.lines().for_each(|line| sse_event(line, cursor_of(line), &mut text));
                text.into_bytes()
            }
        };
        self.write(bytes, weight);
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

    fn end(&mut self, code: ByeCode, retry_after_ms: u64) {
        if let (Some(Position { cursor, .. }), true) = (self.position, self.sender.is_some()) {
            let line = Bye { code, retry_after_ms, cursor }.to_line();
            self.control(&line, cursor, Weight::Control);
        }
        self.sender = None;
    }
}

/// The cursor of an `open` or `webhook` line, which stands at a fixed place: it becomes the id
/// that a browser resumes from.
fn cursor_of(line: &str) -> Option<Cursor> {
    let rest = line
        .strip_prefix(r#"{"type":"webhook","cursor":""#)
        .or_else(|| line.strip_prefix(r#"{"type":"open","cursor":""#))?;
    rest.get(..Cursor::WIDTH)?.parse().ok()
}

/// Moves messages of the object to the reader until either is gone.
async fn pump(socket: WebSocket, writer: Rc<RefCell<Writer>>) {
    let Ok(mut events) = socket.events() else { return };
    while let Some(event) = events.next().await {
        match event {
            Ok(WebsocketEvent::Message(message)) => {
                let text = message.text().unwrap_or_default();
                match BridgeMessage::decode(&text) {
                    Some(message) => writer.borrow_mut().relay(&message),
                    None => break,
                }
            }
            Ok(WebsocketEvent::Close(close)) => {
                // A planned end has said so in a frame of its own.
                if (4000..5000).contains(&close.code()) {
                    writer.borrow_mut().sender = None;
                }
                break;
            }
            Err(_) => break,
        }
    }
    // The object was moved, updated or reset: the reader resumes from where it stands.
    writer.borrow_mut().end(ByeCode::Reconnect, host::random_between(100, 1_000));
}

/// Heartbeats and the planned end, from timers of the Worker: one in the object would keep it
/// awake. In its own task, because the platform's timer wakes only the task that polled it first.
async fn keep_time(
    heartbeat_s: u32,
    planned_end: UnixMillis,
    expires_at: UnixMillis,
    socket: WebSocket,
    writer: Rc<RefCell<Writer>>,
) {
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
            let _ = socket.close(Some(1000), Some("planned end"));
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
    socket: WebSocket,
    consumed_bytes: i64,
    last_weight: Weight,
    ended: bool,
}

impl Body {
    /// Lets the object send as much more as the reader has taken.
    fn grant(&mut self) {
        if self.consumed_bytes < CREDIT_BYTES / 2 {
            return;
        }
        let message = ClientMessage::Credit { bytes: std::mem::take(&mut self.consumed_bytes) };
        if let Ok(text) = serde_json::to_string(&message) {
            let _ = self.socket.send_with_str(text);
        }
    }
}

impl Stream for Body {
    type Item = worker::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.receiver.poll_next_unpin(context) {
            Poll::Ready(Some(chunk)) => {
                self.last_weight = chunk.weight;
                if let Weight::Credit(bytes) = chunk.weight {
                    self.consumed_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
                    self.grant();
                }
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
        let _ = self.socket.close(Some(1000), Some("the reader has gone"));
    }
}
