//! Goal: a sweep finds every difference between a stream, R2 and KV, repairs what can be repaired,
//! and removes nothing that a reader or a rebuild may still want.
//!
//! Method: one difference at a time in stores that agree otherwise; then stores that differ at
//! random, swept twice.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use relay_durable::{FoundObject, KnownHistory, Repair, StreamSettings, Sweep, sweep};
use relay_schemas::{
    Dialect, Epoch, SegmentEntry, SegmentOrigin, Seq, Sha256Digest, Start, UnixMillis, index_key,
};

use crate::support::{
    DAY_MS, NOW, RETENTION_MS, Relay, SALT, connect, event_received, events, stream_key,
};

/// The age up to which no object is removed.
const YOUNG_MS: u64 = DAY_MS;

fn epoch() -> Epoch {
    Epoch::new(NOW, SALT)
}

fn earlier_epoch() -> Epoch {
    Epoch::new(NOW - 1, SALT)
}

fn entry(first: u64, last: u64) -> SegmentEntry {
    SegmentEntry {
        first: Seq::new(first),
        last: Seq::new(last),
        received_at_min: NOW,
        received_at_max: NOW,
        bytes: 10,
        raw_bytes: 20,
        sha256: Sha256Digest::of(&[b"x"]),
        origin: None,
    }
}

fn key(epoch: Epoch, first: u64, last: u64) -> String {
    entry(first, last).key(&stream_key(), epoch)
}

fn index(first: u64) -> String {
    index_key(&stream_key(), epoch(), Seq::new(first))
}

/// A stream and the two stores that it is compared with.
#[derive(Clone, Debug)]
struct Stores {
    known: KnownHistory,
    /// When each object was put there.
    objects: BTreeMap<String, UnixMillis>,
    index: BTreeSet<String>,
    now: UnixMillis,
}

impl Stores {
    /// Stores that agree, long after these segments were sealed.
    fn of(segments: Vec<SegmentEntry>) -> Self {
        let trimmed = segments.first().map_or(0, |entry| entry.first.get() - 1);
        let known = KnownHistory {
            stream: stream_key(),
            epoch: epoch(),
            trimmed: Seq::new(trimmed),
            sealed: segments.last().map_or(Seq::ZERO, |entry| entry.last),
            planned: None,
            retention_ms: RETENTION_MS,
            segments,
        };
        let objects = known.segments.iter().map(|entry| (entry.key(&stream_key(), epoch()), NOW));
        let index = known.segments.iter().map(|entry| index(entry.first.get()));
        Self {
            objects: objects.collect(),
            index: index.collect(),
            known: known.clone(),
            now: NOW + 40 * DAY_MS,
        }
    }

    /// Segments 4 to 6, 7 and 8 to 10; what came before is trimmed.
    fn agreeing() -> Self {
        Self::of(vec![entry(4, 6), entry(7, 7), entry(8, 10)])
    }

    /// Puts an object of this age there.
    fn put(&mut self, key: &str, age_ms: u64) {
        self.objects.insert(key.to_owned(), self.now - age_ms);
    }

    fn sweep(&self) -> Sweep {
        let found =
            |(key, at): (&String, &UnixMillis)| FoundObject { key: key.clone(), uploaded_at: *at };
        let objects: Vec<FoundObject> = self.objects.iter().map(found).collect();
        let index: Vec<String> = self.index.iter().cloned().collect();
        sweep(&self.known, &objects, &index, self.now)
    }

    fn check(&self, repairs: &[Repair], missing: &[SegmentEntry], orphans: &[String]) {
        let expected = Sweep {
            repairs: repairs.to_vec(),
            missing: missing.to_vec(),
            orphans: orphans.to_vec(),
        };
        assert_eq!(self.sweep(), expected);
        // Once repaired, what is left is what can't be.
        let mut repaired = self.clone();
        repaired.repair(repairs);
        assert_eq!(repaired.sweep(), Sweep { repairs: vec![], ..expected });
    }

