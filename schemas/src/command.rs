//! Commands from the Worker to a stream's object. Worker and object are updated independently:
//! unknown fields are ignored, and fields added later have defaults.

use serde::{Deserialize, Serialize};

use crate::{
    cursor::{Cursor, Seq},
    filter::{KindFilter, ReadFilter},
    frame::Gap,
    identifier::{EdgeId, EventId, StreamKey},
    metrics::MetricsDelta,
    read_query::{OnGap, PageQuery, Start},
    record::BodyMode,
    segment::SegmentEntry,
    status::Report,
    strategy::MultiEdgeMode,
    time::UnixMillis,
};

/// How a connection is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// One JSON line a frame over HTTP.
    Ndjson,
    /// Server-sent events.
    Sse,
    /// A WebSocket straight to the object, one frame a message.
    WebSocket,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::Ndjson, Self::Sse, Self::WebSocket];

    /// The dialect's text, as metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
        }
    }

    /// Whether the Worker stands between object and reader.
    pub fn is_bridged(self) -> bool {
        self != Self::WebSocket
    }
}

/// An event for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The event.
    pub id: EventId,
    /// `Type.action`.
    pub kind: String,
    /// When the relay received it.
    pub received_at: UnixMillis,
    /// What its session is told ahead of everything: `stop`.
    pub signal: Option<String>,
    /// The record's line.
    pub record: String,
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    version: u32,
    stream: StreamKey,
    events: Vec<EventHead>,
}

#[derive(Serialize, Deserialize)]
struct EventHead {
    id: EventId,
    kind: String,
    at: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
}

/// The events of one batch for one stream. On the wire: one line about them, then one record a
/// line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Which stream.
    pub stream: StreamKey,
    /// In the order in which they are to stand.
    pub events: Vec<NewEvent>,
}

/// The text is not an append command.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The first line is not the expected JSON.
    #[error("append header: {0}")]
    Head(#[from] serde_json::Error),
    /// Not as many records as announced.
    #[error("append: {0} events announced, another number of records sent")]
    Count(usize),
}

impl HistoryOffer {
    /// Whether a reader has more to read in history: else it comes back to the object.
    pub fn has_more(&self) -> bool {
        let end = self.until.map_or(self.sealed.seq, |until| until.min(self.sealed.seq));
        self.after.seq < end
    }

    /// Makes the segments follow `position` and one another: cuts them off at a hole, which the
    /// next offer begins with. Answers where reading goes on when they don't follow at all.
    pub fn bridge_hole(&mut self, position: Seq) -> Option<Seq> {
        let mut next = position.next();
        let lost_until = match self.segments.first() {
            Some(entry) if entry.first > next => Some(Seq::new(entry.first.get() - 1)),
            None if position < self.sealed.seq => Some(self.sealed.seq),
            _ => None,
        };
        next = lost_until.map_or(next, Seq::next);
        let follows = |entry: &SegmentEntry| {
            let follows = entry.first <= next && entry.last >= next;
            next = entry.last.next();
            follows
        };
        let count = self.segments.iter().map(follows).take_while(|follows| *follows).count();
        self.segments.truncate(count);
        lost_until
    }
}

impl Append {
    /// The command's text.
    pub fn encode(&self) -> String {
        let head = AppendHead {
            version: 1,
            stream: self.stream.clone(),
            events: self
                .events
                .iter()
                .map(|event| EventHead {
                    id: event.id,
                    kind: event.kind.clone(),
                    at: event.received_at,
                    signal: event.signal.clone(),
                })
                .collect(),
        };
        let mut text = serde_json::to_string(&head).expect("plain fields serialise");
        for event in &self.events {
            text.push('\n');
            text.push_str(&event.record);
        }
        text
    }

    /// Reads a command's text.
    pub fn decode(text: &str) -> Result<Self, AppendError> {
        let mut lines = text.split('\n');
        let head: AppendHead = serde_json::from_str(lines.next().unwrap_or_default())?;
        let count = head.events.len();
        let records: Vec<&str> = lines.collect();
        if records.len() != count {
            return Err(AppendError::Count(count));
        }
        let events = head
            .events
            .into_iter()
            .zip(records)
            .map(|(event, record)| NewEvent {
                id: event.id,
                kind: event.kind,
                received_at: event.at,
                signal: event.signal,
                record: record.to_owned(),
            })
            .collect();
        Ok(Self { stream: head.stream, events })
    }
}

/// What became of one event of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It has its place in the log.
    Appended,
    /// It was there already.
    Duplicate,
}

