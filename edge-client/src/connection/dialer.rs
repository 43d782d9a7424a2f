use std::{
    collections::VecDeque,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use relay_schemas::{Channel, ErrorBody, ErrorCode};
use reqwest::{
    Response, StatusCode, Url,
    header::{
        ACCEPT, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{
    Connection, Connector, Outgoing, Received, ndjson::NdjsonConnection,
    websocket::WebSocketConnection,
};
use crate::{
    access::Http,
    fault::{Fault, Refusal, RefusalKind, shorten},
    limits::ERROR_BODY_BYTES_MAX,
    session::{DialFrom, Start},
};

const CAPACITY: &str = "capacity";

/// How a stream is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket: least delay, and costs the relay nothing while idle.
    WebSocket,
    /// NDJSON over HTTP: passes proxies that know no WebSocket.
    Ndjson,
}

/// What is asked of the relay, besides where to start.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// `{base}/events/stream`
    pub url: Url,
    /// How.
    pub transport: Transport,
    /// Which kinds; all when empty.
    pub kinds: Vec<String>,
    /// Which channel; the credential's own without one.
    pub channel: Option<Channel>,
    /// Whether events that the app itself caused are wanted, too.
    pub own: bool,
    /// Seconds between heartbeats.
    pub heartbeat_s: u32,
    /// Events that may be given to this machine at once, where each is given to one; as many as
    /// the relay thinks right without it.
    pub capacity: Option<usize>,
}

/// Dials a relay over HTTP. Both transports start as the same request, so that proxies,
/// certificates and error answers are the same for both.
#[derive(Clone, Debug)]
pub struct HttpConnector {
    http: Http,
    request: StreamRequest,
    /// Whether the relay is older than the parameter.
    knows_no_capacity: Arc<AtomicBool>,
}

/// A connection to a relay.
#[derive(Debug)]
pub enum HttpConnection {
    /// NDJSON.
    Ndjson(NdjsonConnection),
    /// WebSocket.
    WebSocket(Box<WebSocketConnection>),
}

impl HttpConnector {
    /// Dials with these requests, which bring the credential.
    pub fn new(http: Http, request: StreamRequest) -> Self {
        Self { http, request, knows_no_capacity: Arc::default() }
    }

    fn url(&self, from: &DialFrom) -> Url {
        let mut url = self.request.url.clone();
        {
            let mut query = url.query_pairs_mut();
            match from {
                DialFrom::Cursor(cursor) => query.append_pair("cursor", &cursor.to_string()),
                DialFrom::Start(Start::Earliest) => query.append_pair("cursor", "earliest"),
                DialFrom::Start(Start::Since(since)) => query.append_pair("since", since),
                DialFrom::Start(Start::Tail(count)) => {
                    query.append_pair("tail", &count.to_string())
                }
            };
            query.append_pair("heartbeat", &self.request.heartbeat_s.to_string());
            for kind in &self.request.kinds {
                query.append_pair("kind", kind);
            }
            if let Some(channel) = &self.request.channel {
                query.append_pair("channel", &channel.to_string());
            }
            if self.request.own {
                query.append_pair("own", "include");
            }
            if let Some(capacity) = self.capacity() {
                query.append_pair(CAPACITY, &capacity.to_string());
            }
        }
        url
    }

    fn capacity(&self) -> Option<usize> {
        self.request.capacity.filter(|_| !self.knows_no_capacity.load(Ordering::Relaxed))
    }

    async fn connect(self, from: DialFrom) -> Result<HttpConnection, Fault> {
        let mut request = self.http.get(self.url(&from)).header(ACCEPT, "application/x-ndjson");
        let key = generate_key();
        if self.request.transport == Transport::WebSocket {
            request = request
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_VERSION, "13")
                .header(SEC_WEBSOCKET_KEY, &key);
        }
        let response = self.http.send(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return upgrade(response, &key).await;
        }
        // A proxy that drops the upgrade leaves an NDJSON answer, which is just as good.
        if response.status() == StatusCode::OK && is_ndjson(&response) {
            return Ok(HttpConnection::Ndjson(NdjsonConnection::new(response)));
        }
        let answer = Answer::read(response).await;
        if self.capacity().is_some() && answer.unknown_parameter().as_deref() == Some(CAPACITY) {
            self.knows_no_capacity.store(true, Ordering::Relaxed);
            return Err(Fault::passing("the relay is older than this client"));
        }
        Err(answer.fault())
    }
}