    fn repair(&mut self, repairs: &[Repair]) {
        for repair in repairs {
            let has_changed = match repair {
                Repair::DeleteObject(key) => self.objects.remove(key).is_some(),
                Repair::PutIndex(entry) => self.index.insert(index(entry.first.get())),
                Repair::DeleteIndex(key) => self.index.remove(key),
            };
            assert!(has_changed, "{repair:?} repairs nothing");
        }
    }

    /// An object that the stream doesn't know, at ages around the border at which it is removed.
    fn check_border(&self, key: &str, kept_ms: u64) {
        for (age_ms, is_kept) in [(kept_ms, true), (kept_ms + 1, false)] {
            let mut stores = self.clone();
            stores.put(key, age_ms);
            match is_kept {
                true if age_ms <= YOUNG_MS => stores.check(&[], &[], &[]),
                true => stores.check(&[], &[], &[key.to_owned()]),
                false => stores.check(&[Repair::DeleteObject(key.to_owned())], &[], &[]),
            }
        }
    }
}

#[test]
fn stores_that_agree_are_left_alone() {
    Stores::agreeing().check(&[], &[], &[]);
    Stores::of(vec![]).check(&[], &[], &[]);
}

#[test]
fn a_missing_index_entry_is_put_there() {
    for entry in Stores::agreeing().known.segments {
        let mut stores = Stores::agreeing();
        assert!(stores.index.remove(&index(entry.first.get())));
        stores.check(&[Repair::PutIndex(entry)], &[], &[]);
    }
}

#[test]
fn an_index_entry_of_no_segment_is_removed() {
    let other_epoch = index_key(&stream_key(), earlier_epoch(), Seq::new(7));
    for unknown in [index(1), index(5), index(11), other_epoch] {
        let mut stores = Stores::agreeing();
        stores.index.insert(unknown.clone());
        stores.check(&[Repair::DeleteIndex(unknown)], &[], &[]);
    }
}

#[test]
fn a_segment_without_object_is_told_and_its_index_is_left_to_whoever_confirms_it() {
    for entry in Stores::agreeing().known.segments {
        for is_indexed in [false, true] {
            let mut stores = Stores::agreeing();
            stores.objects.remove(&entry.key(&stream_key(), epoch()));
            if !is_indexed {
                stores.index.remove(&index(entry.first.get()));
            }
            stores.check(&[], std::slice::from_ref(&entry), &[]);
        }
    }
}

#[test]
fn what_the_stream_has_elsewhere_or_no_longer_is_removed_when_it_is_old() {
    for (first, last) in [(1, 3), (3, 3), (4, 5), (5, 6), (4, 7), (6, 8), (4, 10), (8, 9), (10, 10)]
    {
        Stores::agreeing().check_border(&key(epoch(), first, last), YOUNG_MS);
    }
}

#[test]
fn what_the_stream_may_lack_is_kept_until_retention_is_over() {
    let beyond = [(10, 11), (11, 11), (11, 20), (4, 11)];
    let half_trimmed = [(3, 4), (1, 10)];
    for (first, last) in beyond.into_iter().chain(half_trimmed) {
        Stores::agreeing().check_border(&key(epoch(), first, last), RETENTION_MS + YOUNG_MS);
    }
    for epoch in [earlier_epoch(), Epoch::new(NOW + 1, SALT)] {
        for (first, last) in [(1, 3), (4, 6), (5, 5), (11, 12)] {
            Stores::agreeing().check_border(&key(epoch, first, last), RETENTION_MS + YOUNG_MS);
        }
    }
    let mut shorter = Stores::agreeing();
    shorter.known.retention_ms = 3 * DAY_MS;
    shorter.check_border(&key(earlier_epoch(), 4, 6), 4 * DAY_MS);
}

#[test]
fn an_object_from_the_future_is_young() {
    let mut stores = Stores::agreeing();
    stores.objects.insert(key(epoch(), 1, 3), stores.now + DAY_MS);
    stores.check(&[], &[], &[]);
}

#[test]
fn an_object_with_a_name_of_its_own_is_never_removed() {
    let own = "segments/org-1/user:u-1/notes.txt";
    let mut stores = Stores::agreeing();
    stores.put(own, YOUNG_MS);
    stores.check(&[], &[], &[]);
    stores.put(own, 10 * RETENTION_MS);
    stores.check(&[], &[], &[own.to_owned()]);
}

