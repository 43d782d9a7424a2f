//! One line is one frame. Readers ignore fields and types that they don't know.

mod webhook;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use self::webhook::{Webhook, write_attempt_frame, write_webhook_frame};
use crate::{
    cursor::{Cursor, Epoch},
    identifier::EventId,
    time::UnixMillis,
};

/// The first frame of every connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Where reading starts: the first webhook is the one after this.
    pub cursor: Cursor,
    /// The log's incarnation.
    pub epoch: Epoch,
    /// The position before the oldest event kept.
    pub oldest: Cursor,
    /// The position of the newest event.
    pub tail: Cursor,
    /// Seconds between heartbeats; a reader gives up after 2.5 times this without a byte.
    pub heartbeat_s: u32,
    /// On a WebSocket: bytes that may be sent before the reader must grant more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<i64>,
    /// Where each event is given to one machine at a time: by which mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// There: how many events this reader may have at once. It is given none with 0, which a
    /// credential that can't report has; it hasn't said with `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

/// Says that the connection lives, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// `hb_` and a number, for logs.
    pub id: String,
    /// The position reached, also past events that a filter held back.
    pub cursor: Cursor,
    /// Webhooks sent on this connection so far.
    pub n: u64,
    /// The newest position that the sender knows of.
    pub tail: Cursor,
    /// When it was sent, RFC 3339.
    pub timestamp: String,
}

/// Why events between two positions are not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Retention has passed.
    Trimmed,
    /// The log was lost or reset since.
    EpochChanged,
    /// The cursor lies after the newest event.
    Future,
    /// The cursor was not a cursor.
    Invalid,
    /// The store has lost them.
    Lost,
}

/// What was asked for can't be given in full; reading goes on at `resumed_from`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The cursor as the reader sent it.
    pub requested: String,
    /// Where reading goes on.
    pub resumed_from: Cursor,
    /// The position before the oldest event kept.
    pub oldest: Cursor,
    /// Why.
    pub reason: GapReason,
}

/// Why a connection ends, and whether to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByeCode {
    /// Planned end; come back with the cursor.
    Reconnect,
    /// Too far behind without progress; come back with the cursor.
    Slow,
    /// The relay has an error; come back later.
    Error,
    /// The credential has expired.
    Expired,
    /// The credential was revoked.
    Revoked,
    /// The app was taken out of the organization in Linear.
    Uninstalled,
    /// The client sent what the relay can't understand.
    Protocol,
}

impl ByeCode {
    /// Every code.
    pub const ALL: [Self; 7] = [
        Self::Reconnect,
        Self::Slow,
        Self::Error,
        Self::Expired,
        Self::Revoked,
        Self::Uninstalled,
        Self::Protocol,
    ];

    /// The WebSocket close code: 4000–4499 may be retried, 4500–4999 must not.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Reconnect => 4000,
            Self::Slow => 4008,
            Self::Error => 4011,
            Self::Expired => 4501,
            Self::Revoked => 4503,
            Self::Uninstalled => 4504,
            Self::Protocol => 4508,
        }
    }

    /// Whether a reader may come back with the same credential.
    pub fn is_retryable(self) -> bool {
        self.close_code() < 4500
    }

    /// The code's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reconnect => "reconnect",
            Self::Slow => "slow",
            Self::Error => "error",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Uninstalled => "uninstalled",
            Self::Protocol => "protocol",
        }
    }
}

/// The last frame before a planned end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why.
    pub code: ByeCode,
    /// How long to wait before coming back.
    pub retry_after_ms: u64,
    /// Where to come back to.
    pub cursor: Cursor,
}

/// What a machine is to do at once, ahead of the events that it has not read yet. The webhook that
/// asked for it still comes in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// What to do: `stop` ends the work on the session. Others are to be ignored.
    pub signal: String,
    /// Linear's agent session.
    pub session: String,
    /// The event that asked for it.
    pub id: EventId,
    /// The position reached.
    pub cursor: Cursor,
    /// When the relay received the event, RFC 3339.
    pub timestamp: String,
}

/// A frame as a reader sees it.
#[derive(Clone, Debug)]
pub enum Frame<'a> {
    /// `open`
    Open(Open),
    /// `webhook`
    Webhook(Box<Webhook<'a>>),
    /// `heartbeat`
    Heartbeat(Heartbeat),
    /// `gap`
    Gap(Gap),
    /// `bye`
    Bye(Bye),
    /// `signal`
    Signal(Signal),
    /// A type that this version does not know; to be ignored.
    Unknown,
}

/// The line is not a frame.
#[derive(Debug, thiserror::Error)]
#[error("not a frame: {0}")]
pub struct FrameError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

