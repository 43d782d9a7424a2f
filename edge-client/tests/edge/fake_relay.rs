//! A relay of one stream on port 0. Each connection follows the next plan; without one, it serves
//! everything and stays.

mod plan;
mod reader;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use relay_schemas::{ActivityRequest, ErrorCode, EventId, Problem, Report};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

pub(crate) use self::plan::Plan;
use self::reader::Reader;
use crate::{
    events::{PERSONAL, event_id, record_in},
    http::{Answer, Request, respond},
    stream_out::Out,
};

#[derive(Default)]
pub(crate) struct Seen {
    /// The query of every dial.
    pub(crate) dials: Vec<String>,
    /// The `Authorization` of every request.
    pub(crate) credentials: Vec<String>,
    /// Every report, in the order in which they were taken.
    pub(crate) reports: Vec<Report>,
    /// Bodies of reports and activities together, in that order, also those that were refused.
    pub(crate) told: Vec<Value>,
    /// Device and refresh requests: the path and the body.
    pub(crate) device: Vec<(String, String)>,
    /// Paths that this relay does not know.
    pub(crate) others: Vec<String>,
    /// Frames of events written to connections, and credit granted.
    pub(crate) events_sent: usize,
    pub(crate) bytes_granted: i64,
    pub(crate) pings: usize,
}

struct State {
    /// Whose stream it is. No other channel is known here, nor any event but its records.
    channel: &'static str,
    records: Vec<String>,
    /// Whether Linear is never told anything here.
    shows_nothing: bool,
    plans: VecDeque<Plan>,
    report_plans: VecDeque<(ErrorCode, Option<u64>)>,
    device_plans: VecDeque<Answer>,
    /// A parameter that this relay is too old for.
    unknown: Option<&'static str>,
    /// Only this credential is good, when there is one; others have expired.
    only: Option<String>,
    lines: Vec<String>,
    seen: Seen,
    heartbeat_s: u32,
    credit: i64,
    trimmed: u64,
}

