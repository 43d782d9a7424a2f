//! Where a reader starts, what it is told first, and what it reads by itself.

use relay_schemas::{
    Connect, Cursor, ErrorCode, Gap, GapReason, HistoryOffer, MultiEdgeMode, OnGap, Open, Problem,
    UnixMillis, limits::CREDIT_BYTES,
};

use super::Stream;
use crate::{
    assignment::Assignment,
    command::StreamError,
    log::{Log, Resolved},
    storage::LogStorage,
    subscription::{Outgoing, Subscription},
};

impl<S: LogStorage> Stream<S> {
    /// Where a reader starts. Among events of single edges a position says nothing: it gets what
    /// it is given, from now on.
    pub(super) fn start_of(&self, connect: &Connect) -> Result<Resolved, StreamError<S::Error>> {
        let resolved = self.log.resolve(&connect.start)?;
        match self.assignment.passing(resolved.after, self.log.tail()) {
            Some(after) => Ok(Resolved { after, fault: None, received_since: None }),
            None => self.resolve(&connect.start, connect.on_gap),
        }
    }

    /// History for a reader of the stream, up to where it is to be given events.
    pub(crate) fn offer_to_reader(&self, resolved: &Resolved) -> Result<HistoryOffer, S::Error> {
        let (from, after) = (self.assignment.from(), resolved.after);
        let is_among_singles = self.assignment.is_single(after.next());
        let until = (after < from).then_some(from).or(is_among_singles.then_some(after));
        Ok(HistoryOffer { until, ..self.offer_ascending(resolved)? })
    }

    /// What a reader is told of a position that can't be followed.
    pub(crate) fn gap(&self, resolved: &Resolved) -> Option<Gap> {
        let (reason, requested) = resolved.fault.clone()?;
        Some(Gap {
            requested,
            resumed_from: self.log.cursor(resolved.after),
            oldest: self.log.cursor(self.log.trimmed()),
            reason,
        })
    }

    pub(super) fn opening_lines(
        &self,
        connect: &Connect,
        resolved: &Resolved,
        gap: Option<Gap>,
    ) -> Vec<String> {
        let bounds = Bounds {
            cursor: self.log.cursor(resolved.after),
            oldest: self.log.cursor(self.log.trimmed()),
            tail: self.log.cursor(self.log.tail()),
            mode: self.is_assigned().then_some(self.assignment.rules().mode),
        };
        opening_lines(connect, &bounds, gap.as_ref())
    }

    /// Where to start, or why that can't be.
    pub(crate) fn resolve(
        &self,
        start: &relay_schemas::Start,
        on_gap: OnGap,
    ) -> Result<Resolved, StreamError<S::Error>> {
        let resolved = self.log.resolve(start)?;
        match (&resolved.fault, on_gap) {
            (Some((reason, _)), OnGap::Error) => {
                Err(StreamError::Refused(self.gap_problem(*reason)))
            }
            _ => Ok(resolved),
        }
    }

    fn gap_problem(&self, reason: GapReason) -> Problem {
        let (code, message) = match reason {
            GapReason::Trimmed => {
                (ErrorCode::CursorTrimmed, "events after this cursor are no longer kept")
            }
            GapReason::EpochChanged => (
                ErrorCode::CursorEpochChanged,
                "the cursor is of another incarnation of the stream",
            ),
            GapReason::Future => (ErrorCode::CursorFuture, "the cursor is after the newest event"),
            GapReason::Lost => {
                (ErrorCode::CursorTrimmed, "events after this cursor were lost in the store")
            }
            GapReason::Invalid => (ErrorCode::CursorInvalid, "this is not a cursor of this stream"),
        };
        Problem::new(code, message)
            .with("oldest", self.log.cursor(self.log.trimmed()))
            .with("tail", self.log.cursor(self.log.tail()))
    }
}

/// What an edge has already is sent on each of its connections, as soon as that has come so far.
pub(super) fn join(assignment: &Assignment, subscription: &mut Subscription) {
    if subscription.position() >= assignment.from() && subscription.takes_events() {
        subscription.owe(assignment.leased_to(&subscription.edge));
    }
}

/// Reads on what everybody reads, as far as credit goes. Behind it a reader is given events.
pub(super) fn read_on<S: LogStorage>(
    log: &Log<S>,
    assignment: &Assignment,
    subscription: &mut Subscription,
    outgoing: &mut Outgoing,
    now: UnixMillis,
) -> Result<(), S::Error> {
    let was_before = subscription.position() < assignment.from();
    loop {
        let until = assignment.common_until(subscription.position(), log.tail());
        subscription.catch_up(log, until, outgoing, now)?;
        let position = subscription.position();
        match assignment.passing(position, log.tail()) {
            Some(behind) if behind > position => subscription.skip_to(behind),
            _ => break,
        }
    }
    if was_before {
        join(assignment, subscription);
    }
    Ok(())
}

/// The positions that a reader is told at the beginning.
pub(crate) struct Bounds {
    pub(crate) cursor: Cursor,
    pub(crate) oldest: Cursor,
    pub(crate) tail: Cursor,
    /// How events are given to single machines, where they are.
    pub(crate) mode: Option<MultiEdgeMode>,
}

/// The frames that a connection begins with; one that comes from history has had its `open`.
pub(crate) fn opening_lines(connect: &Connect, bounds: &Bounds, gap: Option<&Gap>) -> Vec<String> {
    let open = Open {
        cursor: bounds.cursor,
        epoch: bounds.cursor.epoch,
        oldest: bounds.oldest,
        tail: bounds.tail,
        heartbeat_s: connect.heartbeat_s,
        credit: (!connect.dialect.is_bridged()).then_some(CREDIT_BYTES),
        mode: bounds.mode.map(|mode| mode.as_str().to_owned()),
        capacity: bounds.mode.and_then(|_| connect.capacity()),
    };
    let open = connect.resume.is_none().then(|| open.to_line());
    open.into_iter().chain(gap.map(Gap::to_line)).collect()
}
