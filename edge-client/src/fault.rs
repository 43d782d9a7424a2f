use std::fmt;

use relay_schemas::{Bye, ByeCode, ErrorBody, ErrorCode};

use crate::limits::{MESSAGE_BYTES_MAX, RETRY_AFTER_MS_MAX};

/// Why a dial or a connection failed: worth another try, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may work later.
    Passing {
        /// For people.
        message: String,
        /// What the relay asked to wait.
        retry_after_ms: Option<u64>,
    },
    /// Trying again without a change on this side is useless.
    Terminal(Refusal),
}

/// What the relay will not do however often it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// The relay's stable code.
    pub code: String,
    /// The relay's words.
    pub message: String,
}

/// What has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The credential.
    Credential,
    /// What was asked for.
    Request,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code.as_str() {
            "" => f.write_str(&self.message),
            code => write!(f, "{} ({code})", self.message),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing { message, .. } => f.write_str(message),
            Self::Terminal(refusal) => refusal.fmt(f),
        }
    }
}

impl Fault {
    /// May pass; nobody said when.
    pub fn passing(message: impl fmt::Display) -> Self {
        Self::Passing { message: message.to_string(), retry_after_ms: None }
    }

    /// The relay will never do what it was asked to, whoever asks; in its own words.
    pub(crate) fn request(message: impl fmt::Display) -> Self {
        Self::Terminal(Refusal {
            kind: RefusalKind::Request,
            code: String::new(),
            message: message.to_string(),
        })
    }

    /// Reads an HTTP answer that is not the wanted one. Only a body of the relay's own form can
    /// end the client: a hotel's portal and a proxy on the way answer 401 and 403, too.
    pub fn of_answer(status: u16, retry_after_s: Option<u64>, body: &[u8]) -> Self {
        let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
            return Self::Passing {
                message: format!("status {status}, not from a relay: is the URL right?"),
                retry_after_ms: milliseconds(retry_after_s),
            };
        };
        let kind = match status {
            400 => RefusalKind::Request,
            401 | 403 => RefusalKind::Credential,
            _ => {
                return Self::Passing {
                    message: shorten(format!(
                        "{} ({}, status {status})",
                        error.message, error.code
                    )),
                    retry_after_ms: milliseconds(retry_after_s),
                };
            }
        };
        Self::Terminal(Refusal { kind, code: error.code, message: shorten(error.message) })
    }

    /// Reads a WebSocket close code: 4500 to 4999 must not be retried.
    pub fn of_close(code: u16, reason: &str) -> Self {
        if !(4500..5000).contains(&code) {
            return Self::passing(format!("the relay closed the connection ({code})"));
        }
        match ByeCode::ALL.into_iter().find(|bye| bye.close_code() == code) {
            Some(bye) => Self::Terminal(Refusal::of_bye(bye)),
            None => Self::Terminal(Refusal {
                kind: RefusalKind::Request,
                code: code.to_string(),
                message: shorten(format!("the relay closed the connection for good: {reason}")),
            }),
        }
    }

    /// Reads a `bye`: `None` when it is to be followed by another dial.
    pub fn of_bye(bye: &Bye) -> Option<Self> {
        (!bye.code.is_retryable()).then(|| Self::Terminal(Refusal::of_bye(bye.code)))
    }
}

impl Refusal {
    /// Whether another credential would do.
    pub(crate) fn is_expiry(&self) -> bool {
        self.code == ErrorCode::CredentialExpired.as_str()
    }

    fn of_bye(code: ByeCode) -> Self {
        let (kind, code, message) = match code {
            ByeCode::Expired => (
                RefusalKind::Credential,
                ErrorCode::CredentialExpired.as_str(),
                "the credential has expired",
            ),
            ByeCode::Revoked => (
                RefusalKind::Credential,
                ErrorCode::CredentialRevoked.as_str(),
                "the credential was revoked",
            ),
            ByeCode::Uninstalled => (
                RefusalKind::Credential,
                code.as_str(),
                "EdgeRelay was taken out of the organization in Linear; an administrator can install \
                 it again",
            ),
            ByeCode::Protocol | ByeCode::Reconnect | ByeCode::Slow | ByeCode::Error => (
                RefusalKind::Request,
                code.as_str(),
                "the relay does not understand this client: update it",
            ),
        };
        Self { kind, code: code.into(), message: message.into() }
    }
}

