use std::{collections::VecDeque, sync::Arc};

use relay_schemas::{Cursor, Seq, UnixMillis};

use super::{download::Download, failure::Failure, plan::Segment, trial::Trial};
use crate::config::Retry;

/// What of a segment is to be written: the events after `after` up to `until`.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) segment: Arc<Segment>,
    pub(super) after: Seq,
    pub(super) until: Seq,
    /// The position after the segment, for those who want to go on without it.
    pub(super) past: Cursor,
}

/// The segments of which bytes may be in memory, in the stream's order. A segment stays until it
/// is written, so a slow one at the front holds the later ones back instead of piling them up.
#[derive(Debug)]
pub(super) struct Window {
    slots: VecDeque<Slot>,
    slots_max: usize,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) piece: Piece,
    pub(super) trial: Trial,
    /// While it is neither under way nor being written.
    pub(super) download: Option<Download>,
    /// The most bytes that were there at a failure: a download that begins anew makes no progress
    /// until it comes further.
    pub(super) length_max: u64,
    /// Whether it came once and was not what the plan says.
    pub(super) was_damaged: bool,
}

impl Window {
    /// At most so many segments.
    pub(super) fn new(slots_max: usize) -> Self {
        Self { slots: VecDeque::new(), slots_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether another segment may begin. After one that failed none is of use.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < self.slots_max && self.is_sound()
    }

    /// Whether every segment can still be had, as far as is known.
    pub(super) fn is_sound(&self) -> bool {
        self.slots.iter().all(|slot| slot.trial.failure().is_none())
    }

    /// Lets a segment begin.
    pub(super) fn push(&mut self, piece: Piece, retry: &Retry) {
        let download = Some(Download::new(Arc::clone(&piece.segment)));
        let trial = Trial::new(piece.segment.url.clone(), retry);
        self.slots.push_back(Slot { piece, trial, download, length_max: 0, was_damaged: false });
    }

    /// The next download that is to go on now.
    pub(super) fn start_next(&mut self, now: UnixMillis) -> Option<Download> {
        let slot = self.slots.iter_mut().find_map(|slot| slot.trial.start(now).then_some(slot))?;
        slot.download.take()
    }

    /// The slot of the segment that begins there.
    pub(super) fn slot(&mut self, first: Seq) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.piece.segment.first == first)
    }

    /// Takes the oldest segment's bytes, if they are all there. The slot stays until
    /// [`Window::release`].
    pub(super) fn take_ready(&mut self) -> Option<(Piece, Download)> {
        let slot = self.slots.front_mut().filter(|slot| slot.trial.has_succeeded())?;
        Some((slot.piece.clone(), slot.download.take()?))
    }

    /// The oldest segment is written.
    pub(super) fn release(&mut self) {
        self.slots.pop_front();
    }

    /// Why the oldest segment can't be had.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.slots.front().and_then(|slot| slot.trial.failure())
    }

    pub(super) fn poll_timeout(&self) -> Option<UnixMillis> {
        self.slots.iter().filter_map(|slot| slot.trial.poll_timeout()).min()
    }
}
