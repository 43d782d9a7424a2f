use std::str::FromStr;

use super::{OnGap, Order, Start};
use crate::{
    error::{ErrorCode, Problem},
    filter::KindFilter,
    identifier::{Channel, EventId},
    limits::{CAPACITY_MAX, HEARTBEAT_S, IDENTIFIER_LENGTH_MAX, PAGE_EVENTS},
    record::BodyMode,
    time::UnixMillis,
};

/// Parameters by name, first the ones that decide where to start. The `Last-Event-ID` header
/// wins, because EventSource repeats its first URL for ever.
#[derive(Default)]
pub(super) struct Parameters {
    pub(super) last_event_id: Option<String>,
    pub(super) cursor: Option<String>,
    pub(super) since: Option<String>,
    pub(super) tail: Option<u64>,
    pub(super) kinds: KindFilter,
    pub(super) heartbeat_s: Option<u32>,
    pub(super) body: BodyMode,
    pub(super) on_gap: OnGap,
    pub(super) limit: Option<usize>,
    pub(super) order: Order,
    pub(super) channel: Option<Channel>,
    pub(super) own: bool,
    pub(super) app: Option<String>,
    pub(super) capacity: Option<u32>,
}

impl Parameters {
    pub(super) fn read<'a>(
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
            "capacity" => {
                let most = u32::try_from(CAPACITY_MAX).unwrap_or(u32::MAX);
                self.capacity = Some(number(name, value, 0, most)?);
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

    pub(super) fn start(&self, now: UnixMillis) -> Result<Option<Start>, Problem> {
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
