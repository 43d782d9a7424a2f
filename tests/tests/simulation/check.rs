//! What must be true of a stream's storage after each step.

use std::ops::ControlFlow;

use relay_durable::{Log, LogStorage, SegmentReader, test_storage::MemoryStorage};
use relay_schemas::{NewEvent, SegmentEntry, Seq};

use crate::{coverage::Mark, oracle::Incarnation, platform::Platform};

/// A longer hot tail is not read after every step.
const HOT_BYTES_CHECKED: u64 = 30_000;

impl Platform {
    pub(crate) fn note_epoch(&mut self, stream: usize, log: &Log<MemoryStorage>) {
        let known = self.oracles[stream].now().map(|incarnation| incarnation.epoch);
        if known != Some(log.epoch()) {
            assert!(self.objects[stream].begins_anew, "an epoch changes only with a wipe");
            self.objects[stream].begins_anew = false;
            self.oracles[stream].begin(log.epoch());
        }
    }

    pub(crate) fn incarnation(&self, stream: usize) -> &Incarnation {
        self.oracles[stream].now().expect("a stream that was used")
    }

    fn incarnation_mut(&mut self, stream: usize) -> &mut Incarnation {
        self.oracles[stream].now_mut().expect("a stream that was used")
    }

    /// Whatever stands behind the known tail is of what was offered, in its order.
    pub(crate) fn note_accepted(
        &mut self,
        stream: usize,
        log: &Log<MemoryStorage>,
        offered: &[NewEvent],
    ) {
        let now = self.now;
        let known = self.incarnation(stream).tail();
        assert!(log.tail().get() >= known, "the tail went back");
        let mut found = Vec::new();
        log.read(Seq::new(known), &mut |seq, record| {
            found.push((seq.get(), record.to_owned()));
            ControlFlow::Continue(())
        })
        .expect("memory can be read");
        let mut rest = offered.iter();
        for (seq, record) in found {
            let event = rest.find(|event| event.record == record);
            let event = event.unwrap_or_else(|| panic!("nobody offered what stands at {seq}"));
            assert_eq!(self.incarnation(stream).tail() + 1, seq, "a hole");
            let is_known = self.incarnation_mut(stream).accept(event, now);
            self.mark(Mark::Appended);
            self.mark_if(is_known, Mark::AppendedAgainAfterTheWindow);
        }
    }

    /// Nothing younger than retention is trimmed, and the floor never falls.
    pub(crate) fn note_floor(&mut self, stream: usize, log: &Log<MemoryStorage>) {
        let (retention_ms, now) = (self.profile.settings.retention_ms, self.now);
        let (floor, known) = (log.trimmed().get(), self.incarnation(stream).floor);
        assert!(floor >= known, "the floor fell from {known} to {floor}");
        if floor == known {
            return;
        }
        let age_ms = now.since_ms(self.incarnation(stream).accepted_at(floor));
        assert!(age_ms >= retention_ms, "trimmed at an age of {age_ms} ms");
        self.incarnation_mut(stream).floor = floor;
        let busy = self.busy[stream];
        self.mark(Mark::Trimmed);
        self.mark_if(busy.in_history, Mark::TrimUnderReplay);
        self.mark_if(busy.following, Mark::TrimUnderFollower);
    }

    pub(crate) fn check_log(&self, stream: usize, log: &Log<MemoryStorage>) {
        let incarnation = self.incarnation(stream);
        assert_eq!(log.tail().get(), incarnation.tail(), "the tail");
        let mut next = log.trimmed();
        let segments = log.segments_after(next, usize::MAX).expect("memory can be read");
        // What is missing stays missing: one at a time is enough to find it.
        if let Some(entry) = segments.get(self.checks as usize % segments.len().max(1)) {
            self.check_segment(stream, entry);
        }
        for entry in segments {
            assert_eq!(entry.first, next.next(), "a hole before a segment, or two over each other");
            next = entry.last;
        }
        assert_eq!(next, log.sealed(), "segments end where the hot tail begins");
        if log.hot_bytes() > HOT_BYTES_CHECKED && !self.checks.is_multiple_of(16) {
            return;
        }
        log.read(next, &mut |seq, record| {
            next = next.next();
            assert_eq!(seq, next, "a hole in the hot tail");
            assert!(record == incarnation.event(seq.get()).record, "content of {seq:?} changed");
            ControlFlow::Continue(())
        })
        .expect("memory can be read");
        assert_eq!(next, log.tail(), "the hot tail ends early");
    }

    /// What a segment row stands for is in R2: nothing is deleted before it is there.
    fn check_segment(&self, stream: usize, entry: &SegmentEntry) {
        let incarnation = self.incarnation(stream);
        let key = entry.key(&self.objects[stream].key, incarnation.epoch);
        let range = entry.first.get()..=entry.last.get();
        let retention_ms = self.profile.settings.retention_ms;
        let is_there = self.bucket.contains(&key);
        let may_be_lost = || incarnation.may_be_lost(range, retention_ms, self.now);
        assert!(is_there || may_be_lost(), "{key} is nowhere");
    }

    /// A segment that has just taken the place of its rows holds what they held.
    pub(crate) fn check_sealed(&self, stream: usize, entry: &SegmentEntry) {
        let oldest = self.objects[stream].storage.first_after(Seq::ZERO);
        let oldest = oldest.expect("memory can be read");
        assert!(oldest.is_none_or(|row| row.first > entry.last), "sealed, and yet in the hot tail");
        let incarnation = self.incarnation(stream);
        let key = entry.key(&self.objects[stream].key, incarnation.epoch);
        let range = entry.first.get()..=entry.last.get();
        let retention_ms = self.profile.settings.retention_ms;
        if incarnation.may_be_lost(range, retention_ms, self.now) {
            return;
        }
        let bytes = self.bucket.get(&key).expect("it was put");
        let mut reader = SegmentReader::new(bytes, entry).expect("what was put");
        let mut next = entry.first;
        while let Some((seq, record)) = reader.next().expect("what was put") {
            assert_eq!(seq, next);
            assert!(record == incarnation.event(seq.get()).record, "sealed another {seq:?}");
            next = next.next();
        }
        assert_eq!(next, entry.last.next(), "not all was sealed");
    }
}
