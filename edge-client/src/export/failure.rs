use std::fmt;

use relay_schemas::{Cursor, ErrorCode};

use crate::fault::{Exit, Refusal, RefusalKind};

/// Why an export ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The relay refuses, however often it is asked.
    Refused(Refusal),
    /// The history is no longer the one that the export began with.
    Changed(String),
    /// Events are missing, and the export was told to stop then.
    Gap,
    /// A request failed too often.
    GaveUp {
        /// What was asked for.
        what: String,
        /// The last reason.
        message: String,
        /// How often in a row.
        attempts: u32,
    },
    /// A segment is not what the plan says, twice; or the relay's store has lost it.
    Damaged {
        /// Its path.
        segment: String,
        /// How it differs.
        message: String,
        /// Where an export without it begins.
        past: Cursor,
    },
    /// The relay's answers don't fit together.
    Contradiction(String),
    /// The output can't be written.
    Output(String),
    /// There is no credential.
    SignedOut(String),
    /// HTTP or a thread can't be set up.
    Setup(String),
}

impl Failure {
    pub(super) fn of_refusal(refusal: Refusal, what: &str) -> Self {
        let is_code = |codes: &[ErrorCode]| codes.iter().any(|code| code.as_str() == refusal.code);
        if is_code(&[
            ErrorCode::CursorTrimmed,
            ErrorCode::CursorEpochChanged,
            ErrorCode::CursorFuture,
            ErrorCode::SegmentUnknown,
        ]) {
            return Self::Changed(format!("{what}: {refusal}"));
        }
        if is_code(&[ErrorCode::NotFound]) {
            let message = "the relay knows no bulk history: is it too old?".into();
            return Self::Refused(Refusal { message, ..refusal });
        }
        Self::Refused(refusal)
    }

    /// The process' exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::GaveUp { .. }
            | Self::Damaged { .. }
            | Self::Contradiction(_)
            | Self::Output(_)
            | Self::Setup(_) => 1,
            Self::Refused(Refusal { kind: RefusalKind::Request, .. }) => 2,
            Self::Refused(Refusal { kind: RefusalKind::Credential, .. }) | Self::SignedOut(_) => 3,
            Self::Changed(_) | Self::Gap => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => Exit::Refused(refusal.clone()).fmt(f),
            Self::Changed(message) => {
                write!(f, "the history has changed since the export began: {message}")
            }
            Self::Gap => f.write_str("events are missing; start without --fail-on-gap to go on"),
            Self::GaveUp { what, message, attempts } => {
                write!(f, "gave up on {what} after {attempts} attempts: {message}")
            }
            Self::Damaged { segment, message, past } => write!(
                f,
                "{segment} is damaged: {message}. If it stays so, --from {past} goes on without \
                 its events"
            ),
            Self::Contradiction(message) => {
                write!(f, "the relay's answers don't fit together: {message}")
            }
            Self::Output(message) => write!(f, "the output can't be written: {message}"),
            Self::SignedOut(message) => f.write_str(message),
            Self::Setup(message) => write!(f, "can't start: {message}"),
        }
    }
}
