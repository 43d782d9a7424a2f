mod parameters;

use serde::{Deserialize, Serialize};

use self::parameters::Parameters;
use crate::{
    error::Problem,
    filter::KindFilter,
    identifier::{Channel, EventId},
    limits::{HEARTBEAT_S, PAGE_EVENTS},
    record::BodyMode,
    time::UnixMillis,
};

/// Where reading starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// After this cursor, as the reader wrote it: a fault in it is answered by the stream.
    Cursor(String),
    /// At the first event received at or after this.
    Time(UnixMillis),
    /// After this event.
    Event(EventId),
    /// So many events before the newest.
    Tail(u64),
    /// At the oldest event kept.
    Earliest,
    /// After the newest event.
    Now,
}

/// What a cursor that can't be followed gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnGap {
    /// A `gap` frame, and reading goes on at the oldest event kept.
    #[default]
    Resume,
    /// 410, 416 or 400.
    Error,
}

/// Which way a page is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Oldest first, after the cursor.
    #[default]
    Asc,
    /// Newest first, before the cursor.
    Desc,
}

/// The query of `GET /events/stream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamQuery {
    /// Where to start.
    pub start: Start,
    /// What to send.
    pub kinds: KindFilter,
    /// Seconds between heartbeats.
    pub heartbeat_s: u32,
    /// How bodies are written.
    pub body: BodyMode,
    /// What a bad cursor gets.
    pub on_gap: OnGap,
    /// Which channel; the credential's own person's unless another is named.
    pub channel: Option<Channel>,
    /// Whether to send what the app itself did.
    pub own: bool,
    /// Only what was sent to this app of Linear.
    pub app: Option<String>,
    /// How many events the reader works on at once, where each is given to one machine.
    pub capacity: Option<u32>,
}

/// The query of `GET /events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageQuery {
    /// Where to start.
    pub start: Start,
    /// What to send.
    pub kinds: KindFilter,
    /// How many events at most.
    pub limit: usize,
    /// Which way.
    pub order: Order,
    /// How bodies are written.
    pub body: BodyMode,
    /// What a bad cursor gets.
    pub on_gap: OnGap,
    /// Which channel; the credential's own person's unless another is named.
    #[serde(default)]
    pub channel: Option<Channel>,
    /// Whether to send what the app itself did.
    #[serde(default)]
    pub own: bool,
    /// Only what was sent to this app of Linear.
    #[serde(default)]
    pub app: Option<String>,
}

/// The query of `GET /events/segments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanQuery {
    /// Where to start.
    pub start: Start,
    /// What a bad cursor gets.
    pub on_gap: OnGap,
    /// Which channel; the credential's own person's unless another is named.
    pub channel: Option<Channel>,
}

const STREAM_PARAMETERS: &[&str] = &[
    "cursor",
    "since",
    "tail",
    "kind",
    "own",
    "app",
    "channel",
    "heartbeat",
    "body",
    "on_gap",
    "capacity",
    "last_event_id",
    "lastEventId",
];
const PAGE_PARAMETERS: &[&str] = &[
    "cursor", "since", "tail", "kind", "own", "app", "channel", "limit", "order", "body", "on_gap",
];

const PLAN_PARAMETERS: &[&str] = &["from", "since", "on_gap", "channel"];

/// The query of routes that take nothing but a channel.
const CHANNEL_PARAMETERS: &[&str] = &["channel"];

/// Reads the query of a route that takes nothing but a channel.
pub fn parse_channel<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Option<Channel>, Problem> {
    Ok(Parameters::read(pairs, CHANNEL_PARAMETERS)?.channel)
}

impl PlanQuery {
    /// Reads decoded query pairs. Without a start: from the oldest event.
    pub fn parse<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        now: UnixMillis,
    ) -> Result<Self, Problem> {
        let parameters = Parameters::read(pairs, PLAN_PARAMETERS)?;
        let start = parameters.start(now)?.unwrap_or(Start::Earliest);
        Ok(Self { start, on_gap: parameters.on_gap, channel: parameters.channel })
    }
}

impl StreamQuery {
    /// Reads decoded query pairs and the `Last-Event-ID` header.
    pub fn parse<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        last_event_id: Option<&str>,
        now: UnixMillis,
    ) -> Result<Self, Problem> {
        let mut parameters = Parameters::read(pairs, STREAM_PARAMETERS)?;
        if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
            parameters.last_event_id = Some(id.to_owned());
        }
        Ok(Self {
            start: parameters.start(now)?.unwrap_or(Start::Now),
            kinds: parameters.kinds,
            heartbeat_s: parameters.heartbeat_s.unwrap_or(HEARTBEAT_S.0),
            body: parameters.body,
            on_gap: parameters.on_gap,
            channel: parameters.channel,
            own: parameters.own,
            app: parameters.app,
            capacity: parameters.capacity,
        })
    }
}