impl Connector for HttpConnector {
    type Connection = HttpConnection;

    fn dial(&self, from: DialFrom) -> BoxFuture<'static, Result<HttpConnection, Fault>> {
        self.clone().connect(from).boxed()
    }
}

impl Connection for HttpConnection {
    fn is_duplex(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    async fn receive(&mut self, inbox: &mut VecDeque<Received>) -> Result<(), Fault> {
        match self {
            Self::Ndjson(connection) => connection.receive(inbox).await,
            Self::WebSocket(connection) => connection.receive(inbox).await,
        }
    }

    async fn send(&mut self, message: Outgoing) -> Result<(), Fault> {
        match self {
            Self::Ndjson(_) => Ok(()),
            Self::WebSocket(connection) => connection.send(message).await,
        }
    }
}

async fn upgrade(response: Response, key: &str) -> Result<HttpConnection, Fault> {
    let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err(Fault::passing("the answer to the upgrade is not one to this request"));
    }
    let stream = response.upgrade().await.map_err(|error| Fault::passing(describe(&error)))?;
    Ok(HttpConnection::WebSocket(Box::new(WebSocketConnection::new(stream).await)))
}

fn is_ndjson(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("application/x-ndjson"))
}

/// An answer that is not the wanted one.
pub(crate) struct Answer {
    status: u16,
    retry_after_s: Option<u64>,
    body: Vec<u8>,
}

impl Answer {
    /// Reads a bounded part of it.
    pub(crate) async fn read(mut response: Response) -> Self {
        let status = response.status().as_u16();
        let retry_after_s = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok());
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > ERROR_BODY_BYTES_MAX {
                break;
            }
        }
        Self { status, retry_after_s, body }
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn is_client_error(&self) -> bool {
        (400..500).contains(&self.status)
    }

    /// What it means for a client.
    pub(crate) fn fault(&self) -> Fault {
        Fault::of_answer(self.status, self.retry_after_s, &self.body)
    }

    /// What it means for a reader of history, for whom a part that is gone stays gone.
    pub(crate) fn history_fault(&self) -> Fault {
        let body = serde_json::from_slice::<ErrorBody>(&self.body);
        match (self.status, body) {
            (404 | 410 | 416, Ok(ErrorBody { error })) => Fault::Terminal(Refusal {
                kind: RefusalKind::Request,
                code: error.code,
                message: shorten(error.message),
            }),
            _ => self.fault(),
        }
    }

    /// Who has the event now, when it was given to another machine.
    pub(crate) fn reassigned_to(&self) -> Option<Option<String>> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let error = &body["error"];
        let is_reassigned = error["code"] == ErrorCode::EventReassigned.as_str();
        let owner = error["assigned_to"].as_str().or(error["details"]["assigned_to"].as_str());
        is_reassigned.then(|| owner.map(|owner| shorten(owner.to_owned())))
    }

    /// Whether this is its code.
    pub(crate) fn says(&self, code: ErrorCode) -> bool {
        let body = serde_json::from_slice::<ErrorBody>(&self.body);
        body.is_ok_and(|body| body.error.code == code.as_str())
    }

    /// The parameter that the relay does not know.
    fn unknown_parameter(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let error = &body["error"];
        let is_unknown = error["code"] == ErrorCode::ParameterUnknown.as_str();
        let name = error["parameter"].as_str().or(error["details"]["parameter"].as_str());
        name.filter(|_| is_unknown).map(str::to_owned)
    }

    /// The relay's own words, when it says that this request, by whomever, will never succeed.
    pub(crate) fn final_words(&self) -> Option<String> {
        let is_final = match self.status {
            401 | 408 | 429 => false,
            // What a relay does not do, it will not do the next time either.
            400..=499 | 501 => true,
            _ => false,
        };
        let body: ErrorBody = serde_json::from_slice(&self.body).ok()?;
        is_final.then(|| shorten(format!("{} ({})", body.error.message, body.error.code)))
    }
}

/// The innermost cause is what people can act on.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let what = if error.is_connect() { "can't connect: " } else { "" };
    shorten(format!("{what}{cause}"))
}