/// The answer to an append. All of the command's events are durable when it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendReply {
    /// One for each event, in order.
    pub dispositions: Vec<Disposition>,
    /// The newest position.
    pub tail: Cursor,
    /// Frames sent to connections, now and since the last answer.
    #[serde(default)]
    pub delivered: u64,
    /// Connections found dead by their missing heartbeats since the last answer.
    #[serde(default)]
    pub heartbeat_losses: u64,
    /// Who is there for the events of agent sessions.
    #[serde(default)]
    pub attended: Vec<Attendance>,
    /// What the stream has counted since the last answer.
    #[serde(default, skip_serializing_if = "MetricsDelta::is_empty")]
    pub counts: MetricsDelta,
}

/// Which machines are there for an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attendance {
    /// Which event of the append, counted from 0.
    pub index: usize,
    /// The names of connected machines that will get it.
    pub edges: Vec<String>,
    /// Whether the machine that works on the event's session is among them.
    pub is_held: bool,
}

/// The answer to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    /// Always true.
    pub received: bool,
    /// The event's `Type.action`, when it is known without reading history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The event failed there, and is given to a machine again.
    #[serde(default)]
    pub retried: bool,
}

/// What a reader asks for; travels in a header of the upgrade request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// Which stream: the credential's own.
    pub stream: StreamKey,
    /// Who reads.
    pub edge: EdgeId,
    /// When the credential expires.
    pub expires_at: UnixMillis,
    /// How frames are sent.
    pub dialect: Dialect,
    /// Where to start.
    pub start: Start,
    /// What to send.
    pub kinds: KindFilter,
    /// How bodies are written.
    pub body: BodyMode,
    /// What a bad cursor gets.
    pub on_gap: OnGap,
    /// Seconds between heartbeats.
    pub heartbeat_s: u32,
    /// Set when the reader has been served history on this connection.
    #[serde(default)]
    pub resume: Option<Resume>,
    /// The edge's display name.
    #[serde(default)]
    pub edge_name: Option<String>,
    /// What the credential's scopes let it read.
    #[serde(default)]
    pub allowed: KindFilter,
    /// Whether to send what the app itself did.
    #[serde(default)]
    pub own: bool,
    /// Only what was sent to this app of Linear.
    #[serde(default)]
    pub app: Option<String>,
    /// How many events the reader says it works on at once.
    #[serde(default)]
    pub capacity: Option<u32>,
    /// Whether its credential lets it report: who can't is given nothing of its own.
    #[serde(default = "may_report")]
    pub may_report: bool,
}

/// Of a Worker that does not say.
fn may_report() -> bool {
    true
}

impl Connect {
    /// How many events the reader may be given of its own; `None` when it has not said.
    pub fn capacity(&self) -> Option<u32> {
        if self.may_report { self.capacity } else { Some(0) }
    }

    /// What the reader is sent.
    pub fn filter(&self) -> ReadFilter {
        ReadFilter {
            allowed: self.allowed.clone(),
            kinds: self.kinds.clone(),
            own: self.own,
            app: self.app.clone(),
        }
    }
}

/// Where a reader stands that comes from history: it was told `open` already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Webhooks sent so far.
    pub n: u64,
    /// What is left of its credit.
    pub credit_bytes: i64,
}

/// The answer to a reader whose position lies in history: which segments to read, and then to
/// come back. Follows from the stream's own storage, so that it is true, whatever KV says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryOffer {
    /// Reading starts after this.
    pub after: Cursor,
    /// The position before the oldest event kept.
    pub oldest: Cursor,
    /// The position of the newest event in a segment.
    pub sealed: Cursor,
    /// The position of the newest event.
    pub tail: Cursor,
    /// Reading starts with the first event received at or after this.
    #[serde(default)]
    pub received_since: Option<UnixMillis>,
    /// Set when reading starts elsewhere than asked.
    #[serde(default)]
    pub gap: Option<Gap>,
    /// The first segments on the way, in the order of reading.
    pub segments: Vec<SegmentEntry>,
    /// The reader reads only up to here in history: the object knows what it gets behind.
    #[serde(default)]
    pub until: Option<Seq>,
    /// How events are given to single machines, where they are.
    #[serde(default)]
    pub mode: Option<MultiEdgeMode>,
}

/// Asks for a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageCommand {
    /// Which stream.
    pub stream: StreamKey,
    /// Who reads.
    pub edge: EdgeId,
    /// What the credential's scopes let it read.
    #[serde(default)]
    pub allowed: KindFilter,
    /// What.
    pub query: PageQuery,
    /// Events that the page has already.
    #[serde(default)]
    pub events: usize,
    /// Their bytes.
    #[serde(default)]
    pub bytes: usize,
}

impl PageCommand {
    /// What the page has.
    pub fn filter(&self) -> ReadFilter {
        ReadFilter {
            allowed: self.allowed.clone(),
            kinds: self.query.kinds.clone(),
            own: self.query.own,
            app: self.query.app.clone(),
        }
    }
}

