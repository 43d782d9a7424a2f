use relay_schemas::{Dialect, Frame};
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    WAIT_LIMIT,
    edge::EnrolledEdge,
    reader::{HttpReader, ReaderLine, SocketReader},
    relay::Relay,
};

/// A frame, and what stands around it in SSE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadFrame {
    /// SSE's `event`.
    pub name: Option<String>,
    /// SSE's `id`.
    pub id: Option<String>,
    /// The frame's line.
    pub line: String,
}

impl ReadFrame {
    /// The frame's type. A body that other JSON readers refuse, such as one with half a surrogate
    /// pair, is not looked into.
    pub fn kind(&self) -> &'static str {
        match Frame::parse(&self.line).unwrap() {
            Frame::Open(_) => "open",
            Frame::Webhook(_) => "webhook",
            Frame::Heartbeat(_) => "heartbeat",
            Frame::Gap(_) => "gap",
            Frame::Bye(_) => "bye",
            Frame::Signal(_) => "signal",
            Frame::Unknown => "unknown",
        }
    }

    /// The frame.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.line).unwrap()
    }

    /// The exact bytes of a webhook's body.
    pub fn body(&self) -> Vec<u8> {
        match Frame::parse(&self.line) {
            Ok(Frame::Webhook(webhook)) => webhook.body_bytes().unwrap().into_owned(),
            _ => panic!("not a webhook: {}", self.line),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The body ended as HTTP wants it.
    Cleanly,
    /// Without an end.
    Broken,
    /// With the close code of a WebSocket.
    Closed(u16),
}

/// A reader that reads frames, whatever the dialect.
pub struct FrameReader {
    /// The dialect.
    pub dialect: Dialect,
    /// The answer's headers.
    pub headers: HeaderMap,
    inner: Inner,
}

enum Inner {
    Http(HttpReader),
    Socket(Box<SocketReader>),
}

impl FrameReader {
    /// Opens a stream and reads no frame; `query` begins after the question mark.
    pub async fn dial(relay: &Relay, edge: &EnrolledEdge, dialect: Dialect, query: &str) -> Self {
        let accept = match dialect {
            Dialect::Sse => "text/event-stream",
            Dialect::Ndjson => "application/x-ndjson",
            Dialect::WebSocket => {
                let reader = SocketReader::open(relay, edge, query).await;
                let headers = reader.headers.clone();
                return Self { dialect, headers, inner: Inner::Socket(Box::new(reader)) };
            }
        };
        let reader = HttpReader::open(relay, edge, query, accept).await;
        Self { dialect, headers: reader.headers.clone(), inner: Inner::Http(reader) }
    }

    /// Reads an NDJSON answer that was asked for otherwise.
    pub fn of_ndjson(reader: HttpReader) -> Self {
        let headers = reader.headers.clone();
        Self { dialect: Dialect::Ndjson, headers, inner: Inner::Http(reader) }
    }

    /// Opens a stream and reads its `open` frame.
    pub async fn open(
        relay: &Relay,
        edge: &EnrolledEdge,
        dialect: Dialect,
        query: &str,
    ) -> (Self, Value) {
        let mut reader = Self::dial(relay, edge, dialect, query).await;
        let open = reader.frame("open").await.json();
        (reader, open)
    }

    /// The next frame, or how the connection ended.
    pub async fn next(&mut self) -> Result<ReadFrame, Ended> {
        match (&mut self.inner, self.dialect) {
            (Inner::Socket(socket), _) => match socket.next().await {
                Ok(line) => Ok(ReadFrame { line, ..ReadFrame::default() }),
                Err(Some(close)) => Err(Ended::Closed(close.code.into())),
                Err(None) => Err(Ended::Broken),
            },
            (Inner::Http(reader), Dialect::Sse) => next_event(reader).await,
            (Inner::Http(reader), _) => {
                let line = next_line(reader).await?;
                Ok(ReadFrame { line, ..ReadFrame::default() })
            }
        }
    }

    /// The next frame of this type; heartbeats and signals, which come when they like, are passed
    /// over, anything else is not.
    pub async fn frame(&mut self, kind: &str) -> ReadFrame {
        let dialect = self.dialect;
        // Heartbeats without end are no reason to wait without end.
        let frame = timeout(WAIT_LIMIT, self.next_but_heartbeats(kind)).await;
        let frame = frame.unwrap_or_else(|_| panic!("{dialect:?}: only heartbeats, no {kind}"));
        let frame =
            frame.unwrap_or_else(|ended| panic!("{dialect:?} ended before {kind}: {ended:?}"));
        assert_eq!(frame.kind(), kind, "{dialect:?}: {frame:?}");
        frame
    }

    /// The next frame that is `wanted`, or neither a heartbeat nor a signal.
    async fn next_but_heartbeats(&mut self, wanted: &str) -> Result<ReadFrame, Ended> {
        loop {
            let frame = self.next().await?;
            if frame.kind() == wanted || !["heartbeat", "signal"].contains(&frame.kind()) {
                return Ok(frame);
            }
        }
    }

    /// The next webhooks.
    pub async fn webhooks(&mut self, count: usize) -> Vec<ReadFrame> {
        let mut webhooks = Vec::with_capacity(count);
        while webhooks.len() < count {
            webhooks.push(self.frame("webhook").await);
        }
        webhooks
    }

    /// The end that must come next, after heartbeats at most.
    pub async fn end(&mut self) -> Ended {
        match timeout(WAIT_LIMIT, self.next_but_heartbeats("end")).await {
            Ok(Err(ended)) => ended,
            Ok(Ok(frame)) => panic!("{:?}: {frame:?} in place of the end", self.dialect),
            Err(_) => panic!("{:?}: only heartbeats, no end", self.dialect),
        }
    }

    /// Asserts a planned end: the `bye` frame, then the dialect's own end. Gives the `bye`.
    pub async fn bye(&mut self, code: relay_schemas::ByeCode) -> Value {
        let bye = self.frame("bye").await.json();
        assert_eq!(bye["code"], code.as_str(), "{:?}", self.dialect);
        let expected = match self.dialect {
            Dialect::WebSocket => Ended::Closed(code.close_code()),
            Dialect::Ndjson | Dialect::Sse => Ended::Cleanly,
        };
        assert_eq!(self.end().await, expected, "{:?}", self.dialect);
        bye
    }

    /// The WebSocket below, to say more than a plain reader does.
    pub fn socket(&mut self) -> &mut SocketReader {
        match &mut self.inner {
            Inner::Socket(socket) => socket,
            Inner::Http(_) => panic!("{:?} has no socket", self.dialect),
        }
    }
}

async fn next_line(reader: &mut HttpReader) -> Result<String, Ended> {
    match reader.next().await {
        ReaderLine::Line(line) => Ok(line),
        ReaderLine::End => Err(Ended::Cleanly),
        ReaderLine::Broken => Err(Ended::Broken),
    }
}

/// Server-sent events without data, such as the one that only says `retry`, are no frames.
async fn next_event(reader: &mut HttpReader) -> Result<ReadFrame, Ended> {
    let mut event = ReadFrame::default();
    loop {
        let line = next_line(reader).await?;
        match line.split_once(": ") {
            None if line.is_empty() && event.line.is_empty() => event = ReadFrame::default(),
            None if line.is_empty() => return Ok(event),
            Some(("data", data)) => {
                assert!(event.line.is_empty(), "two data lines: {data}");
                data.clone_into(&mut event.line);
            }
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("event", name)) => event.name = Some(name.to_owned()),
            Some(("retry", _)) => {}
            _ => panic!("not a line of an event: {line:?}"),
        }
    }
}