/// Why a client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to.
    Stopped,
    /// Standard output was closed by its reader.
    OutputClosed,
    /// Everything up to the stream's end at the start is handled.
    CaughtUp,
    /// The relay refuses for good.
    Refused(Refusal),
    /// A handler gave up on an event.
    HandlerFailed {
        /// Which event.
        event: relay_schemas::EventId,
        /// Why.
        message: String,
    },
    /// Events are missing, and the client was told to stop then.
    Gap,
    /// The state can't be written.
    StateFailed(String),
}

impl Exit {
    /// The process' exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Stopped | Self::OutputClosed | Self::CaughtUp => 0,
            Self::StateFailed(_) => 1,
            Self::Refused(Refusal { kind: RefusalKind::Request, .. }) => 2,
            Self::Refused(Refusal { kind: RefusalKind::Credential, .. }) => 3,
            Self::HandlerFailed { .. } => 4,
            Self::Gap => 5,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::OutputClosed => f.write_str("the reader of standard output is gone"),
            Self::CaughtUp => f.write_str("caught up"),
            Self::Refused(refusal) if refusal.kind == RefusalKind::Credential => {
                write!(
                    f,
                    "the relay refuses the credential: {refusal}; run edgerelay login, or ask for a new one"
                )
            }
            Self::Refused(refusal) => write!(f, "the relay refuses the request: {refusal}"),
            Self::HandlerFailed { event, message } => write!(
                f,
                "the handler gave up on {event}: {message}. The cursor stays before it: the next \
                 start tries it again; --on-failure skip passes over such events"
            ),
            Self::Gap => f.write_str(
                "events are missing; the cursor stays before the gap: start without --fail-on-gap \
                 to go on",
            ),
            Self::StateFailed(message) => write!(f, "the state can't be written: {message}"),
        }
    }
}

fn milliseconds(seconds: Option<u64>) -> Option<u64> {
    seconds.map(|seconds| seconds.saturating_mul(1_000).min(RETRY_AFTER_MS_MAX))
}

/// Cuts a message that others wrote, at a character.
pub(crate) fn shorten(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use relay_schemas::{Cursor, Problem};

    use super::*;

    #[test]
    fn only_the_relay_itself_can_end_the_client() {
        for code in ErrorCode::ALL {
            let body = Problem::new(*code, "m").to_json();
            let fault = Fault::of_answer(code.status(), Some(7), body.as_bytes());
            let is_terminal = matches!(code.status(), 400 | 401 | 403);
            assert_eq!(matches!(fault, Fault::Terminal(_)), is_terminal, "{code:?}");
            if let Fault::Passing { retry_after_ms, .. } = fault {
                assert_eq!(retry_after_ms, Some(7_000));
            }
        }
        for status in [302, 400, 401, 403, 404, 511] {
            let fault = Fault::of_answer(status, None, b"<html>");
            assert!(matches!(fault, Fault::Passing { .. }), "{status}");
        }
    }

    #[test]
    fn a_bye_and_its_close_code_mean_the_same() {
        let cursor: Cursor = "0123456789ab0000000000v".parse().unwrap();
        for code in ByeCode::ALL {
            let of_bye = Fault::of_bye(&Bye { code, retry_after_ms: 0, cursor });
            let of_close = Fault::of_close(code.close_code(), "");
            assert_eq!(of_bye.is_some(), matches!(of_close, Fault::Terminal(_)), "{code:?}");
            if let Some(of_bye) = of_bye {
                assert_eq!(of_bye, of_close);
            }
        }
        assert!(matches!(Fault::of_close(4999, "new"), Fault::Terminal(_)));
        for code in [1000, 1001, 1006, 4000, 4499, 5000] {
            assert!(matches!(Fault::of_close(code, ""), Fault::Passing { .. }), "{code}");
        }
    }

    #[test]
    fn a_wait_is_bounded() {
        let Fault::Passing { retry_after_ms, .. } = Fault::of_answer(503, Some(u64::MAX), b"")
        else {
            panic!("503 passes")
        };
        assert_eq!(retry_after_ms, Some(RETRY_AFTER_MS_MAX));
    }

    #[test]
    fn exit_codes_are_those_of_the_help_text() {
        let refused = |kind| {
            Exit::Refused(Refusal { kind, code: String::new(), message: String::new() }).code()
        };
        assert_eq!(refused(RefusalKind::Request), 2);
        assert_eq!(refused(RefusalKind::Credential), 3);
        assert_eq!((Exit::Stopped.code(), Exit::Gap.code()), (0, 5));
    }
}
