use std::ops::ControlFlow;

use relay_durable::{Log, test_storage::MemoryStorage};
use relay_schemas::{
    Disposition, GapReason, NewEvent, Seq, UnixMillis,
    limits::{DEDUPLICATION_WINDOW_MS, LATE_EVENT_MS},
};

use crate::{
    operation::From,
    support::{cursor, id},
};

/// What the log must hold.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Every event ever, the first at position 1, with the time it was appended.
    events: Vec<(NewEvent, UnixMillis)>,
    /// The last position that is no longer kept.
    pub(crate) floor: u64,
}

impl Oracle {
    pub(crate) fn tail(&self) -> u64 {
        self.events.len() as u64
    }

    pub(crate) fn event(&self, seq: u64) -> &NewEvent {
        &self.events[seq as usize - 1].0
    }

    fn is_known(&self, event: &NewEvent, now: UnixMillis) -> bool {
        let is_late = now.since_ms(event.received_at) > LATE_EVENT_MS;
        self.events.iter().zip(1..).any(|((known, at), seq)| {
            let is_remembered = now.since_ms(*at) <= DEDUPLICATION_WINDOW_MS;
            known.id == event.id && (is_remembered || is_late && seq > self.floor)
        })
    }

    /// Appends what is new; stops after `most` new events.
    pub(crate) fn append(
        &mut self,
        batch: &[NewEvent],
        now: UnixMillis,
        most: u64,
    ) -> Vec<Disposition> {
        let most = self.tail() + most;
        let mut dispositions = Vec::new();
        for event in batch {
            if self.is_known(event, now) {
                dispositions.push(Disposition::Duplicate);
            } else if self.tail() < most {
                self.events.push((event.clone(), now));
                dispositions.push(Disposition::Appended);
            }
        }
        dispositions
    }

    /// The floor once everything appended at or before `at` is gone.
    pub(crate) fn floor_at(&self, at: UnixMillis) -> u64 {
        let old = self.events.iter().take_while(|(_, appended_at)| *appended_at <= at).count();
        self.floor.max(old as u64)
    }

    /// Where a reader must start, and what is wrong with its start.
    pub(crate) fn resolve(&self, start: &From, now: UnixMillis) -> (u64, Option<GapReason>) {
        let (tail, floor) = (self.tail(), self.floor);
        let kept = floor + 1..=tail;
        match start {
            From::Earliest => (floor, None),
            From::Now => (tail, None),
            From::Tail(count) => (tail.saturating_sub(*count).max(floor), None),
            From::Cursor(back) => match (tail + 2).saturating_sub(*back) {
                seq if seq > tail => (floor, Some(GapReason::Future)),
                seq if seq < floor => (floor, Some(GapReason::Trimmed)),
                seq => (seq, None),
            },
            From::Event(number) => kept
                .rev()
                .find(|seq| self.event(*seq).id == id(*number))
                .map_or((floor, Some(GapReason::Invalid)), |seq| (seq, None)),
            From::Time(back_ms) => {
                let since = |seq: &u64| self.event(*seq).received_at >= now - *back_ms;
                (kept.clone().find(since).map_or(tail, |seq| seq - 1), None)
            }
            From::Nonsense => (floor, Some(GapReason::Invalid)),
        }
    }

    /// Invariant 2: positions 1, 2, 3 … and the contents that they always had.
    pub(crate) fn check_log(&self, log: &Log<MemoryStorage>) {
        assert_eq!(log.cursor(log.tail()), cursor(self.tail()));
        assert_eq!(log.trimmed().get(), self.floor);
        let mut next = self.floor + 1;
        log.read(Seq::ZERO, &mut |seq, record| {
            assert_eq!(seq.get(), next);
            assert!(record == self.event(next).record, "content of {next} has changed");
            next += 1;
            ControlFlow::Continue(())
        })
        .expect("memory can be read");
        assert_eq!(next, self.tail() + 1, "the log ends early");
    }
}
