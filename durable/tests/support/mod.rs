//! What the tests of the cores share: events, a stream that can be reloaded between any two
//! steps, and the exact texts that it is to send.
#![allow(dead_code, reason = "each test file uses a part of this")]

mod reader;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use relay_durable::{
    Command, Connected, ConnectionId, GivenUp, Log, LogStorage, RowIndex, SegmentReader, Stream,
    StreamError, StreamSettings, Subscription,
    test_storage::{MemoryStorage, StorageFault},
};
use relay_schemas::{
    Append, AppendReply, BodyMode, ByeCode, Connect, Cursor, Dialect, EdgeId, Epoch, EventId,
    HistoryOffer, KindFilter, NewEvent, OnGap, PageCommand, PageQuery, Problem, Record,
    RecordParts, Report, ReportReply, ReportStatus, SegmentEntry, Seq, Start, StreamKey, Subject,
    UnixMillis, index_key, limits::LOG_ROW_EXTENDED_BYTES_MAX, write_webhook_frame,
};

pub(crate) const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);
pub(crate) const SALT: u32 = 7;
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
pub(crate) const RETENTION_MS: u64 = 62 * DAY_MS;

pub(crate) fn id(number: u64) -> EventId {
    EventId::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn event_of(number: u64, kind: &str, received_at: UnixMillis, body: &str) -> NewEvent {
    let record = Record::new(&RecordParts {
        id: id(number),
        received_at,
        kind,
        organization: &"org-1".parse().unwrap(),
        channel: &"user:u-1".parse().unwrap(),
        delivery: None,
        headers: &[],
        subject: Subject::default(),
        own: false,
        body,
    });
    NewEvent {
        id: id(number),
        kind: kind.into(),
        received_at,
        signal: None,
        record: record.into_string(),
    }
}

pub(crate) fn event(number: u64) -> NewEvent {
    event_of(number, "Issue.update", NOW, &format!(r#"{{"number":{number}}}"#))
}

pub(crate) fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<NewEvent> {
    numbers.map(event).collect()
}

pub(crate) fn event_received(number: u64, received_at: UnixMillis) -> NewEvent {
    event_of(number, "Issue.update", received_at, "{}")
}

pub(crate) fn event_of_kind(number: u64, kind: &str) -> NewEvent {
    event_of(number, kind, NOW, "{}")
}

/// An event of an agent session, of an issue.
pub(crate) fn event_about(number: u64, kind: &str, session: &str, issue: &str) -> NewEvent {
    event_with(number, kind, (session, issue), &format!(r#"{{"number":{number}}}"#))
}

fn event_with(number: u64, kind: &str, (session, issue): (&str, &str), body: &str) -> NewEvent {
    let text = |text: &'_ str| (!text.is_empty()).then(|| Cow::Owned(text.to_owned()));
    let record = Record::new(&RecordParts {
        id: id(number),
        received_at: NOW,
        kind,
        organization: &"org-1".parse().unwrap(),
        channel: &"user:u-1".parse().unwrap(),
        delivery: Some("d-1"),
        headers: &[("Linear-Signature".into(), "ab".into())],
        subject: Subject { session: text(session), issue: text(issue), ..Subject::default() },
        own: false,
        body,
    });
    let record = record.into_string();
    NewEvent { id: id(number), kind: kind.into(), received_at: NOW, signal: None, record }
}

/// A prompt that stops a session.
pub(crate) fn stop_of(number: u64, session: &str) -> NewEvent {
    let body = r#"{"type":"AgentSessionEvent","action":"prompted","organizationId":"org-1","webhookTimestamp":1,"agentActivity":{"signal":"stop"}}"#;
    let event = event_with(number, "AgentSessionEvent.prompted", (session, ""), body);
    NewEvent { signal: Some("stop".into()), ..event }
}

/// An event whose record has exactly so many bytes.
pub(crate) fn event_of_size(number: u64, record_bytes: usize) -> NewEvent {
    let mut event = event_of(number, "Issue.update", NOW, r#"{"fill":""}"#);
    let missing = record_bytes.checked_sub(event.record.len()).unwrap();
    fill(&mut event, missing);
    event
}

/// Makes the body of an event with an empty `fill` so many bytes longer.
pub(crate) fn fill(event: &mut NewEvent, bytes: usize) {
    assert!(event.record.ends_with(r#"{"fill":""}}"#));
    event.record.insert_str(event.record.len() - 3, &"x".repeat(bytes));
}

/// An event so large that no other joins its row.
pub(crate) fn event_alone(number: u64) -> NewEvent {
    event_of_size(number, LOG_ROW_EXTENDED_BYTES_MAX)
}

/// A batch that no other joins in its row.
pub(crate) fn row_of(numbers: std::ops::RangeInclusive<u64>) -> Vec<NewEvent> {
    let first = *numbers.start();
    let mut batch = events(numbers);
    batch[0] = event_alone(first);
    batch
}

/// A position of the first incarnation.
pub(crate) fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: Epoch::new(NOW, SALT), seq: Seq::new(seq) }
}

pub(crate) fn load(storage: &MemoryStorage, now: UnixMillis) -> Log<MemoryStorage> {
    Log::load(storage.clone(), now, SALT + 1).unwrap()
}

pub(crate) fn new_log() -> (MemoryStorage, Log<MemoryStorage>) {
    let storage = MemoryStorage::default();
    let log = Log::load(storage.clone(), NOW, SALT).unwrap();
    (storage, log)
}

/// First and last position and the bytes of every row, oldest first.
pub(crate) fn rows(storage: &MemoryStorage) -> Vec<(u64, u64, usize)> {
    let mut found = Vec::new();
    let mut visit = |index: RowIndex| {
        let bytes = storage.row_at(index.first).unwrap().unwrap().records.len();
        assert_eq!(index.bytes, bytes as u64, "the index knows the bytes");
        found.push((index.first.get(), index.last().get(), bytes));
        true
    };
    storage.visit_newest_first(&mut visit).unwrap();
    found.reverse();
    found
}

/// Everything that the hot tail holds, oldest first.
pub(crate) fn contents(log: &Log<MemoryStorage>) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    log.read(Seq::ZERO, &mut |seq, record| {
        found.push((seq.get(), record.to_owned()));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// What lies in the segments and behind them in the hot tail, oldest first.
pub(crate) fn all_contents(relay: &Relay) -> Vec<(u64, String)> {
    let log = relay.stream.log();
    let segments = log.segments_after(log.trimmed(), usize::MAX).unwrap();
    let mut found = Vec::new();
    for entry in &segments {
        found.extend(records_of(entry, &relay.bucket[&relay.key(entry)]));
    }
    assert!(segments.is_empty() || segments.last().map(|entry| entry.last) == Some(log.sealed()));
    found.extend(contents(log));
    found
}

/// The records of these events with their positions, from a position on.
pub(crate) fn numbered(source: &[NewEvent], after: u64) -> Vec<(u64, String)> {
    let all = (1..).zip(source.iter().map(|event| event.record.clone()));
    all.filter(|(seq, _)| *seq > after).collect()
}

/// What a segment's object holds.
pub(crate) fn records_of(entry: &SegmentEntry, bytes: &[u8]) -> Vec<(u64, String)> {
    let mut reader = SegmentReader::new(bytes.to_vec(), entry).unwrap();
    let mut found = Vec::new();
    while let Some((seq, record)) = reader.next().unwrap() {
        found.push((seq.get(), record.to_owned()));
    }
    found
}

pub(crate) fn stream_key() -> StreamKey {
    "org-1/user:u-1".parse().unwrap()
}

pub(crate) fn connect(dialect: Dialect, start: Start) -> Connect {
    Connect {
        stream: stream_key(),
        edge: edge("edge_1"),
        expires_at: NOW + 90 * DAY_MS,
        dialect,
        start,
        kinds: KindFilter::default(),
        body: BodyMode::Data,
        on_gap: OnGap::Resume,
        heartbeat_s: 15,
        resume: None,
        edge_name: None,
        allowed: KindFilter::default(),
        own: false,
        app: None,
        capacity: None,
        may_report: true,
    }
}

pub(crate) fn page_command(query: &PageQuery) -> PageCommand {
    PageCommand {
        stream: stream_key(),
        edge: edge("edge_1"),
        allowed: KindFilter::default(),
        query: query.clone(),
        events: 0,
        bytes: 0,
    }
}

pub(crate) fn edge(name: &str) -> EdgeId {
    name.parse().unwrap()
}

pub(crate) fn kinds(text: &str) -> KindFilter {
    let mut filter = KindFilter::default();
    filter.add(text).unwrap();
    filter
}

pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, StreamError<StorageFault>>) -> Problem {
    match result {
        Err(StreamError::Refused(problem)) => problem,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

pub(crate) fn send(connection: ConnectionId, text: impl Into<String>) -> Command {
    Command::Send { connection, text: text.into() }
}

pub(crate) fn remember(connection: ConnectionId) -> Command {
    Command::Remember { connection }
}

pub(crate) fn close(connection: ConnectionId, code: ByeCode) -> Command {
    Command::Close { connection, code }
}

/// A message to the Worker: the position, then the lines.
pub(crate) fn bridge(position: u64, tail: u64, n: u64, lines: &[String]) -> String {
    let webhooks = lines.iter().filter(|line| line.starts_with(r#"{"type":"webhook""#));
    let charged: usize = webhooks.map(String::len).sum();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    format!("{} {} {n} {charged}\n{lines}", cursor(position), cursor(tail))
}

pub(crate) fn open_line(dialect: Dialect, position: u64, oldest: u64, tail: u64) -> String {
    let credit = if dialect == Dialect::WebSocket { r#","credit":262144"# } else { "" };
    let [position, oldest, tail] = [position, oldest, tail].map(cursor);
    let epoch = &position.to_string()[..12];
    format!(
        r#"{{"type":"open","cursor":"{position}","epoch":"{epoch}","oldest":"{oldest}","tail":"{tail}","heartbeat_s":15{credit}}}"#
    )
}

pub(crate) fn gap_line(requested: &str, resumed_from: u64, reason: &str) -> String {
    let oldest = cursor(resumed_from);
    format!(
        r#"{{"type":"gap","requested":"{requested}","resumed_from":"{oldest}","oldest":"{oldest}","reason":"{reason}"}}"#
    )
}

pub(crate) fn lost_line(requested: u64, resumed_from: u64, oldest: u64) -> String {
    let [requested, resumed_from, oldest] = [requested, resumed_from, oldest].map(cursor);
    format!(
        r#"{{"type":"gap","requested":"{requested}","resumed_from":"{resumed_from}","oldest":"{oldest}","reason":"lost"}}"#
    )
}

pub(crate) fn bye_line(code: &str, retry_after_ms: u64, position: u64) -> String {
    let position = cursor(position);
    format!(
        r#"{{"type":"bye","code":"{code}","retry_after_ms":{retry_after_ms},"cursor":"{position}"}}"#
    )
}

pub(crate) fn heartbeat_line(position: u64, n: u64, tail: u64, now: UnixMillis) -> String {
    let [position, tail] = [position, tail].map(cursor);
    let at = now.get();
    format!(
        r#"{{"type":"heartbeat","id":"hb_{at}","cursor":"{position}","n":{n},"tail":"{tail}","timestamp":"{now}"}}"#
    )
}

pub(crate) fn webhook_line(seq: u64, n: u64, event: &NewEvent) -> String {
    let mut line = String::new();
    write_webhook_frame(cursor(seq), n, &event.record, &mut line);
    line
}

/// The webhooks at these positions, sent as the first, second … of a connection.
pub(crate) fn webhook_lines(positions: std::ops::RangeInclusive<u64>, n: u64) -> Vec<String> {
    positions.zip(n..).map(|(seq, n)| webhook_line(seq, n, &event(seq))).collect()
}

/// The webhooks after a position, sent as the first, second … of a connection.
pub(crate) fn lines_after(source: &[NewEvent], after: u64) -> Vec<String> {
    let events = (1..).zip(source).skip(usize::try_from(after).unwrap());
    (1..).zip(events).map(|(n, (seq, event))| webhook_line(seq, n, event)).collect()
}

/// Lines as a dialect has them: frame by frame, or all in one message with the position reached.
pub(crate) fn sent(
    dialect: Dialect,
    connection: ConnectionId,
    lines: &[String],
    (position, tail, n): (u64, u64, u64),
) -> Vec<Command> {
    match dialect {
        Dialect::WebSocket => lines.iter().map(|line| send(connection, line)).collect(),
        Dialect::Ndjson | Dialect::Sse => vec![send(connection, bridge(position, tail, n, lines))],
    }
}

/// The same, and then the subscription is kept.
pub(crate) fn sent_and_kept(
    dialect: Dialect,
    connection: ConnectionId,
    lines: &[String],
    stand: (u64, u64, u64),
) -> Vec<Command> {
    let mut commands = sent(dialect, connection, lines, stand);
    commands.push(remember(connection));
    commands
}

/// The same, and then the socket is closed.
pub(crate) fn sent_and_closed(
    dialect: Dialect,
    connection: ConnectionId,
    line: String,
    stand: (u64, u64, u64),
    code: ByeCode,
) -> Vec<Command> {
    let mut commands = sent(dialect, connection, &[line], stand);
    commands.push(close(connection, code));
    commands
}

/// A stream in its shell: subscriptions are kept as JSON whenever the core says so, and are all
/// that is left of them after a reload. Its bucket and its index are maps.
pub(crate) struct Relay {
    pub(crate) storage: MemoryStorage,
    pub(crate) stream: Stream<MemoryStorage>,
    pub(crate) now: UnixMillis,
    pub(crate) remembered: BTreeMap<ConnectionId, String>,
    pub(crate) bucket: BTreeMap<String, Vec<u8>>,
    pub(crate) index: BTreeMap<String, SegmentEntry>,
    pub(crate) discarded: BTreeSet<String>,
    pub(crate) given_up: Vec<GivenUp>,
    settings: StreamSettings,
    reloads_always: bool,
}

impl Relay {
    pub(crate) fn new() -> Self {
        Self::with_retention(RETENTION_MS)
    }

    pub(crate) fn with_retention(retention_ms: u64) -> Self {
        Self::with_settings(StreamSettings { retention_ms, ..StreamSettings::default() })
    }

    /// Sealing is due whenever there is anything in the hot tail.
    pub(crate) fn sealing_at_once() -> Self {
        Self::with_settings(StreamSettings { seal_bytes: 1, ..StreamSettings::default() })
    }

    pub(crate) fn with_settings(settings: StreamSettings) -> Self {
        let storage = MemoryStorage::default();
        let remembered = BTreeMap::new();
        let stream = Stream::load(storage.clone(), BTreeMap::new(), settings, NOW, SALT).unwrap();
        Self {
            storage,
            stream,
            now: NOW,
            remembered,
            bucket: BTreeMap::new(),
            index: BTreeMap::new(),
            discarded: BTreeSet::new(),
            given_up: Vec::new(),
            settings,
            reloads_always: false,
        }
    }

    /// Appends 1 to `count`, each alone.
    pub(crate) fn fill(&mut self, count: u64) {
        (1..=count).for_each(|number| assert_eq!(self.append(&[event(number)]), []));
    }

    /// Seals what is due, as a shell does, and answers the segments.
    pub(crate) fn seal(&mut self) -> Vec<SegmentEntry> {
        let mut sealed = Vec::new();
        while let Some(job) = self.stream.seal_next(self.now).unwrap() {
            let (key, entry) = (job.key(), job.segment.entry);
            self.bucket.insert(key, job.segment.bytes);
            self.index.insert(index_key(&job.stream, job.epoch, entry.first), entry.clone());
            assert!(self.stream.seal_done(&entry).unwrap());
            sealed.push(entry);
        }
        sealed
    }

    /// Appends each batch and seals it.
    pub(crate) fn seal_each(&mut self, batches: &[Vec<NewEvent>]) -> Vec<SegmentEntry> {
        let seal_one = |batch: &Vec<NewEvent>| {
            self.append(batch);
            let [entry] = <[SegmentEntry; 1]>::try_from(self.seal()).unwrap();
            entry
        };
        batches.iter().map(seal_one).collect()
    }

    /// The name of a segment's object.
    pub(crate) fn key(&self, entry: &SegmentEntry) -> String {
        entry.key(&stream_key(), self.stream.log().epoch())
    }

    /// Forgets everything but storage and attachments.
    pub(crate) fn reload(&mut self) {
        let connections: BTreeMap<ConnectionId, Subscription> = self
            .remembered
            .iter()
            .map(|(id, text)| (*id, serde_json::from_str(text).unwrap()))
            .collect();
        self.stream =
            Stream::load(self.storage.clone(), connections, self.settings, self.now, SALT + 1)
                .unwrap();
    }

    /// The same with other settings: an operator has changed them.
    pub(crate) fn reload_with(&mut self, settings: StreamSettings) {
        self.settings = settings;
        self.reload();
    }

    fn before_step(&mut self) {
        if self.reloads_always && self.stream.log().is_used() {
            self.reload();
        }
    }

    /// Does what a shell does with commands that a test may look at.
    pub(crate) fn execute(&mut self, commands: &[Command]) {
        for command in commands {
            match command {
                Command::Send { .. } => {}
                Command::Remember { connection } => {
                    let subscription = self.stream.connection(*connection).unwrap();
                    let text = serde_json::to_string(subscription).unwrap();
                    assert!(text.len() < 16 * 1024, "an attachment holds 16 KiB");
                    self.remembered.insert(*connection, text);
                }
                Command::Discard { keys } => {
                    self.discarded.extend(keys.iter().cloned());
                    self.bucket.retain(|key, _| !keys.contains(key));
                }
                Command::GiveUp(given_up) => self.given_up.push(*given_up.clone()),
                Command::Close { connection, .. } | Command::ReadHistory { connection } => {
                    self.remembered.remove(connection);
                    assert_eq!(self.stream.connection(*connection), None);
                }
            }
        }
    }

    pub(crate) fn try_append(
        &mut self,
        events: &[NewEvent],
    ) -> Result<(AppendReply, Vec<Command>), StreamError<StorageFault>> {
        let append = Append { stream: stream_key(), events: events.to_vec() };
        let (reply, commands) = self.stream.append(&append, self.now)?;
        self.execute(&commands);
        Ok((reply, commands))
    }

    pub(crate) fn append(&mut self, events: &[NewEvent]) -> Vec<Command> {
        self.before_step();
        self.try_append(events).unwrap().1
    }

    pub(crate) fn try_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect,
    ) -> Result<Connected, StreamError<StorageFault>> {
        self.before_step();
        let connected = self.stream.connect(id, connect, self.now)?;
        if let Connected::Live { commands, .. } = &connected {
            self.execute(commands);
        }
        Ok(connected)
    }

    pub(crate) fn connect(&mut self, id: ConnectionId, connect: &Connect) -> Vec<Command> {
        match self.try_connect(id, connect).unwrap() {
            Connected::Live { commands, .. } => commands,
            Connected::History(offer) => panic!("sent to history: {offer:?}"),
        }
    }

    pub(crate) fn history(&mut self, id: ConnectionId, connect: &Connect) -> HistoryOffer {
        match self.try_connect(id, connect).unwrap() {
            Connected::History(offer) => offer,
            Connected::Live { commands, .. } => panic!("followed: {commands:?}"),
        }
    }

    pub(crate) fn message(&mut self, id: ConnectionId, text: &str) -> Vec<Command> {
        self.before_step();
        let commands = self.stream.message(id, text, self.now).unwrap();
        self.execute(&commands);
        commands
    }

    pub(crate) fn grant(&mut self, id: ConnectionId, bytes: i64) -> Vec<Command> {
        self.message(id, &format!(r#"{{"type":"credit","bytes":{bytes}}}"#))
    }

    pub(crate) fn revoke(&mut self, edge: &EdgeId) -> Vec<Command> {
        self.before_step();
        let commands = self.stream.revoke(edge, self.now).unwrap();
        self.execute(&commands);
        commands
    }

    pub(crate) fn end_silent(&mut self, last_pings: &[(ConnectionId, UnixMillis)]) -> Vec<Command> {
        self.before_step();
        let last_ping_at = |id| last_pings.iter().find(|ping| ping.0 == id).map(|ping| ping.1);
        let commands = self.stream.end_silent(&last_ping_at, self.now).unwrap();
        self.execute(&commands);
        commands
    }

    /// A connection is gone, and with it what was kept of it.
    pub(crate) fn closed(&mut self, id: ConnectionId, says_end: bool) -> Vec<Command> {
        self.before_step();
        let (_, commands) = self.stream.closed(id, says_end, self.now).unwrap();
        self.remembered.remove(&id);
        self.execute(&commands);
        commands
    }

    pub(crate) fn try_report(
        &mut self,
        name: &str,
        number: u64,
        status: ReportStatus,
    ) -> Result<Vec<Command>, Problem> {
        self.try_reply(name, number, status).map(|(_, commands)| commands)
    }

    /// What a report is answered.
    pub(crate) fn reply(&mut self, name: &str, number: u64, status: ReportStatus) -> ReportReply {
        self.try_reply(name, number, status).unwrap().0
    }

    fn try_reply(
        &mut self,
        name: &str,
        number: u64,
        status: ReportStatus,
    ) -> Result<(ReportReply, Vec<Command>), Problem> {
        self.before_step();
        let report = Report::new(id(number), status);
        match self.stream.report(&edge(name), report, self.now) {
            Ok((reply, commands)) => {
                assert!(reply.received);
                self.execute(&commands);
                Ok((reply, commands))
            }
            Err(StreamError::Refused(problem)) => Err(problem),
            Err(StreamError::Storage(fault)) => panic!("{fault}"),
        }
    }

    pub(crate) fn report(&mut self, name: &str, number: u64, status: ReportStatus) -> Vec<Command> {
        self.try_report(name, number, status).unwrap()
    }

    pub(crate) fn alarm(&mut self) -> Vec<Command> {
        self.before_step();
        assert_eq!(self.stream.end_silent(&|_| None, self.now).unwrap(), []);
        let commands = self.stream.alarm(self.now).unwrap();
        self.execute(&commands);
        commands
    }
}

/// Runs a script twice: in one go, and with the object evicted before every step. The commands
/// must be the same, because the script says which.
pub(crate) fn check(script: impl Fn(Relay)) {
    check_with(StreamSettings::default(), script);
}

/// The same with an operator's settings.
pub(crate) fn check_with(settings: StreamSettings, script: impl Fn(Relay)) {
    script(Relay::with_settings(settings));
    script(Relay { reloads_always: true, ..Relay::with_settings(settings) });
}
