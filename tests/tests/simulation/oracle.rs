use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use relay_schemas::{
    Cursor, Disposition, Epoch, EventId, GapReason, NewEvent, Seq, Start, UnixMillis,
    limits::{DEDUPLICATION_WINDOW_MS, LATE_EVENT_MS},
};

/// One incarnation of a stream: what was accepted, the first at position 1.
#[derive(Debug)]
pub(crate) struct Incarnation {
    pub(crate) epoch: Epoch,
    events: Vec<Accepted>,
    /// Where each event stands, at first and again.
    places: BTreeMap<EventId, Vec<u64>>,
    /// The last position that is no longer kept.
    pub(crate) floor: u64,
    /// Positions whose segment somebody removed or changed.
    pub(crate) damaged: BTreeSet<u64>,
}

#[derive(Debug)]
struct Accepted {
    event: NewEvent,
    at: UnixMillis,
}

/// Where a reader must start, and what it must be told of it.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) epoch: Epoch,
    pub(crate) after: u64,
    /// A start by time is found within a segment, and told as the beginning of that.
    pub(crate) is_exact: bool,
    pub(crate) fault: Option<(GapReason, String)>,
}

impl Incarnation {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            events: Vec::new(),
            places: BTreeMap::new(),
            floor: 0,
            damaged: BTreeSet::new(),
        }
    }

    pub(crate) fn tail(&self) -> u64 {
        self.events.len() as u64
    }

    pub(crate) fn event(&self, seq: u64) -> &NewEvent {
        &self.events[seq as usize - 1].event
    }

    pub(crate) fn accepted_at(&self, seq: u64) -> UnixMillis {
        self.events[seq as usize - 1].at
    }

    pub(crate) fn cursor(&self, seq: u64) -> Cursor {
        Cursor { epoch: self.epoch, seq: Seq::new(seq) }
    }

    pub(crate) fn holds(&self, id: EventId) -> bool {
        self.places.contains_key(&id)
    }

    /// Invariant 2: an id is accepted once within the window, and an event that comes late once
    /// for as long as it is kept. Answers whether it was there in former times.
    pub(crate) fn accept(&mut self, event: &NewEvent, now: UnixMillis) -> bool {
        let is_late = now.since_ms(event.received_at) > LATE_EVENT_MS;
        let places = self.places.entry(event.id).or_default();
        for seq in places.iter().copied() {
            let age_ms = now.since_ms(self.events[seq as usize - 1].at);
            assert!(age_ms > DEDUPLICATION_WINDOW_MS, "twice within {age_ms} ms");
            assert!(!is_late || seq <= self.floor, "late, kept at {seq}, and taken again");
        }
        self.events.push(Accepted { event: event.clone(), at: now });
        places.push(self.events.len() as u64);
        places.len() > 1
    }

    /// Invariant 1: what was acknowledged is there.
    pub(crate) fn check_acknowledged(&self, events: &[NewEvent], dispositions: &[Disposition]) {
        assert_eq!(events.len(), dispositions.len(), "one answer for each event");
        for event in events {
            assert!(self.holds(event.id), "{} was acknowledged and is nowhere", event.id);
        }
    }

    /// Whether all of these may be missing because retention has passed or somebody's hand.
    pub(crate) fn may_be_lost(
        &self,
        positions: RangeInclusive<u64>,
        retention_ms: u64,
        now: UnixMillis,
    ) -> bool {
        positions.into_iter().all(|seq| {
            self.damaged.contains(&seq) || now.since_ms(self.accepted_at(seq)) >= retention_ms
        })
    }

    /// Where reading upwards starts.
    pub(crate) fn resolve(&self, start: &Start) -> Expected {
        let (tail, floor) = (self.tail(), self.floor);
        let mut kept = floor + 1..=tail;
        let after = match start {
            Start::Earliest => floor,
            Start::Now => tail,
            Start::Tail(count) => tail.saturating_sub(*count).max(floor),
            Start::Time(at) => {
                kept.find(|seq| self.event(*seq).received_at >= *at).map_or(tail, |seq| seq - 1)
            }
            Start::Event(id) => match self.places.get(id).and_then(|places| places.last()) {
                Some(seq) if *seq > floor => *seq,
                _ => return self.faulty(GapReason::Invalid, id.to_string()),
            },
            Start::Cursor(text) => match text.parse::<Cursor>() {
                Err(_) => return self.faulty(GapReason::Invalid, text.clone()),
                Ok(cursor) => match self.fault_of(cursor) {
                    Some(reason) => return self.faulty(reason, text.clone()),
                    None => cursor.seq.get(),
                },
            },
        };
        let is_exact = !matches!(start, Start::Time(_));
        Expected { epoch: self.epoch, after, is_exact, fault: None }
    }

    /// Where reading downwards starts: at the newest event when it can't where it was asked to.
    pub(crate) fn resolve_downwards(&self, start: &Start) -> Expected {
        let expected = self.resolve(start);
        let after = if expected.fault.is_some() { self.tail() } else { expected.after };
        Expected { after, ..expected }
    }

    fn fault_of(&self, cursor: Cursor) -> Option<GapReason> {
        let seq = cursor.seq.get();
        if cursor.epoch != self.epoch {
            Some(GapReason::EpochChanged)
        } else if seq > self.tail() {
            Some(GapReason::Future)
        } else if seq < self.floor {
            Some(GapReason::Trimmed)
        } else {
            None
        }
    }

    fn faulty(&self, reason: GapReason, requested: String) -> Expected {
        let fault = Some((reason, requested));
        Expected { epoch: self.epoch, after: self.floor, is_exact: true, fault }
    }
}

/// What one stream must hold, in its present and its former incarnations.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    incarnations: Vec<Incarnation>,
}

impl Oracle {
    pub(crate) fn begin(&mut self, epoch: Epoch) {
        assert!(self.find(epoch).is_none(), "an epoch is new");
        self.incarnations.push(Incarnation::new(epoch));
    }

    pub(crate) fn now(&self) -> Option<&Incarnation> {
        self.incarnations.last()
    }

    pub(crate) fn now_mut(&mut self) -> Option<&mut Incarnation> {
        self.incarnations.last_mut()
    }

    pub(crate) fn find(&self, epoch: Epoch) -> Option<&Incarnation> {
        self.incarnations.iter().find(|one| one.epoch == epoch)
    }

    /// An incarnation that a reader was told of.
    pub(crate) fn of(&self, epoch: Epoch) -> &Incarnation {
        self.find(epoch).expect("an epoch that the stream has or had")
    }

    pub(crate) fn find_mut(&mut self, epoch: Epoch) -> Option<&mut Incarnation> {
        self.incarnations.iter_mut().find(|one| one.epoch == epoch)
    }
}
