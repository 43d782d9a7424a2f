use std::pin::Pin;

use futures::{SinkExt, Stream, StreamExt};
use relay_schemas::{ClientMessage, limits::CREDIT_BYTES};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::CloseFrame},
};

use crate::{WAIT_LIMIT, edge::EnrolledEdge, relay::Relay};

type Bytes = Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>;

/// What an HTTP reader reads: a line, or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderLine {
    /// A line without its break.
    Line(String),
    /// The body has ended cleanly.
    End,
    /// The connection broke.
    Broken,
}

/// A plain reader of an NDJSON or SSE body.
pub struct HttpReader {
    /// The answer's headers.
    pub headers: reqwest::header::HeaderMap,
    bytes: Bytes,
    buffer: Vec<u8>,
}

impl HttpReader {
    /// Opens a stream; `query` begins after the question mark.
    pub async fn open(relay: &Relay, edge: &EnrolledEdge, query: &str, accept: &str) -> Self {
        let path = format!("/events/stream?{query}");
        let request = relay.as_edge(edge, reqwest::Method::GET, &path).header("Accept", accept);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        Self::from_answer(answer)
    }

    /// Opens an NDJSON stream.
    pub async fn ndjson(relay: &Relay, edge: &EnrolledEdge, query: &str) -> Self {
        Self::open(relay, edge, query, "application/x-ndjson").await
    }

    /// Reads an answer that was asked for otherwise.
    pub fn from_answer(answer: reqwest::Response) -> Self {
        let headers = answer.headers().clone();
        let bytes = Box::pin(answer.bytes_stream().map(|chunk| chunk.map(|chunk| chunk.to_vec())));
        Self { headers, bytes, buffer: Vec::new() }
    }

    /// The next line, or how the body ended.
    pub async fn next(&mut self) -> ReaderLine {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return ReaderLine::Line(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            match timeout(WAIT_LIMIT, self.bytes.next()).await.expect("waited in vain for a line") {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(_)) => return ReaderLine::Broken,
                None => return ReaderLine::End,
            }
        }
    }

    /// What has come since the last line break.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// The next line, which must come.
    pub async fn line(&mut self) -> String {
        match self.next().await {
            ReaderLine::Line(line) => line,
            ended => panic!("the stream has ended: {ended:?}"),
        }
    }

    /// The next frame of this type; heartbeats and signals, which come when they like, are passed
    /// over, anything else is not.
    pub async fn frame(&mut self, kind: &str) -> Value {
        loop {
            let frame: Value = serde_json::from_str(&self.line().await).unwrap();
            if frame["type"] == kind {
                return frame;
            }
            let comes_any_time = frame["type"] == "heartbeat" || frame["type"] == "signal";
            assert!(comes_any_time, "expected {kind}: {frame}");
        }
    }

    /// The next webhooks' cursors and ids.
    pub async fn webhooks(&mut self, count: usize) -> Vec<Value> {
        let mut webhooks = Vec::with_capacity(count);
        while webhooks.len() < count {
            webhooks.push(self.frame("webhook").await);
        }
        webhooks
    }
}

/// A plain reader of the WebSocket dialect. Grants credit for what it reads, unless told not to.
pub struct SocketReader {
    /// The answer's headers.
    pub headers: reqwest::header::HeaderMap,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Whether credit is granted for what was read, half a window at a time.
    pub grants: bool,
    read_bytes: i64,
}

impl SocketReader {
    /// Opens a stream; `query` begins after the question mark.
    pub async fn open(relay: &Relay, edge: &EnrolledEdge, query: &str) -> Self {
        let url = relay.url.replacen("http", "ws", 1);
        let mut request = format!("{url}/events/stream?{query}").into_client_request().unwrap();
        let credential = format!("Bearer {}", edge.credential).parse().unwrap();
        request.headers_mut().insert("Authorization", credential);
        let (socket, answer) = connect_async(request).await.unwrap();
        Self { headers: answer.headers().clone(), socket, grants: true, read_bytes: 0 }
    }

    /// Sends a text.
    pub async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next text, or how the socket was closed.
    pub async fn next(&mut self) -> Result<String, Option<CloseFrame>> {
        loop {
            let message = timeout(WAIT_LIMIT, self.socket.next()).await;
            match message.expect("waited in vain for a message") {
                Some(Ok(Message::Text(text))) => {
                    let text = text.to_string();
                    self.grant_for(&text).await;
                    return Ok(text);
                }
                Some(Ok(Message::Close(close))) => return Err(close),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    async fn grant_for(&mut self, line: &str) {
        if line.starts_with(r#"{"type":"webhook""#) {
            self.read_bytes += i64::try_from(line.len()).unwrap();
        }
        if self.grants && self.read_bytes >= CREDIT_BYTES / 2 {
            let credit = ClientMessage::Credit { bytes: std::mem::take(&mut self.read_bytes) };
            let text = serde_json::to_string(&credit).unwrap();
            let _ = self.socket.send(Message::text(text)).await;
        }
    }

    /// The next frame of this type; heartbeats are passed over, anything else is not.
    pub async fn frame(&mut self, kind: &str) -> Value {
        loop {
            let text = self.next().await.expect("the socket was closed");
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
            let comes_any_time = frame["type"] == "heartbeat" || frame["type"] == "signal";
            assert!(comes_any_time, "expected {kind}: {frame}");
        }
    }
}
