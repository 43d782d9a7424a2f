use relay_schemas::{Cursor, EventId, UnixMillis};

use super::recent::Known;
use crate::{dispatch::Dispatch, limits::RECENT_IDS_MAX};

/// An event that needs no more handling, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    /// Which.
    pub id: EventId,
    /// How many machines had been given it, this one included, when it was given up here; `None`
    /// when its handler succeeded.
    pub given_up_at: Option<u32>,
}

impl Handled {
    /// By a handler that succeeded.
    pub fn well(id: EventId) -> Self {
        Self { id, given_up_at: None }
    }

    /// After the last attempt failed.
    pub fn given_up(id: EventId, attempt: u32) -> Self {
        Self { id, given_up_at: Some(attempt) }
    }

    pub(super) fn known(self) -> Known {
        match self.given_up_at {
            None => Known::Handled,
            Some(attempt) => Known::GivenUp { attempt },
        }
    }
}

/// What is to be stored in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Everything up to here is handled.
    pub cursor: Option<Cursor>,
    /// Events handled since the last batch, also those after the cursor.
    pub handled: Vec<Handled>,
    /// For the outbox, in order.
    pub dispatches: Vec<Dispatch>,
}

/// Collects what is to be stored, and says when: one write at a time, each with everything that
/// came up during the one before.
#[derive(Debug)]
pub(crate) struct Ledger {
    pending: Batch,
    is_dirty: bool,
    is_writing: bool,
    interval_ms: u64,
    next_write_at: UnixMillis,
}

impl Ledger {
    /// Writes at most every `interval_ms`.
    pub(crate) fn new(interval_ms: u64) -> Self {
        Self {
            pending: Batch::default(),
            is_dirty: false,
            is_writing: false,
            interval_ms,
            next_write_at: UnixMillis::new(0),
        }
    }

    /// The cursor moved.
    pub(crate) fn touch(&mut self) {
        self.is_dirty = true;
    }

    /// An event was handled.
    pub(crate) fn handled(&mut self, handled: Handled) {
        self.pending.handled.push(handled);
        // Amortised: older ones would be forgotten again in the same transaction.
        if self.pending.handled.len() >= 2 * RECENT_IDS_MAX {
            self.pending.handled.drain(..RECENT_IDS_MAX);
        }
        self.is_dirty = true;
    }

    /// The relay is to be told something.
    pub(crate) fn dispatch(&mut self, dispatch: Dispatch) {
        self.pending.dispatches.push(dispatch);
        self.is_dirty = true;
    }

    /// The last write is durable.
    pub(crate) fn written(&mut self) {
        self.is_writing = false;
    }

    /// Whether everything is durable.
    pub(crate) fn is_clean(&self) -> bool {
        !self.is_dirty && !self.is_writing
    }

    /// When the next write is due; not while one runs.
    pub(crate) fn due_at(&self) -> Option<UnixMillis> {
        (self.is_dirty && !self.is_writing).then_some(self.next_write_at)
    }

    /// What to write, with the cursor as it is now.
    pub(crate) fn take(&mut self, cursor: Option<Cursor>, now: UnixMillis) -> Batch {
        self.is_dirty = false;
        self.is_writing = true;
        self.next_write_at = now + self.interval_ms;
        Batch { cursor, ..std::mem::take(&mut self.pending) }
    }
}
