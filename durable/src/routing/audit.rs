//! The audit is the memory of decisions at the same time: an event that is delivered again goes
//! where it went, whatever has changed.
//!
//! Stored format: a row holds decisions as lines of JSON, oldest first, and their events' ids.

use std::{fmt, str::FromStr};

use relay_schemas::{EventId, UnixMillis, limits::AUDIT_ROW_EXTENDED_BYTES_MAX};
use serde::{Deserialize, Serialize};

use super::{Decision, RouteFacts, Target};

/// A row begins anew after this time, so that its first line doesn't stay for its last one's sake.
const ROW_AGE_MS: u64 = 24 * 3_600_000;

/// A decision as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// When it was made.
    pub at: UnixMillis,
    /// About which event.
    pub id: EventId,
    /// `Type.action`.
    pub kind: String,
    /// Where it goes.
    pub targets: Vec<Target>,
    /// Why, in stable words.
    #[serde(default)]
    pub reason: String,
    /// Whether the app itself has acted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

impl AuditLine {
    pub(super) fn new(id: EventId, facts: &RouteFacts, decision: Decision, at: UnixMillis) -> Self {
        let Decision { targets, own, reason, .. } = decision;
        Self { at, id, kind: facts.kind.clone(), targets, reason, own }
    }
}

/// Decisions that were made one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number; later ones are greater.
    pub number: u64,
    /// When its first decision was made.
    pub at_min: UnixMillis,
    /// When its last decision was made.
    pub at_max: UnixMillis,
    /// Their events' ids, in order.
    pub ids: Vec<EventId>,
    /// The decisions, one a line.
    pub lines: String,
}

impl AuditRow {
    pub(super) fn new(number: u64, at: UnixMillis) -> Self {
        Self { number, at_min: at, at_max: at, ids: Vec::new(), lines: String::new() }
    }

    /// Whether it may have more decisions.
    pub(super) fn has_room(&self, now: UnixMillis) -> bool {
        self.lines.len() < AUDIT_ROW_EXTENDED_BYTES_MAX && now.since_ms(self.at_min) < ROW_AGE_MS
    }

    pub(super) fn add(&mut self, line: &AuditLine) {
        if !self.lines.is_empty() {
            self.lines.push('\n');
        }
        self.lines.push_str(&serde_json::to_string(line).expect("plain fields serialise"));
        self.ids.push(line.id);
        self.at_max = line.at;
    }

    /// The newest decision about an event. A line that can't be read is passed over.
    pub(super) fn find(&self, id: EventId) -> Option<AuditLine> {
        let index = self.ids.iter().rposition(|known| *known == id)?;
        serde_json::from_str(self.lines.split('\n').nth(index)?).ok()
    }
}

/// A place among the decisions: everything older than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// The row.
    pub(super) row: u64,
    /// The line in it, the first that is not older.
    pub(super) line: usize,
}

impl AuditCursor {
    /// Before all decisions there are.
    pub const NEWEST: Self = Self { row: u64::MAX, line: usize::MAX };
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.row, self.line)
    }
}

impl FromStr for AuditCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "after is a cursor that a page of the audit has given";
        let (row, line) = text.split_once('-').ok_or(EXPECTED)?;
        let (row, line) = (row.parse().ok(), line.parse().ok());
        row.zip(line).map(|(row, line)| Self { row, line }).ok_or(EXPECTED)
    }
}

/// Decisions, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The decisions.
    pub decisions: Vec<AuditLine>,
    /// Where the next page starts; none after the last.
    pub cursor: Option<String>,
}

impl AuditPage {
    /// Takes the lines of a row that are older than the cursor; `false` when the page is full.
    pub(super) fn take(
        &mut self,
        row: &AuditRow,
        after: AuditCursor,
        limit: usize,
        since: UnixMillis,
    ) -> bool {
        let lines: Vec<&str> = row.lines.split('\n').collect();
        let end = if row.number == after.row { after.line.min(lines.len()) } else { lines.len() };
        for index in (0..end).rev() {
            let Ok(line) = serde_json::from_str::<AuditLine>(lines[index]) else { continue };
            if line.at < since {
                return false;
            }
            if self.decisions.len() == limit {
                let cursor = AuditCursor { row: row.number, line: index + 1 };
                self.cursor = Some(cursor.to_string());
                return false;
            }
            self.decisions.push(line);
        }
        true
    }
}