#[test]
fn an_object_of_another_stream_covers_nothing() {
    let other = entry(4, 5).key(&"org-1/user:u-2".parse().unwrap(), epoch());
    Stores::agreeing().check_border(&other, RETENTION_MS + YOUNG_MS);
}

#[test]
fn behind_a_hole_of_the_known_segments_nothing_is_covered() {
    let stores = Stores::of(vec![entry(1, 3), entry(5, 6), entry(7, 9)]);
    for (first, last) in [(1, 4), (3, 5), (4, 4), (4, 9), (1, 9)] {
        stores.check_border(&key(epoch(), first, last), RETENTION_MS + YOUNG_MS);
    }
    for (first, last) in [(1, 2), (2, 3), (5, 9), (6, 8)] {
        stores.check_border(&key(epoch(), first, last), YOUNG_MS);
    }
}

#[test]
fn what_is_being_sealed_is_left_alone() {
    let mut stores = Stores::agreeing();
    stores.known.planned = Some((Seq::new(11), Seq::new(12)));
    stores.index.insert(index(11));
    stores.put(&key(epoch(), 11, 12), 0);
    stores.check(&[], &[], &[]);
    // Not yet in the index, or in the index alone.
    stores.index.remove(&index(11));
    stores.check(&[], &[], &[]);
    stores.index.insert(index(11));
    stores.objects.remove(&key(epoch(), 11, 12));
    stores.check(&[], &[], &[]);
    // KV has been refusing for long: nothing is removed all the same.
    stores.put(&key(epoch(), 11, 12), 2 * YOUNG_MS);
    stores.check(&[], &[], &[key(epoch(), 11, 12)]);
    stores.index.insert(index(13));
    stores.check(&[Repair::DeleteIndex(index(13))], &[], &[key(epoch(), 11, 12)]);
}

#[test]
fn a_rebuilt_segment_is_looked_for_where_it_was_sealed() {
    let origin = SegmentOrigin { epoch: earlier_epoch(), first: Seq::new(101) };
    let rebuilt = SegmentEntry { origin: Some(origin), ..entry(1, 3) };
    let mut stores = Stores::of(vec![rebuilt.clone(), entry(4, 5)]);
    let name = key(earlier_epoch(), 101, 103);
    assert!(stores.objects.contains_key(&name));
    stores.objects.insert(name.clone(), NOW - RETENTION_MS);
    stores.check(&[], &[], &[]);
    stores.index.remove(&index(1));
    stores.check(&[Repair::PutIndex(rebuilt.clone())], &[], &[]);
    stores.objects.remove(&name);
    stores.put(&key(epoch(), 1, 3), 2 * YOUNG_MS);
    let own = Repair::DeleteObject(key(epoch(), 1, 3));
    stores.check(&[own], &[rebuilt], &[]);
}

#[test]
fn a_stream_knows_its_history_once_it_is_used() {
    let settings = StreamSettings { seal_bytes: 1, ..StreamSettings::default() };
    let mut relay = Relay::with_settings(settings);
    assert_eq!(relay.stream.known_history(), Ok(None));
    relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
    let mut expected = KnownHistory {
        stream: stream_key(),
        epoch: epoch(),
        trimmed: Seq::ZERO,
        sealed: Seq::ZERO,
        planned: None,
        retention_ms: RETENTION_MS,
        segments: vec![],
    };
    assert_eq!(relay.stream.known_history(), Ok(Some(expected.clone())));
    expected.segments = relay.seal_each(&[events(1..=2)]);
    relay.now = NOW + 1;
    expected.segments.extend(relay.seal_each(&[vec![event_received(3, relay.now)]]));
    relay.append(&events(4..=6));
    assert!(relay.stream.seal_next(relay.now).unwrap().is_some());
    (expected.sealed, expected.planned) = (Seq::new(3), Some((Seq::new(4), Seq::new(6))));
    assert_eq!(relay.stream.known_history(), Ok(Some(expected.clone())));
    relay.now = NOW + RETENTION_MS;
    relay.alarm();
    expected.segments.remove(0);
    expected.trimmed = Seq::new(2);
    relay.reload();
    assert_eq!(relay.stream.known_history(), Ok(Some(expected.clone())));
    let text = serde_json::to_string(&expected).unwrap();
    assert_eq!(serde_json::from_str::<KnownHistory>(&text).unwrap(), expected);
}

