use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    error::{ErrorCode, Problem},
    filter::KindFilter,
    identifier::{Channel, EventId},
    limits::{HEARTBEAT_S, IDENTIFIER_LENGTH_MAX, PAGE_EVENTS},
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

/// Parameters by name, first the ones that decide where to start. The `Last-Event-ID` header
/// wins, because EventSource repeats its first URL for ever.
#[derive(Default)]
struct Parameters {
    last_event_id: Option<String>,
    cursor: Option<String>,
    since: Option<String>,
    tail: Option<u64>,
    kinds: KindFilter,
    heartbeat_s: Option<u32>,
    body: BodyMode,
    on_gap: OnGap,
    limit: Option<usize>,
    order: Order,
    channel: Option<Channel>,
    own: bool,
    app: Option<String>,
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

impl Parameters {
    fn read<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        known: &[&str],
    ) -> Result<Self, Problem> {
        let mut parameters = Self::default();
        for (name, value) in pairs {
            if !known.contains(&name) {
                return Err(Problem::new(
                    ErrorCode::ParameterUnknown,
                    format!("unknown parameter; known are {}", known.join(", ")),
                )
                .with("parameter", name.chars().take(64).collect::<String>()));
            }
            parameters.set(name, value)?;
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "cursor" | "from" => self.cursor = Some(value.to_owned()),
            "since" => self.since = Some(value.to_owned()),
            "last_event_id" | "lastEventId" => self.last_event_id = Some(value.to_owned()),
            "tail" => self.tail = Some(number(name, value, 0, u64::MAX)?),
            "kind" => self.kinds.add(value)?,
            "channel" => {
                let channel = value.parse().map_err(|error| {
                    Problem::new(ErrorCode::ParameterInvalid, format!("{error}"))
                        .with("parameter", name)
                })?;
                self.channel = Some(channel);
            }
            "heartbeat" => {
                self.heartbeat_s = Some(number(name, value, HEARTBEAT_S.1, HEARTBEAT_S.2)?);
            }
            "limit" => self.limit = Some(number(name, value, 1, PAGE_EVENTS.1)?),
            "order" => {
                self.order = choice(name, value, &[("asc", Order::Asc), ("desc", Order::Desc)])?
            }
            "body" => {
                self.body = choice(
                    name,
                    value,
                    &[
                        ("data", BodyMode::Data),
                        ("text", BodyMode::Text),
                        ("base64", BodyMode::Base64),
                    ],
                )?;
            }
            "own" => self.own = choice(name, value, &[("include", true), ("exclude", false)])?,
            "app" => self.app = Some(app_id(name, value)?),
            "on_gap" => {
                self.on_gap =
                    choice(name, value, &[("resume", OnGap::Resume), ("error", OnGap::Error)])?;
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&self, now: UnixMillis) -> Result<Option<Start>, Problem> {
        if let Some(cursor) = self.last_event_id.as_ref().or(self.cursor.as_ref()) {
            return Ok(Some(keyword(cursor).unwrap_or_else(|| Start::Cursor(cursor.clone()))));
        }
        if let Some(since) = &self.since {
            return read_since(since, now).map(Some);
        }
        Ok(self.tail.map(Start::Tail))
    }
}

/// Linear's client id of an app.
fn app_id(name: &str, value: &str) -> Result<String, Problem> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || value.len() > IDENTIFIER_LENGTH_MAX || !value.bytes().all(is_plain) {
        return Err(Problem::new(ErrorCode::ParameterInvalid, "app is the client id of an app")
            .with("parameter", name));
    }
    Ok(value.to_owned())
}

fn keyword(text: &str) -> Option<Start> {
    match text {
        "earliest" => Some(Start::Earliest),
        "now" => Some(Start::Now),
        _ => None,
    }
}

/// A duration back from now (`10m`, `2h 30m`), an instant in RFC 3339, or an event id.
fn read_since(text: &str, now: UnixMillis) -> Result<Start, Problem> {
    if let Some(start) = keyword(text) {
        return Ok(start);
    }
    if let Ok(event) = EventId::from_str(text) {
        return Ok(Start::Event(event));
    }
    if let Some(instant) = UnixMillis::parse_rfc3339(text) {
        return Ok(Start::Time(instant));
    }
    if let Ok(duration) = humantime::parse_duration(text) {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        return Ok(Start::Time(now - milliseconds));
    }
    Err(Problem::new(
        ErrorCode::ParameterInvalid,
        "since is a duration such as 10m, an instant such as 2026-11-20T08:00:00Z, an event id, \
         earliest or now",
    )
    .with("parameter", "since"))
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    name: &str,
    value: &str,
    least: T,
    greatest: T,
) -> Result<T, Problem> {
    let fault = || {
        Problem::new(
            ErrorCode::ParameterInvalid,
            format!("{name} is a number from {least} to {greatest}"),
        )
        .with("parameter", name)
    };
    let number: T = value.parse().map_err(|_| fault())?;
    if number < least || number > greatest { Err(fault()) } else { Ok(number) }
}

fn choice<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, Problem> {
    choices.iter().find(|(text, _)| *text == value).map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
        Problem::new(ErrorCode::ParameterInvalid, format!("{name} is one of {}", names.join(", ")))
            .with("parameter", name)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        ] {
            let problem = StreamQuery::parse([(name, value)].into_iter(), None, NOW).unwrap_err();
            assert_eq!(problem.code, code, "{name}={value}");
            assert_eq!(problem.details, [("parameter", name.to_owned())], "{name}={value}");
        }
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