impl PageQuery {
    /// Reads decoded query pairs. Without a start: from the oldest event upwards, or from the
    /// newest downwards.
    pub fn parse<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        now: UnixMillis,
    ) -> Result<Self, Problem> {
        let parameters = Parameters::read(pairs, PAGE_PARAMETERS)?;
        let start = parameters.start(now)?.unwrap_or(match parameters.order {
            Order::Asc => Start::Earliest,
            Order::Desc => Start::Now,
        });
        Ok(Self {
            start,
            kinds: parameters.kinds,
            limit: parameters.limit.unwrap_or(PAGE_EVENTS.0),
            order: parameters.order,
            body: parameters.body,
            on_gap: parameters.on_gap,
            channel: parameters.channel,
            own: parameters.own,
            app: parameters.app,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    fn start(pairs: &[(&str, &str)], header: Option<&str>) -> Start {
        StreamQuery::parse(pairs.iter().copied(), header, NOW).unwrap().start
    }

    #[test]
    fn the_first_given_start_wins() {
        let all = [("tail", "3"), ("since", "10m"), ("cursor", "c")];
        assert_eq!(start(&all, Some("h")), Start::Cursor("h".into()));
        assert_eq!(start(&all, Some("")), Start::Cursor("c".into()));
        assert_eq!(start(&all, None), Start::Cursor("c".into()));
        assert_eq!(start(&all[..2], None), Start::Time(NOW - 600_000));
        assert_eq!(start(&all[..1], None), Start::Tail(3));
        assert_eq!(start(&[], None), Start::Now);
        assert_eq!(
            start(&[("lastEventId", "q"), ("cursor", "c")], None),
            Start::Cursor("q".into())
        );
        assert_eq!(start(&[("cursor", "earliest")], None), Start::Earliest);
    }

    #[test]
    fn faults_name_the_parameter() {
        for (name, value, code) in [
            ("team", "x", ErrorCode::ParameterUnknown),
            ("limit", "5", ErrorCode::ParameterUnknown),
            ("tail", "-1", ErrorCode::ParameterInvalid),
            ("heartbeat", "4", ErrorCode::ParameterInvalid),
            ("heartbeat", "61", ErrorCode::ParameterInvalid),
            ("body", "xml", ErrorCode::ParameterInvalid),
            ("on_gap", "x", ErrorCode::ParameterInvalid),
            ("since", "yesterday", ErrorCode::ParameterInvalid),
            ("kind", "*", ErrorCode::ParameterInvalid),
            ("own", "yes", ErrorCode::ParameterInvalid),
            ("app", "", ErrorCode::ParameterInvalid),
            ("app", "a b", ErrorCode::ParameterInvalid),
            ("channel", "me", ErrorCode::ParameterInvalid),
            ("capacity", "-1", ErrorCode::ParameterInvalid),
            ("capacity", "257", ErrorCode::ParameterInvalid),
            ("capacity", "", ErrorCode::ParameterInvalid),
        ] {
            let problem = StreamQuery::parse([(name, value)].into_iter(), None, NOW).unwrap_err();
            assert_eq!(problem.code, code, "{name}={value}");
            assert_eq!(problem.details, [("parameter", name.to_owned())], "{name}={value}");
        }
    }

    #[test]
    fn a_reader_says_how_much_it_works_on_at_once() {
        let capacity = |pairs: &[(&str, &str)]| {
            StreamQuery::parse(pairs.iter().copied(), None, NOW).unwrap().capacity
        };
        assert_eq!(capacity(&[]), None);
        assert_eq!(capacity(&[("capacity", "0")]), Some(0));
        assert_eq!(capacity(&[("capacity", "256")]), Some(256));
        let page = PageQuery::parse([("capacity", "1")].into_iter(), NOW).unwrap_err();
        assert_eq!(page.code, ErrorCode::ParameterUnknown);
    }

    #[test]
    fn pages_start_where_their_order_begins() {
        let page = |pairs: &[(&str, &str)]| PageQuery::parse(pairs.iter().copied(), NOW).unwrap();
        assert_eq!(page(&[]).start, Start::Earliest);
        assert_eq!(page(&[("order", "desc")]).start, Start::Now);
        assert_eq!(page(&[("limit", "1000")]).limit, 1000);
        assert!(PageQuery::parse([("limit", "1001")].into_iter(), NOW).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in any::<String>()) {
            for name in STREAM_PARAMETERS {
                let _ = StreamQuery::parse([(*name, &*value)].into_iter(), Some(&value), NOW);
            }
            for name in PAGE_PARAMETERS {
                let _ = PageQuery::parse([(*name, &*value)].into_iter(), NOW);
            }
        }
    }
}