impl<'a> Frame<'a> {
    /// Reads one line.
    pub fn parse(line: &'a str) -> Result<Self, FrameError> {
        // The relay writes the type first, and webhooks are nearly all of the lines: they are
        // read in one pass.
        if line.starts_with(r#"{"type":"webhook","#) {
            return Ok(Self::Webhook(serde_json::from_str(line)?));
        }
        let head: Head<'a> = serde_json::from_str(line)?;
        Ok(match head.kind.as_ref() {
            "open" => Self::Open(serde_json::from_str(line)?),
            "webhook" => Self::Webhook(serde_json::from_str(line)?),
            "heartbeat" => Self::Heartbeat(serde_json::from_str(line)?),
            "gap" => Self::Gap(serde_json::from_str(line)?),
            "bye" => Self::Bye(serde_json::from_str(line)?),
            "signal" => Self::Signal(serde_json::from_str(line)?),
            _ => Self::Unknown,
        })
    }
}

macro_rules! control_line {
    ($name:ident, $tag:literal) => {
        impl $name {
            /// The frame's line, without a line break.
            pub fn to_line(&self) -> String {
                let fields = serde_json::to_string(self).expect("plain fields serialise");
                format!(concat!("{{\"type\":\"", $tag, "\",{}"), &fields[1..])
            }
        }
    };
}

control_line!(Open, "open");
control_line!(Heartbeat, "heartbeat");
control_line!(Gap, "gap");
control_line!(Bye, "bye");
control_line!(Signal, "signal");

impl Heartbeat {
    /// A heartbeat sent at `now`.
    pub fn new(cursor: Cursor, tail: Cursor, n: u64, now: UnixMillis) -> Self {
        Self { id: format!("hb_{}", now.get()), cursor, n, tail, timestamp: now.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Seq;

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: Epoch::new(UnixMillis::new(1_790_000_000_000), 7), seq: Seq::new(seq) }
    }

    #[test]
    fn control_frames_round_trip() {
        let open = Open {
            cursor: cursor(3),
            epoch: cursor(3).epoch,
            oldest: cursor(0),
            tail: cursor(9),
            heartbeat_s: 15,
            credit: None,
            mode: Some("sticky".into()),
            capacity: Some(4),
        };
        assert!(matches!(Frame::parse(&open.to_line()), Ok(Frame::Open(read)) if read == open));
        let heartbeat = Heartbeat::new(cursor(3), cursor(9), 2, UnixMillis::new(5));
        assert!(
            matches!(Frame::parse(&heartbeat.to_line()), Ok(Frame::Heartbeat(read)) if read == heartbeat)
        );
        let gap = Gap {
            requested: "a\nb\"".into(),
            resumed_from: cursor(4),
            oldest: cursor(4),
            reason: GapReason::EpochChanged,
        };
        assert!(!gap.to_line().contains('\n'));
        assert!(matches!(Frame::parse(&gap.to_line()), Ok(Frame::Gap(read)) if read == gap));
        let signal = Signal {
            signal: "stop".into(),
            session: "s".into(),
            id: EventId::from_bytes([1; 16]),
            cursor: cursor(2),
            timestamp: "t".into(),
        };
        assert!(
            matches!(Frame::parse(&signal.to_line()), Ok(Frame::Signal(read)) if read == signal)
        );
        for code in ByeCode::ALL {
            let bye = Bye { code, retry_after_ms: 1, cursor: cursor(1) };
            assert!(bye.to_line().contains(&format!("\"code\":\"{}\"", code.as_str())));
            assert!(matches!(Frame::parse(&bye.to_line()), Ok(Frame::Bye(read)) if read == bye));
        }
    }

    #[test]
    fn unknown_types_and_fields_are_passed_over() {
        assert!(matches!(Frame::parse(r#"{"type":"novel","x":1}"#), Ok(Frame::Unknown)));
        let line = cursor(1);
        let bye = format!(
            r#"{{"x":[],"type":"bye","code":"slow","retry_after_ms":0,"cursor":"{line}"}}"#
        );
        assert!(matches!(Frame::parse(&bye), Ok(Frame::Bye(_))));
    }

    #[test]
    fn another_attempt_is_told() {
        let record = r#"{"id":"evt_030c1g60o30c1g60o30c1g60o3","own":true,"timestamp":"t","source":"linear","kind":"K","organization":"o","channel":"org","session":"s","headers":[],"data":{"a": 1}}"#;
        for (attempt, expected) in [(1, 1), (2, 2)] {
            let mut line = String::new();
            write_attempt_frame(cursor(3), 4, attempt, record, &mut line);
            let Ok(Frame::Webhook(webhook)) = Frame::parse(&line) else { panic!("{line}") };
            assert_eq!((webhook.attempt, webhook.own, webhook.n), (expected, true, 4));
            assert_eq!(webhook.session.as_deref(), Some("s"));
            assert_eq!(webhook.data.unwrap().get(), r#"{"a": 1}"#);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in any::<String>()) {
            let _ = Frame::parse(&line);
            let _ = Frame::parse(&format!("{{\"type\":\"webhook\",{line}"));
        }
    }
}
