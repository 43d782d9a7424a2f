//! A relay of one stream on port 0. Each connection follows the next plan; without one, it serves
//! everything and stays.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::FutureExt;
use relay_schemas::{
    Bye, ByeCode, ClientMessage, Cursor, ErrorCode, Gap, GapReason, Heartbeat, Open, Problem,
    Report, UnixMillis, write_webhook_frame,
};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{Interval, interval},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use crate::{
    events::{cursor, record},
    http::{Answer, Request, respond},
    stream_out::{Broken, Out},
};

/// What happens to one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Answer with this instead of a stream.
    pub(crate) refuse: Option<(ErrorCode, Option<u64>)>,
    /// Answer with a page that is no relay's.
    pub(crate) portal: bool,
    /// Break the connection after so many frames, `open` included.
    pub(crate) frames_max: Option<usize>,
    /// Break it within the next frame, rather than before it.
    pub(crate) mid_line: bool,
    /// Instead of breaking it, say goodbye.
    pub(crate) bye: Option<(ByeCode, u64)>,
    /// Instead of breaking it, close it with this code (WebSocket only).
    pub(crate) close: Option<u16>,
    /// Instead of breaking it, say nothing more, and answer no ping.
    pub(crate) silent: bool,
    /// A gap frame comes first.
    pub(crate) gap: bool,
    /// This event is left out, but counted.
    pub(crate) lose: Option<u64>,
    /// A line that is no frame comes in place of this event.
    pub(crate) garble: Option<u64>,
    /// Serve from after this event, whatever was asked for.
    pub(crate) from: Option<u64>,
    /// This line comes after `open`.
    pub(crate) extra: Option<String>,
}

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
    records: Vec<String>,
    plans: VecDeque<Plan>,
    report_plans: VecDeque<(ErrorCode, Option<u64>)>,
    device_plans: VecDeque<Answer>,
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
                records: Vec::new(),
                plans: VecDeque::new(),
                report_plans: VecDeque::new(),
                device_plans: VecDeque::new(),
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

    pub(crate) fn push_bodies(&self, bodies: &[String]) {
        let mut state = self.state();
        for body in bodies {
            let seq = state.records.len() as u64 + 1;
            state.records.push(record(seq, body));
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
                    let answer = self.take_activity(&request.body);
                    self.changed.notify_waiters();
                    respond(&mut stream, &answer).await;
                }
                ("/events/stream", query) => {
                    self.state().seen.dials.push(query.to_owned());
                    self.changed.notify_waiters();
                    return self.stream(stream, &request, query).await;
                }
                ("/events/status", _) => {
                    let answer = self.take_report(&request.body);
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

    fn take_activity(&self, body: &[u8]) -> Answer {
        let mut state = self.state();
        state.seen.told.push(serde_json::from_slice(body).unwrap());
        match state.report_plans.pop_front() {
            Some((ErrorCode::EventReassigned, _)) => reassigned(),
            Some(plan) => Answer::problem(plan),
            None => Answer::ok("{}"),
        }
    }

    fn take_report(&self, body: &[u8]) -> Answer {
        let report = Report::parse(body).unwrap();
        let mut state = self.state();
        state.seen.told.push(serde_json::from_slice(body).unwrap());
        if let Some((ErrorCode::EventReassigned, _)) = state.report_plans.front() {
            state.report_plans.pop_front();
            return reassigned();
        }
        if let Some(plan) = state.report_plans.pop_front() {
            return Answer::problem(plan);
        }
        state.seen.reports.push(report);
        Answer::ok("{}")
    }

    async fn stream(self, mut stream: TcpStream, request: &Request, query: &str) {
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

fn reassigned() -> Answer {
    let problem = Problem::new(ErrorCode::EventReassigned, "another machine has it");
    let body = problem.with("assigned_to", "desktop").to_json();
    Answer { status: 409, retry_after_s: None, body }
}

/// One connection's place.
struct Reader<'a> {
    relay: &'a FakeRelay,
    plan: Plan,
    next: u64,
    n: u64,
    frames: usize,
    lines: usize,
    credit: Option<i64>,
    heartbeats: Interval,
}

impl<'a> Reader<'a> {
    fn new(relay: &'a FakeRelay, plan: Plan, query: &str, has_credit: bool) -> Self {
        let state = relay.state();
        let start = query.split('&').find_map(|pair| pair.split_once('='));
        let tail = state.records.len() as u64;
        let after = match start {
            Some(("cursor", "earliest")) => state.trimmed,
            Some(("cursor", text)) => text.parse::<Cursor>().unwrap().seq.get(),
            Some(("since", "now")) => tail,
            Some(("tail", count)) => tail.saturating_sub(count.parse().unwrap()),
            other => panic!("no such start: {other:?}"),
        };
        let after = plan.from.unwrap_or(after);
        Self {
            relay,
            plan,
            next: after + 1,
            n: 0,
            frames: 0,
            lines: state.lines.len(),
            credit: has_credit.then_some(state.credit),
            heartbeats: interval(Duration::from_secs(u64::from(state.heartbeat_s))),
        }
    }

    async fn run(mut self, out: &mut Out) -> Result<(), Broken> {
        let (open, gap) = {
            let state = self.relay.state();
            let requested = cursor(self.next - 1);
            let oldest = cursor(state.trimmed);
            let is_trimmed = self.next <= state.trimmed;
            if is_trimmed {
                self.next = state.trimmed + 1;
            }
            let open = Open {
                cursor: cursor(self.next - 1),
                epoch: requested.epoch,
                oldest,
                tail: cursor(state.records.len() as u64),
                heartbeat_s: state.heartbeat_s,
                credit: self.credit,
                mode: None,
                capacity: None,
            };
            let gap = Gap {
                requested: requested.to_string(),
                resumed_from: open.cursor,
                oldest,
                reason: GapReason::Trimmed,
            };
            (open, (is_trimmed || self.plan.gap).then_some(gap))
        };
        self.frame(out, &open.to_line()).await?;
        if let Some(gap) = gap {
            self.frame(out, &gap.to_line()).await?;
        }
        if let Some(line) = self.plan.extra.take() {
            out.text(&line).await?;
        }
        loop {
            let changed = self.relay.changed.notified();
            while let Some(line) = self.next_extra() {
                out.text(&line).await?;
            }
            while let Some(line) = self.next_line() {
                let length = line.len() as i64;
                self.frame(out, &line).await?;
                self.credit = self.credit.map(|credit| credit - length);
                self.relay.state().seen.events_sent += 1;
                self.listen(out).await?;
            }
            tokio::select! {
                () = changed => {}
                message = out.message() => self.hear(out, message).await?,
                _ = self.heartbeats.tick(), if !out.is_websocket() => {
                    let tail = self.relay.state().records.len() as u64;
                    let now = UnixMillis::new(1);
                    let heartbeat = Heartbeat::new(cursor(self.next - 1), cursor(tail), self.n, now);
                    self.frame(out, &heartbeat.to_line()).await?;
                }
            }
        }
    }

    /// Takes what the client has said so far.
    async fn listen(&mut self, out: &mut Out) -> Result<(), Broken> {
        while let Some(message) = out.message().now_or_never() {
            self.hear(out, message).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, out: &mut Out, message: Option<Message>) -> Result<(), Broken> {
        let Some(message) = message else { return Err(Broken) };
        let Message::Text(text) = message else { return Ok(()) };
        if text.as_str() == "ping" {
            self.relay.state().seen.pings += 1;
            return out.text("pong").await;
        }
        if let Ok(ClientMessage::Credit { bytes }) = serde_json::from_str(&text) {
            self.credit = self.credit.map(|credit| credit + bytes);
            self.relay.state().seen.bytes_granted += bytes;
        }
        Ok(())
    }

    fn next_extra(&mut self) -> Option<String> {
        let line = self.relay.state().lines.get(self.lines).cloned()?;
        self.lines += 1;
        Some(line)
    }

    fn next_line(&mut self) -> Option<String> {
        if self.credit.is_some_and(|credit| credit <= 0) {
            return None;
        }
        let state = self.relay.state();
        let record = state.records.get(usize::try_from(self.next).unwrap() - 1)?.clone();
        drop(state);
        let seq = self.next;
        self.next += 1;
        self.n += 1;
        if self.plan.lose == Some(seq) {
            return self.next_line();
        }
        let mut line = String::new();
        write_webhook_frame(cursor(seq), self.n, &record, &mut line);
        if self.plan.garble == Some(seq) {
            line.truncate(line.len() - 1);
        }
        Some(line)
    }

    async fn frame(&mut self, out: &mut Out, line: &str) -> Result<(), Broken> {
        if self.plan.frames_max == Some(self.frames) {
            self.end(out, line).await;
            return Err(Broken);
        }
        self.frames += 1;
        out.text(line).await
    }

    async fn end(&mut self, out: &mut Out, line: &str) {
        if self.plan.silent {
            return std::future::pending().await;
        }
        if let Some((code, retry_after_ms)) = self.plan.bye {
            let bye = Bye { code, retry_after_ms, cursor: cursor(self.next - 1) };
            let _ = out.text(&bye.to_line()).await;
            return out.close(code.close_code()).await;
        }
        if let Some(code) = self.plan.close {
            return out.close(code).await;
        }
        if self.plan.mid_line {
            out.part(line).await;
        }
    }
}