/// Reports what became of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCommand {
    /// Which stream.
    pub stream: StreamKey,
    /// Who reports.
    pub edge: EdgeId,
    /// What.
    pub report: Report,
}

/// What a reader may say on its WebSocket, besides the text `ping`, which the platform answers
/// with `pong` without waking the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// So many more bytes may be sent.
    Credit {
        /// How many; at least 1.
        bytes: i64,
    },
    /// The client ends and does not come back: what it has been given goes to others at once.
    Bye {},
    /// A message of a newer client; to be ignored.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_append_round_trips(records in prop::collection::vec("[^\n]*", 0..5)) {
            let events = records
                .into_iter()
                .enumerate()
                .map(|(index, record)| NewEvent {
                    id: EventId::from_bytes([index as u8; 16]),
                    kind: "Issue.update".into(),
                    received_at: UnixMillis::new(index as u64),
                    signal: (index % 2 == 1).then(|| "stop".to_owned()),
                    record,
                })
                .collect();
            let append = Append { stream: "o/user:u".parse().unwrap(), events };
            prop_assert_eq!(Append::decode(&append.encode()).unwrap(), append);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = Append::decode(&text);
            let _ = serde_json::from_str::<ClientMessage>(&text);
        }
    }

    #[test]
    fn messages_of_newer_clients_are_known_as_such() {
        let read = |text| serde_json::from_str::<ClientMessage>(text).unwrap();
        assert_eq!(read(r#"{"type":"credit","bytes":5}"#), ClientMessage::Credit { bytes: 5 });
        assert_eq!(read(r#"{"type":"later","x":1}"#), ClientMessage::Unknown);
    }

    /// Segments of these ranges, in a history that is sealed up to 20.
    fn offer(ranges: &[(u64, u64)]) -> HistoryOffer {
        let cursor = |seq| Cursor {
            epoch: crate::cursor::Epoch::new(UnixMillis::new(1), 1),
            seq: Seq::new(seq),
        };
        let entry = |(first, last): &(u64, u64)| SegmentEntry {
            first: Seq::new(*first),
            last: Seq::new(*last),
            received_at_min: UnixMillis::new(1),
            received_at_max: UnixMillis::new(1),
            bytes: 1,
            raw_bytes: 1,
            sha256: crate::signature::Sha256Digest::of(&[b"x"]),
            origin: None,
        };
        HistoryOffer {
            after: cursor(0),
            oldest: cursor(0),
            sealed: cursor(20),
            tail: cursor(25),
            received_since: None,
            gap: None,
            segments: ranges.iter().map(entry).collect(),
            until: None,
            mode: None,
        }
    }

    #[test]
    fn a_reader_reads_history_as_far_as_it_goes_and_may() {
        let has_more = |after, until: Option<u64>| {
            let whole = offer(&[(1, 20)]);
            let after = Cursor { seq: Seq::new(after), ..whole.after };
            HistoryOffer { after, until: until.map(Seq::new), ..whole }.has_more()
        };
        assert!(has_more(19, None) && !has_more(20, None));
        assert!(has_more(9, Some(10)) && !has_more(10, Some(10)));
        assert!(has_more(19, Some(25)) && !has_more(20, Some(25)));
    }

    #[test]
    fn segments_follow_the_position_and_one_another_or_the_hole_is_told() {
        let check = |position, ranges: &[(u64, u64)], lost_until: Option<u64>, kept: usize| {
            let mut found = offer(ranges);
            let lost = found.bridge_hole(Seq::new(position));
            assert_eq!(lost, lost_until.map(Seq::new), "{position} {ranges:?}");
            assert_eq!(found, offer(&ranges[..kept]), "{position} {ranges:?}");
        };
        let whole = [(1, 3), (4, 4), (5, 20)];
        check(0, &whole, None, 3);
        check(2, &whole, None, 3);
        check(3, &whole[1..], None, 2);
        check(20, &[], None, 0);
        check(25, &[], None, 0);
        // At the beginning.
        check(0, &whole[1..], Some(3), 2);
        check(3, &[(5, 20)], Some(4), 1);
        check(0, &[(2, 4), (6, 20)], Some(1), 1);
        // In the middle: what is behind it comes with the next offer.
        check(0, &[(1, 3), (5, 20)], None, 1);
        check(1, &[(1, 3), (4, 6), (8, 9), (10, 20)], None, 2);
        check(9, &[(8, 9), (10, 20)], None, 0);
        // No segment at all.
        check(0, &[], Some(20), 0);
        check(19, &[], Some(20), 0);
        // What overlaps is no hole.
        check(0, &[(1, 3), (2, 6), (7, 20)], None, 3);
        check(0, &[(1, 6), (2, 5), (6, 20)], None, 1);
    }
}
