use std::{fmt, time::Duration};

use relay_schemas::{Gap, GapReason};

/// Something that people should know while an export goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Events are missing.
    Gap(Gap),
    /// A request failed and will be made again.
    Retry { what: String, message: String, wait_ms: u64, attempt: u32, attempts_max: u32 },
    /// A segment is not what the plan says, and is asked for again.
    Damaged { segment: String, message: String },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(gap) => {
                let reason = match gap.reason {
                    GapReason::Trimmed => "they are older than the relay keeps",
                    GapReason::EpochChanged => "the relay's log was reset",
                    GapReason::Future => "the cursor lies after the newest event",
                    GapReason::Invalid => "the start is none that the relay knows",
                    GapReason::Lost => "the relay's store has lost them",
                };
                let Gap { requested, resumed_from, .. } = gap;
                write!(
                    f,
                    "events are missing after {requested}: {reason}; going on at {resumed_from}"
                )
            }
            Self::Retry { what, message, wait_ms, attempt, attempts_max } => {
                let wait = humantime::format_duration(Duration::from_millis(*wait_ms));
                write!(f, "{what}: {message}; attempt {attempt} of {attempts_max}, again in {wait}")
            }
            Self::Damaged { segment, message } => {
                write!(f, "{segment} is damaged: {message}; fetching it again")
            }
        }
    }
}
