use proptest::prelude::*;
use relay_durable::{SegmentEncoder, samples::samples};
use relay_schemas::{
    Channel, Epoch, EventId, Record, RecordParts, SegmentOrigin, Seq, Subject, UnixMillis,
};

use super::*;

fn numbered(first: u64, records: &[impl AsRef<str>]) -> Vec<(u64, String)> {
    (first..).zip(records).map(|(seq, record)| (seq, record.as_ref().to_owned())).collect()
}

fn check(first: u64, records: &[impl AsRef<str>]) {
    let segment = encode(first, records);
    let raw_bytes: usize = records.iter().map(|record| record.as_ref().len() + 1).sum();
    assert_eq!(segment.entry.raw_bytes, raw_bytes as u64);
    assert_eq!((segment.entry.first.get(), segment.entry.count()), (first, records.len() as u64));
    assert_eq!(segment, encode(first, records), "the same records give the same bytes");
    let found = read_after(&segment.bytes, &segment.entry, 0);
    assert_eq!(found, (numbered(first, records), None));
}

fn record_at(received_at: u64, body: &str) -> String {
    Record::new(&RecordParts {
        id: EventId::from_bytes([7; 16]),
        received_at: UnixMillis::new(received_at),
        kind: "Issue.update",
        organization: &"org-1".parse().unwrap(),
        channel: &"user:u-1".parse::<Channel>().unwrap(),
        delivery: None,
        headers: &[],
        subject: Subject::default(),
        own: false,
        body,
    })
    .into_string()
}

#[test]
fn nothing_is_no_segment() {
    assert_eq!(SegmentEncoder::new(Seq::new(7)).finish(), None);
}

#[test]
fn a_single_record_even_an_empty_one_is_a_segment() {
    check(1, &[""]);
    check(1, &["", ""]);
    check(Seq::MAX.get(), &["{}"]);
}

#[test]
fn webhooks_survive() {
    let bodies = samples("org-1", "u-1", 1_790_000_000_000);
    let records: Vec<String> =
        bodies.iter().map(|sample| record_at(1_790_000_000_000, &sample.body)).collect();
    check(101, &records);
    let halves = encode(101, &records[..40]).bytes.len() + encode(141, &records[40..]).bytes.len();
    assert!(encode(101, &records).bytes.len() < halves);
}

#[test]
fn the_greatest_record_survives_among_others() {
    let mut random = random_bytes(1);
    let huge: String = (0..5 * 1024 * 1024).map(|_| char::from(b' ' + random() % 90)).collect();
    check(1, &["{}".to_owned(), huge, "é".to_owned()]);
}

#[test]
fn receipts_are_the_earliest_and_the_latest() {
    let records: Vec<String> = [50, 20, 90, 30].map(|at| record_at(at, "{}")).into();
    let entry = encode(1, &records).entry;
    let span = (entry.received_at_min.get(), entry.received_at_max.get());
    assert_eq!(span, (20, 90));
    assert_eq!(encode(1, &["{}"]).entry.received_at_min, UnixMillis::default());
}

#[test]
fn counts_are_told_while_it_is_made() {
    let mut encoder = SegmentEncoder::new(Seq::new(9));
    assert_eq!((encoder.count(), encoder.raw_bytes()), (0, 0));
    encoder.push("é");
    encoder.push("");
    assert_eq!((encoder.count(), encoder.raw_bytes()), (2, 4));
}

#[test]
#[should_panic(expected = "a record is one line")]
fn a_record_of_two_lines_is_refused() {
    encode(1, &["a\nb"]);
}

#[test]
fn positions_are_the_entrys_own_wherever_it_was_sealed() {
    let mut segment = encode(101, &["a", "b"]);
    let epoch = Epoch::new(UnixMillis::new(1), 1);
    segment.entry.origin = Some(SegmentOrigin { epoch, first: Seq::new(7) });
    let found = read_after(&segment.bytes, &segment.entry, 101);
    assert_eq!(found, (vec![(102, "b".to_owned())], None));
}

#[test]
fn reading_starts_after_any_position() {
    let records = some_records(50);
    let segment = encode(11, &records);
    for after in 0..=70 {
        let expected = numbered(11, &records).into_iter().filter(|(seq, _)| *seq > after).collect();
        let found = read_after(&segment.bytes, &segment.entry, after);
        assert_eq!(found, (expected, None), "after {after}");
    }
    let past = read_after(&segment.bytes, &segment.entry, Seq::MAX.get());
    assert_eq!(past, (vec![], None));
}

#[test]
fn skipping_goes_forward_only() {
    let segment = encode(11, &some_records(50));
    let mut reader = SegmentReader::new(segment.bytes, &segment.entry).unwrap();
    let mut position = |after: u64| {
        reader.skip_to(Seq::new(after));
        reader.next().unwrap().map(|(seq, _)| seq.get())
    };
    let found = [0, 11, 12, 5, 30, 12, 33, 59, 60].map(&mut position);
    let expected = [11, 12, 13, 14, 31, 32, 34, 60].map(Some);
    assert_eq!(found[..8], expected);
    assert_eq!((found[8], position(0)), (None, None));
}

#[test]
fn of_two_skips_the_farther_one_holds() {
    let segment = encode(11, &some_records(50));
    let mut reader = SegmentReader::new(segment.bytes, &segment.entry).unwrap();
    reader.skip_to(Seq::new(30));
    reader.skip_to(Seq::new(12));
    assert_eq!(reader.next().unwrap().unwrap().0, Seq::new(31));
}

proptest! {
    #[test]
    fn any_records_survive(
        first in 1u64..1 << 50,
        records in prop::collection::vec("[^\n]{0,40}", 1..40),
        after in 0usize..45,
    ) {
        check(first, &records);
        let segment = encode(first, &records);
        let found = read_after(&segment.bytes, &segment.entry, first + after as u64);
        let expected = numbered(first, &records).split_off((after + 1).min(records.len()));
        prop_assert_eq!(found, (expected, None));
    }
}

/// Bytes that look random, the same for the same seed.
fn random_bytes(seed: u64) -> impl FnMut() -> u8 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    }
}