/// The relay; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct FakeRelay {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl FakeRelay {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                channel: PERSONAL,
                records: Vec::new(),
                shows_nothing: false,
                plans: VecDeque::new(),
                report_plans: VecDeque::new(),
                device_plans: VecDeque::new(),
                unknown: None,
                only: None,
                lines: Vec::new(),
                seen: Seen::default(),
                heartbeat_s: 1,
                credit: 256 * 1024,
                trimmed: 0,
            })),
            changed: Arc::new(Notify::new()),
        };
        let accepting = relay.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let relay = accepting.clone();
                tokio::spawn(async move { relay.serve(stream).await });
            }
        });
        relay
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds events whose bodies belong to these agent sessions.
    pub(crate) fn push(&self, sessions: &[&str]) {
        let bodies: Vec<String> = sessions
            .iter()
            .map(|session| {
                format!(r#"{{"type":"AgentSessionEvent","agentSession":{{"id":"{session}"}}}}"#)
            })
            .collect();
        self.push_bodies(&bodies);
    }

    /// From now on this is the stream of that channel.
    pub(crate) fn set_channel(&self, channel: &'static str) {
        self.state().channel = channel;
    }

    /// This relay has nothing to tell Linear with.
    pub(crate) fn show_nothing(&self) {
        self.state().shows_nothing = true;
    }

    pub(crate) fn push_bodies(&self, bodies: &[String]) {
        let mut state = self.state();
        for body in bodies {
            let seq = state.records.len() as u64 + 1;
            let record = record_in(state.channel, seq, body);
            state.records.push(record);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Adds records as they are stored.
    pub(crate) fn push_records(&self, records: Vec<String>) {
        self.state().records.extend(records);
        self.changed.notify_waiters();
    }

    pub(crate) fn plan(&self, plan: Plan) {
        self.state().plans.push_back(plan);
    }

    /// The next report is answered with this.
    pub(crate) fn plan_report(&self, code: ErrorCode, retry_after_s: Option<u64>) {
        self.state().report_plans.push_back((code, retry_after_s));
    }

    pub(crate) fn clear_report_plans(&self) {
        self.state().report_plans.clear();
    }

    /// The next device or refresh request is answered with this; without a plan, not at all.
    pub(crate) fn plan_device(&self, answer: Answer) {
        self.state().device_plans.push_back(answer);
    }

    /// From now on every other credential has expired.
    pub(crate) fn accept_only(&self, token: &str) {
        self.state().only = Some(format!("Bearer {token}"));
    }

    /// This relay is older than a parameter of streams.
    pub(crate) fn refuse_parameter(&self, name: &'static str) {
        self.state().unknown = Some(name);
    }

    /// Sends a line on every connection that is open.
    pub(crate) fn send_line(&self, line: String) {
        self.state().lines.push(line);
        self.changed.notify_waiters();
    }

    pub(crate) fn set_credit(&self, credit: i64) {
        self.state().credit = credit;
    }

    pub(crate) fn trim(&self, count: u64) {
        self.state().trimmed = count;
    }

    pub(crate) fn seen<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.state().seen)
    }

    /// Waits until the relay has seen something.
    pub(crate) async fn wait_for(&self, is_seen: impl Fn(&Seen) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.seen(&is_seen) {
                return;
            }
            // A look every now and then spares a notification for every counter.
            let _ = tokio::time::timeout(Duration::from_millis(10), changed).await;
        }
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Some(request) = Request::read(&mut stream).await {
            let authorization = request.header("authorization").unwrap_or_default();
            self.state().seen.credentials.push(authorization.clone());
            let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
            let is_expired = self.state().only.as_ref().is_some_and(|only| *only != authorization);
            if is_expired && !path.starts_with("/device/") {
                respond(&mut stream, &Answer::problem((ErrorCode::CredentialExpired, None))).await;
                continue;
            }
            match (path, query) {
                ("/device/code" | "/device/token" | "/device/revoke", _) => {
                    let answer = self.answer_device(path, &request.body);
                    self.changed.notify_waiters();
                    let Some(answer) = answer else { return };
                    respond(&mut stream, &answer).await;
                }
                ("/machines/self", _) => {
                    let body = r#"{"edge":"edge_1","name":"laptop","organization":"org-1","user":"u-1","scopes":["read:events"],"channels":["user:u-1"],"expires_at":"2026-11-20T09:00:00Z"}"#;
                    respond(&mut stream, &Answer::ok(body)).await;
                }
                ("/events/activity", _) => {
                    let answer = self.take_activity(query, &request.body);
                    self.changed.notify_waiters();
                    respond(&mut stream, &answer).await;
                }
                ("/events/stream", query) => {
                    self.state().seen.dials.push(query.to_owned());
                    self.changed.notify_waiters();
                    return self.stream(stream, &request, query).await;
                }
                ("/events/status", _) => {
                    let answer = self.take_report(query, &request.body);
                    self.changed.notify_waiters();
                    respond(&mut stream, &answer).await;
                }
                ("/health", _) => {
                    respond(&mut stream, &Answer::ok(r#"{"status":"ok","version":"9"}"#)).await;
                }
                ("/events", _) => {
                    let refuse = self.state().plans.pop_front().and_then(|plan| plan.refuse);
                    let answer = refuse.map_or_else(|| Answer::ok("{}"), Answer::problem);
                    respond(&mut stream, &answer).await;
                }
                _ => {
                    self.state().seen.others.push(request.path.clone());
                    respond(&mut stream, &Answer::problem((ErrorCode::NotFound, None))).await;
                }
            }
        }
    }

    fn answer_device(&self, path: &str, body: &[u8]) -> Option<Answer> {
        let mut state = self.state();
        let body = String::from_utf8(body.to_vec()).unwrap();
        state.seen.device.push((path.to_owned(), body));
        state.device_plans.pop_front()
    }

    fn take_activity(&self, query: &str, body: &[u8]) -> Answer {
        let activity = ActivityRequest::parse(body);
        let mut state = self.state();
        state.seen.told.push(serde_json::from_slice(body).unwrap());
        if let Some(answer) = state.refusal(query, activity.as_ref().ok().map(|one| one.event_id)) {
            return answer;
        }
        match activity {
            Ok(_) if state.shows_nothing => Answer::problem((ErrorCode::OauthNotConfigured, None)),
            Ok(_) => Answer::ok("{}"),
            Err(problem) => Answer::problem((problem.code, None)),
        }
    }

    fn take_report(&self, query: &str, body: &[u8]) -> Answer {
        let report = Report::parse(body).unwrap();
        let mut state = self.state();
        state.seen.told.push(serde_json::from_slice(body).unwrap());
        if let Some(answer) = state.refusal(query, Some(report.event_id)) {
            return answer;
        }
        state.seen.reports.push(report);
        Answer::ok("{}")
    }

    async fn stream(self, mut stream: TcpStream, request: &Request, query: &str) {
        let unknown = self.state().unknown;
        if let Some(name) = unknown.filter(|name| query.contains(*name)) {
            let problem = Problem::new(ErrorCode::ParameterUnknown, "unknown parameter");
            let body = problem.with("parameter", name).to_json();
            let answer = Answer { status: 400, retry_after_s: None, body };
            return respond(&mut stream, &answer).await;
        }
        let plan = self.state().plans.pop_front().unwrap_or_default();
        if let Some(refusal) = plan.refuse {
            return respond(&mut stream, &Answer::problem(refusal)).await;
        }
        if plan.portal {
            let page = Answer { status: 403, retry_after_s: None, body: "<html>".into() };
            return respond(&mut stream, &page).await;
        }
        let key = request.header("sec-websocket-key");
        let mut out = match key {
            Some(key) => {
                let accept = derive_accept_key(key.as_bytes());
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                Out::WebSocket(Box::new(socket))
            }
            None => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\
                            Connection: close\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                Out::Ndjson(stream)
            }
        };
        let reader = Reader::new(&self, plan, query, out.is_websocket());
        let _ = reader.run(&mut out).await;
    }
}

impl State {
    /// What the next report or activity is refused with: as planned, or because its event is not in
    /// the stream that it names.
    fn refusal(&mut self, query: &str, event: Option<EventId>) -> Option<Answer> {
        match self.report_plans.pop_front() {
            Some((ErrorCode::EventReassigned, _)) => return Some(reassigned()),
            Some(plan) => return Some(Answer::problem(plan)),
            None => {}
        }
        let is_here = channel_of(query) == self.channel;
        let mut known = (1..=self.records.len() as u64).map(event_id);
        let is_known = event.is_none_or(|event| known.any(|known| known == event));
        (!is_here || !is_known).then(|| Answer::problem((ErrorCode::EventUnknown, None)))
    }
}

/// The channel that a query names, or else the person's own.
fn channel_of(query: &str) -> String {
    let url = reqwest::Url::parse(&format!("http://relay/?{query}")).unwrap();
    let named = url.query_pairs().find(|(name, _)| name == "channel");
    named.map_or_else(|| PERSONAL.to_owned(), |(_, channel)| channel.into_owned())
}

fn reassigned() -> Answer {
    let problem = Problem::new(ErrorCode::EventReassigned, "another machine has it");
    let body = problem.with("assigned_to", "desktop").to_json();
    Answer { status: 409, retry_after_s: None, body }
}