/// Of one segment: how many events it has and how many are missing before it, whether it was
/// sealed by an earlier incarnation, and whether its object and its index entry are there.
type AnySegment = (u64, u64, bool, bool, bool);

/// An object that may be nobody's: of which incarnation, its range, and its age in hours.
type AnyObject = (bool, u64, u64, u64);

fn any_stores(
    segments: &[AnySegment],
    objects: &[AnyObject],
    index_keys: &[(bool, u64)],
    planned: Option<u64>,
) -> Stores {
    let mut next = 1;
    let mut entries = Vec::new();
    for (count, hole, is_earlier, ..) in segments {
        let first = next + hole;
        next = first + count;
        let origin = SegmentOrigin { epoch: earlier_epoch(), first: Seq::new(first + 3) };
        let origin = is_earlier.then_some(origin);
        entries.push(SegmentEntry { origin, ..entry(first, next - 1) });
    }
    let mut stores = Stores::of(entries.clone());
    for (entry, (.., has_object, is_indexed)) in entries.iter().zip(segments) {
        if !has_object {
            stores.objects.remove(&entry.key(&stream_key(), epoch()));
        }
        if !is_indexed {
            stores.index.remove(&index(entry.first.get()));
        }
    }
    let epoch_of = |is_earlier: bool| if is_earlier { earlier_epoch() } else { epoch() };
    for (is_earlier, first, count, age_hours) in objects {
        let key = key(epoch_of(*is_earlier), *first, first + count);
        stores.put(&key, age_hours * 3_600_000);
    }
    for (is_earlier, first) in index_keys {
        stores.index.insert(index_key(&stream_key(), epoch_of(*is_earlier), Seq::new(*first)));
    }
    stores.known.planned = planned.map(|count| (Seq::new(next), Seq::new(next + count)));
    stores
}

fn any_hole() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 1 => 1u64..3]
}

proptest! {
    #[test]
    fn a_second_sweep_has_nothing_to_repair_and_no_known_object_is_removed(
        segments in prop::collection::vec(
            (1u64..5, any_hole(), any::<bool>(), any::<bool>(), any::<bool>()),
            0..6,
        ),
        objects in prop::collection::vec((any::<bool>(), 1u64..30, 0u64..9, 0u64..2_000), 0..12),
        index_keys in prop::collection::vec((any::<bool>(), 1u64..30), 0..6),
        planned in prop::option::of(0u64..5),
    ) {
        let stores = any_stores(&segments, &objects, &index_keys, planned);
        let found = stores.sweep();
        let mut repaired = stores.clone();
        repaired.repair(&found.repairs);
        let known = &stores.known;
        for entry in &known.segments {
            let key = entry.key(&stream_key(), epoch());
            let was_there = stores.objects.contains_key(&key);
            prop_assert_eq!(repaired.objects.contains_key(&key), was_there);
            prop_assert_eq!(found.missing.contains(entry), !was_there);
            let is_indexed = repaired.index.contains(&index(entry.first.get()));
            prop_assert!(is_indexed || !was_there);
        }
        let planned = known.planned.map(|(first, _)| index(first.get()));
        let names: BTreeSet<String> =
            known.segments.iter().map(|entry| index(entry.first.get())).chain(planned).collect();
        prop_assert!(repaired.index.is_subset(&names));
        for (key, at) in &stores.objects {
            if stores.now.since_ms(*at) <= YOUNG_MS {
                prop_assert!(repaired.objects.contains_key(key), "young: {}", key);
            }
        }
        let again = repaired.sweep();
        prop_assert_eq!(&again.repairs, &vec![]);
        prop_assert_eq!(again.missing, found.missing);
        prop_assert_eq!(again.orphans, found.orphans);
    }
}
