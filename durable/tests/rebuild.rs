//! Goal: whatever became of a stream's storage, a rebuild serves every event that R2 and the hot
//! tail have, at positions without holes, and every reader learns of it.
//!
//! Method: a stream over a bucket in memory that loses its storage, its objects or the end of a
//! seal; what is read through the rebuilt index is compared with the list of what was appended.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

mod support;

use std::io::Read;

use relay_durable::{
    Command, EncodedSegment, FoundSegment, LogStorage, Move, Rebuilt, SegmentEncoder, SegmentError,
    SegmentRow, StreamSettings, test_storage::MemoryStorage,
};
use relay_schemas::{
    ByeCode, Connect, Cursor, Dialect,
    Disposition::{Appended, Duplicate},
    Epoch, EventId, NewEvent, Report, ReportStatus, SegmentEntry, SegmentName, SegmentOrigin, Seq,
    Sha256Digest, Start,
    limits::{DEDUPLICATION_WINDOW_MS, LOG_ROW_EXTENDED_BYTES_MAX},
    record_received_at, write_webhook_frame,
};

use crate::support::{
    DAY_MS, NOW, RETENTION_MS, Relay, SALT, all_contents, bye_line, connect, contents, cursor,
    edge, event, event_received, events, id, numbered, row_of, rows, sent, sent_and_closed,
    stream_key,
};

const REBUILD_SALT: u32 = SALT + 2;

/// Every object of the bucket, last names first.
fn found(relay: &Relay) -> Vec<FoundSegment> {
    let read = |(key, bytes): (&String, &Vec<u8>)| {
        let name = SegmentName::parse(key).unwrap();
        let entry = entry_of(&name, bytes);
        FoundSegment::read(name, entry, bytes.clone()).unwrap()
    };
    relay.bucket.iter().rev().map(read).collect()
}

/// What the object's name and metadata say of it.
fn entry_of(name: &SegmentName, bytes: &[u8]) -> SegmentEntry {
    let mut records = String::new();
    brotli::Decompressor::new(bytes, 4096).read_to_string(&mut records).unwrap();
    let received = || records.lines().map(|record| record_received_at(record).unwrap());
    SegmentEntry {
        first: name.first,
        last: name.last,
        received_at_min: received().min().unwrap(),
        received_at_max: received().max().unwrap(),
        bytes: bytes.len() as u64,
        raw_bytes: records.len() as u64,
        sha256: Sha256Digest::of(&[bytes]),
        origin: None,
    }
}

/// Rebuilds a moment later and loads the stream again, as a shell does.
fn rebuild(relay: &mut Relay) -> (Rebuilt, Vec<Command>) {
    relay.now = relay.now + 1;
    let found = found(relay);
    let (rebuilt, commands) =
        relay.stream.rebuild(&stream_key(), found, relay.now, REBUILD_SALT).unwrap();
    assert_eq!(rebuilt.epoch, Epoch::new(relay.now, REBUILD_SALT));
    relay.execute(&commands);
    relay.reload();
    assert_eq!(relay.stream.log().epoch(), rebuilt.epoch);
    (rebuilt, commands)
}

fn lose_storage(relay: &mut Relay) {
    relay.now = relay.now + 1;
    relay.storage = MemoryStorage::default();
    relay.reload();
}

/// The stream holds these events at 1, 2, 3 … and finds each.
fn check_contents(relay: &Relay, source: &[NewEvent], context: &str) {
    assert_eq!(all_contents(relay), numbered(source, 0), "{context}");
    let log = relay.stream.log();
    let tail = Seq::new(source.len() as u64);
    assert_eq!((log.trimmed(), log.tail()), (Seq::ZERO, tail), "{context}");
    for (number, event) in (1..).zip(source) {
        assert_eq!(log.position_of(event.id), Ok(Some(Seq::new(number))), "{context}: {number}");
    }
}

fn segments(relay: &Relay) -> Vec<SegmentEntry> {
    relay.stream.log().segments_after(Seq::ZERO, usize::MAX).unwrap()
}

fn bounds(relay: &Relay) -> Vec<(u64, u64)> {
    segments(relay).iter().map(|entry| (entry.first.get(), entry.last.get())).collect()
}

fn seq_move(first: u64, last: u64, to: u64) -> Move {
    Move { first: Seq::new(first), last: Seq::new(last), to: Seq::new(to) }
}

fn report(relay: &mut Relay, number: u64) {
    let message = Some(number.to_string());
    let report = Report { message, ..Report::new(id(number), ReportStatus::Completed) };
    relay.stream.report(&edge("edge_1"), report, relay.now).unwrap();
}

/// The positions up to 30 that have a report, with the event it was made on.
fn reports(relay: &Relay) -> Vec<(u64, String)> {
    let of = |seq: u64| {
        let reports = relay.storage.reports(Seq::new(seq)).unwrap();
        reports.into_iter().map(move |report| (seq, report.message.unwrap()))
    };
    (0..=30).flat_map(of).collect()
}

fn numbers(expected: &[(u64, u64)]) -> Vec<(u64, String)> {
    expected.iter().map(|(seq, number)| (*seq, number.to_string())).collect()
}

/// Events 1 to 8 in three segments.
fn sealed() -> (Relay, Vec<SegmentEntry>) {
    let mut relay = Relay::sealing_at_once();
    let entries = relay.seal_each(&[events(1..=3), events(4..=4), events(5..=8)]);
    (relay, entries)
}

fn encode(first: u64, records: &[String]) -> EncodedSegment {
    let mut encoder = SegmentEncoder::new(Seq::new(first));
    records.iter().for_each(|record| encoder.push(record));
    encoder.finish().unwrap()
}

/// Puts an object into the bucket that no storage knows of.
fn put_object(relay: &mut Relay, epoch: Epoch, first: u64, events: &[NewEvent]) -> String {
    let records: Vec<String> = events.iter().map(|event| event.record.clone()).collect();
    let EncodedSegment { entry, bytes } = encode(first, &records);
    let key = entry.key(&stream_key(), epoch);
    relay.bucket.insert(key.clone(), bytes);
    key
}

/// Puts the next segment into R2 and goes no further.
fn seal_without_completion(relay: &mut Relay) -> String {
    let job = relay.stream.seal_next(relay.now).unwrap().unwrap();
    let key = job.key();
    relay.bucket.insert(key.clone(), job.segment.bytes);
    key
}

#[test]
fn a_lost_storage_is_restored_from_the_bucket() {
    let (mut relay, entries) = sealed();
    let first_epoch = relay.stream.log().epoch();
    lose_storage(&mut relay);
    assert_eq!(all_contents(&relay), []);
    let (rebuilt, commands) = rebuild(&mut relay);
    let ids = |entry: &SegmentEntry| -> Vec<EventId> {
        (entry.first.get()..=entry.last.get()).map(id).collect()
    };
    let row = |entry: &SegmentEntry| SegmentRow {
        entry: SegmentEntry {
            origin: Some(SegmentOrigin { epoch: first_epoch, first: entry.first }),
            ..entry.clone()
        },
        ids: ids(entry),
        appended_at_max: NOW,
    };
    assert_eq!(rebuilt.segments, entries.iter().map(row).collect::<Vec<_>>());
    assert_eq!((rebuilt.moves, commands), (vec![], vec![]));
    assert_ne!(rebuilt.epoch, first_epoch);
    check_contents(&relay, &events(1..=8), "rebuilt");
    let names: Vec<String> = segments(&relay).iter().map(|entry| relay.key(entry)).collect();
    assert_eq!(names, relay.bucket.keys().cloned().collect::<Vec<_>>(), "objects stay");
    assert_eq!(relay.stream.log().stream(), Some(&stream_key()));
}

#[test]
fn without_any_object_the_hot_tail_begins_anew() {
    let mut relay = Relay::new();
    rebuild(&mut relay);
    check_contents(&relay, &[], "nothing at all");
    relay.append(&row_of(1..=2));
    relay.now = relay.now + 1;
    relay.append(&row_of(3..=4));
    relay.now = NOW + 1 + RETENTION_MS;
    relay.alarm();
    assert_eq!(relay.stream.log().trimmed(), Seq::new(2));
    let (rebuilt, _) = rebuild(&mut relay);
    assert_eq!(rebuilt.moves, [seq_move(3, 4, 1)]);
    check_contents(&relay, &row_of(3..=4), "the rows that were left");
}

#[test]
fn what_was_appended_since_the_loss_stays_behind_with_its_reports() {
    let (mut relay, _) = sealed();
    lose_storage(&mut relay);
    relay.append(&row_of(9..=10));
    relay.append(&row_of(11..=11));
    report(&mut relay, 10);
    report(&mut relay, 11);
    assert_eq!(reports(&relay), numbers(&[(2, 10), (3, 11)]));
    let (rebuilt, _) = rebuild(&mut relay);
    let source = [events(1..=8), row_of(9..=10), row_of(11..=11)].concat();
    assert_eq!(rebuilt.moves, [seq_move(1, 3, 9)]);
    assert_eq!(reports(&relay), numbers(&[(10, 10), (11, 11)]));
    check_contents(&relay, &source, "rebuilt");
    assert_eq!(contents(relay.stream.log()), numbered(&source, 8), "the hot tail stays hot");
    assert_eq!(relay.stream.log().hot_since(), Some(NOW + 1));
    relay.append(&events(12..=12));
    check_contents(&relay, &[source, events(12..=12)].concat(), "and goes on");
}

#[test]
fn a_second_rebuild_changes_the_epoch_and_no_position() {
    let (mut relay, _) = sealed();
    relay.append(&events(9..=10));
    for number in [2, 4, 8, 10] {
        report(&mut relay, number);
    }
    let reported = numbers(&[(2, 2), (4, 4), (8, 8), (10, 10)]);
    let mut before: Option<(Rebuilt, Vec<SegmentEntry>)> = None;
    for round in 0..3 {
        let (rebuilt, _) = rebuild(&mut relay);
        check_contents(&relay, &events(1..=10), &round.to_string());
        assert_eq!(reports(&relay), reported, "{round}");
        let runs = [(1, 3), (4, 4), (5, 8), (9, 10)];
        let moves = runs.map(|(first, last)| seq_move(first, last, first));
        assert_eq!(rebuilt.moves, moves, "{round}");
        if let Some((rebuilt_before, entries)) = before {
            assert_ne!(rebuilt.epoch, rebuilt_before.epoch);
            assert_eq!(rebuilt.segments, rebuilt_before.segments);
            assert_eq!(segments(&relay), entries);
        }
        before = Some((rebuilt, segments(&relay)));
    }
    assert_eq!(relay.bucket.len(), 3);
}

#[test]
fn what_is_sealed_between_rebuilds_keeps_its_own_name() {
    let (mut relay, _) = sealed();
    lose_storage(&mut relay);
    rebuild(&mut relay);
    let second = relay.stream.log().epoch();
    relay.seal_each(&[events(9..=10)]);
    report(&mut relay, 9);
    assert_eq!(segments(&relay)[3].origin, None);
    rebuild(&mut relay);
    let origin = SegmentOrigin { epoch: second, first: Seq::new(9) };
    assert_eq!(segments(&relay)[3].origin, Some(origin));
    assert_eq!(reports(&relay), numbers(&[(9, 9)]));
    check_contents(&relay, &events(1..=10), "rebuilt twice");
    lose_storage(&mut relay);
    rebuild(&mut relay);
    check_contents(&relay, &events(1..=10), "lost again");
}

#[test]
fn incarnations_stand_in_their_order() {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=2), events(3..=3)]);
    lose_storage(&mut relay);
    relay.seal_each(&[events(4..=5)]);
    lose_storage(&mut relay);
    relay.seal_each(&[events(6..=6), events(7..=9)]);
    lose_storage(&mut relay);
    relay.append(&events(10..=10));
    rebuild(&mut relay);
    check_contents(&relay, &events(1..=10), "three incarnations and rows of a fourth");
    assert_eq!(bounds(&relay), [(1, 2), (3, 3), (4, 5), (6, 6), (7, 9)]);
    let origins: Vec<u64> =
        segments(&relay).iter().map(|entry| entry.origin.unwrap().first.get()).collect();
    assert_eq!(origins, [1, 3, 1, 1, 2]);
}

#[test]
fn a_segment_that_is_not_what_it_promises_is_refused() {
    let record = |number: u64| event(number).record;
    let read = |entry: &SegmentEntry, bytes: Vec<u8>| {
        let key = entry.key(&stream_key(), cursor(0).epoch);
        FoundSegment::read(SegmentName::parse(&key).unwrap(), entry.clone(), bytes)
    };
    let EncodedSegment { entry, bytes } = encode(5, &[record(5), record(6)]);
    assert_eq!(read(&entry, bytes.clone()).unwrap().ids, [id(5), id(6)]);
    let flipped: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i == 9)).collect();
    assert_eq!(read(&entry, flipped), Err(SegmentError::Digest));
    let cut = bytes[1..].to_vec();
    let length = SegmentError::Length { expected: entry.bytes, found: entry.bytes - 1 };
    assert_eq!(read(&entry, cut), Err(length));
    for last in [5, 7] {
        let other = SegmentEntry { last: Seq::new(last), ..entry.clone() };
        assert!(matches!(read(&other, bytes.clone()), Err(SegmentError::Corrupt(_))), "{last}");
    }
    let EncodedSegment { entry, bytes } = encode(5, &[record(5), "{}".into()]);
    assert_eq!(read(&entry, bytes), Err(SegmentError::Corrupt("a record has no id")));
}

#[test]
fn a_hole_closes_up() {
    // Without each of the segments, with a storage that is whole.
    for (place, gone) in [(0, 1..=3), (1, 4..=4), (2, 5..=8)] {
        let (mut relay, entries) = sealed();
        relay.append(&row_of(9..=10));
        for number in 1..=10 {
            report(&mut relay, number);
        }
        relay.bucket.remove(&relay.key(&entries[place]));
        rebuild(&mut relay);
        let mut source = [events(1..=8), row_of(9..=10)].concat();
        source.retain(|event| !gone.clone().any(|number| id(number) == event.id));
        check_contents(&relay, &source, &format!("without {gone:?}"));
        let kept: Vec<u64> = (1..=10).filter(|number| !gone.contains(number)).collect();
        let reported: Vec<(u64, u64)> = (1..).zip(kept).collect();
        assert_eq!(reports(&relay), numbers(&reported), "without {gone:?}");
        for number in gone {
            assert_eq!(relay.stream.log().position_of(id(number)), Ok(None));
        }
    }
}

#[test]
fn what_retention_took_leaves_no_hole() {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[vec![event(1), event(2)]]);
    relay.now = NOW + 1;
    relay.seal_each(&[vec![event_received(3, NOW + 1)]]);
    relay.append(&[event_received(4, NOW + 1)]);
    relay.now = NOW + RETENTION_MS;
    relay.alarm();
    assert_eq!((relay.stream.log().trimmed(), relay.bucket.len()), (Seq::new(2), 1));
    let (rebuilt, _) = rebuild(&mut relay);
    assert_eq!(rebuilt.moves, [seq_move(3, 3, 1), seq_move(4, 4, 2)]);
    check_contents(
        &relay,
        &[event_received(3, NOW + 1), event_received(4, NOW + 1)],
        "the trimmed beginning",
    );
}

#[test]
fn of_objects_that_hold_the_same_events_one_is_taken() {
    let first = cursor(0).epoch;
    let mut relay = Relay::sealing_at_once();
    let whole = put_object(&mut relay, first, 1, &events(1..=5));
    for (from, to) in [(2, 3), (4, 5), (1, 1), (6, 6)] {
        put_object(&mut relay, first, from, &events(from..=to));
    }
    let (rebuilt, _) = rebuild(&mut relay);
    check_contents(&relay, &events(1..=6), "covered ranges");
    assert_eq!(rebuilt.segments.len(), 2);
    assert_eq!(relay.key(&segments(&relay)[0]), whole);
}

#[test]
fn events_at_positions_that_were_given_twice_are_all_taken() {
    // Of a storage that went back in time: other events came to the same positions.
    let first = cursor(0).epoch;
    let mut relay = Relay::sealing_at_once();
    put_object(&mut relay, first, 1, &events(1..=3));
    put_object(&mut relay, first, 4, &events(4..=6));
    put_object(&mut relay, first, 4, &events(7..=8));
    rebuild(&mut relay);
    check_contents(&relay, &events(1..=8), "positions given twice");
}

/// Two events in a segment, then three whose object is in R2 while their rows live on.
fn with_uncompleted_seal() -> (Relay, Vec<NewEvent>, String) {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=2)]);
    relay.append(&row_of(3..=5));
    let uncompleted = seal_without_completion(&mut relay);
    (relay, [events(1..=2), row_of(3..=5)].concat(), uncompleted)
}

#[test]
fn what_a_seal_left_behind_is_not_taken_twice() {
    for appends in [false, true] {
        let (mut relay, mut source, uncompleted) = with_uncompleted_seal();
        if appends {
            relay.append(&row_of(6..=6));
            source.extend(row_of(6..=6));
        }
        report(&mut relay, 4);
        // The rows come to other positions, so that the object can't be told by its name.
        let earlier = Epoch::new(NOW - 1, 0);
        put_object(&mut relay, earlier, 1, &events(20..=21));
        source.splice(0..0, events(20..=21));
        for round in 0..3 {
            let context = format!("{appends} {round}");
            rebuild(&mut relay);
            assert_eq!(relay.stream.log().plan(), None, "{context}");
            check_contents(&relay, &source, &context);
            assert_eq!(bounds(&relay), [(1, 2), (3, 4)], "{context}");
            assert_eq!(reports(&relay), numbers(&[(6, 4)]), "{context}");
        }
        let hot: Vec<NewEvent> = source[4..].to_vec();
        let sealed = relay.seal();
        assert_eq!(sealed.iter().map(SegmentEntry::count).sum::<u64>(), hot.len() as u64);
        assert_eq!(rows(&relay.storage), []);
        check_contents(&relay, &source, "sealing goes on");
        for round in 0..2 {
            rebuild(&mut relay);
            check_contents(&relay, &source, &format!("{appends} {round}, sealed"));
            assert_eq!(reports(&relay), numbers(&[(6, 4)]));
        }
        assert!(relay.bucket.contains_key(&uncompleted), "a rebuild deletes nothing");
    }
}

#[test]
fn what_was_sealed_under_two_names_survives_the_loss_of_either() {
    for loses_storage in [false, true] {
        for lost in [None, Some(0), Some(1)] {
            let (mut relay, source, uncompleted) = with_uncompleted_seal();
            rebuild(&mut relay);
            let [entry] = <[SegmentEntry; 1]>::try_from(relay.seal()).unwrap();
            let names = [uncompleted, relay.key(&entry)];
            assert_eq!(relay.bucket[&names[0]], relay.bucket[&names[1]]);
            lost.map(|place: usize| relay.bucket.remove(&names[place]));
            if loses_storage {
                lose_storage(&mut relay);
            }
            rebuild(&mut relay);
            check_contents(&relay, &source, &format!("{loses_storage} {lost:?}"));
            rebuild(&mut relay);
            check_contents(&relay, &source, &format!("{loses_storage} {lost:?} again"));
        }
    }
}

#[test]
fn a_segment_of_which_some_events_came_again_is_taken() {
    // The sender repeats the first and the last event after the loss, but not the one between.
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=3)]);
    lose_storage(&mut relay);
    relay.append(&[event(1), event(3)]);
    rebuild(&mut relay);
    let found = all_contents(&relay);
    assert_eq!(found, numbered(&[events(1..=3), vec![event(1), event(3)]].concat(), 0));
    assert_eq!(relay.stream.log().position_of(id(2)), Ok(Some(Seq::new(2))));
}

#[test]
fn a_segment_of_which_all_events_came_again_is_left_out() {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=3)]);
    lose_storage(&mut relay);
    relay.append(&[event(2), event(1), event(4), event(3)]);
    rebuild(&mut relay);
    check_contents(&relay, &[event(2), event(1), event(4), event(3)], "all came again");
    assert_eq!(segments(&relay), []);
}

#[test]
fn rows_that_a_failed_seal_left_over_are_not_taken_twice() {
    for (write, lands) in [(0, true), (1, false)] {
        let mut relay = Relay::sealing_at_once();
        relay.append(&events(1..=3));
        let job = relay.stream.seal_next(relay.now).unwrap().unwrap();
        relay.bucket.insert(job.key(), job.segment.bytes);
        let entry = job.segment.entry;
        relay.storage.fail_after(write, lands);
        assert!(relay.stream.seal_done(&entry).is_err());
        relay.reload();
        relay.append(&row_of(4..=5));
        assert_eq!(rows(&relay.storage).len(), 2, "rows are left over");
        let (rebuilt, _) = rebuild(&mut relay);
        assert_eq!(rebuilt.moves, [seq_move(1, 3, 1), seq_move(4, 5, 4)]);
        check_contents(&relay, &[events(1..=3), row_of(4..=5)].concat(), "left over");
        assert_eq!(rows(&relay.storage).len(), 1);
        relay.seal();
        check_contents(&relay, &[events(1..=3), row_of(4..=5)].concat(), "sealed");
    }
}

#[test]
fn events_of_rebuilt_segments_are_duplicates_for_the_window() {
    for (age_ms, expected) in [
        (2, Duplicate),
        (DEDUPLICATION_WINDOW_MS, Duplicate),
        (DEDUPLICATION_WINDOW_MS + 1, Appended),
    ] {
        let (mut relay, _) = sealed();
        lose_storage(&mut relay);
        rebuild(&mut relay);
        relay.now = NOW + age_ms;
        relay.reload();
        let again: Vec<NewEvent> =
            (1..=8).map(|number| event_received(number, relay.now)).collect();
        let (reply, _) = relay.try_append(&again).unwrap();
        assert_eq!(reply.dispositions, [expected; 8], "{age_ms}");
    }
}

#[test]
fn of_receipts_out_of_order_all_young_ids_are_known() {
    // The newest segment holds what was received long ago; before it lies what is young.
    let mut relay = Relay::sealing_at_once();
    relay.now = NOW + DAY_MS;
    relay.seal_each(&[vec![event_received(1, relay.now)], vec![event(2)]]);
    lose_storage(&mut relay);
    rebuild(&mut relay);
    let again = [event_received(1, relay.now), event_received(2, relay.now)];
    let (reply, _) = relay.try_append(&again).unwrap();
    assert_eq!(reply.dispositions, [Duplicate; 2]);
}

#[test]
fn retention_after_a_rebuild_spares_what_is_young() {
    let received = [NOW, NOW + 50 * DAY_MS, NOW + DAY_MS, NOW + 55 * DAY_MS];
    let mut relay = Relay::sealing_at_once();
    let source: Vec<NewEvent> =
        (1..).zip(received).map(|(number, at)| event_received(number, at)).collect();
    relay.now = NOW + 60 * DAY_MS;
    relay.seal_each(&source.chunks(1).map(<[NewEvent]>::to_vec).collect::<Vec<_>>());
    let objects: Vec<String> = relay.bucket.keys().cloned().collect();
    lose_storage(&mut relay);
    rebuild(&mut relay);
    relay.append(&[event_received(5, relay.now)]);
    // What lies behind something younger goes with it, never before.
    for (age_days, floor) in [(0, 1), (1, 1), (49, 1), (50, 3), (54, 3), (55, 4)] {
        relay.now = NOW + age_days * DAY_MS + RETENTION_MS;
        let due = relay.stream.next_alarm();
        assert!(due.is_some_and(|due| due <= relay.now), "{age_days}: {due:?}");
        relay.alarm();
        assert_eq!(relay.stream.log().trimmed(), Seq::new(floor), "{age_days}");
        let kept = [source.clone(), vec![event_received(5, NOW + 60 * DAY_MS + 2)]].concat();
        assert_eq!(all_contents(&relay), numbered(&kept, floor), "{age_days}");
        assert_eq!(relay.bucket.len(), objects.len() - floor as usize);
    }
    assert_eq!(relay.discarded.into_iter().collect::<Vec<_>>(), objects);
}

fn at(epoch: Epoch, seq: u64) -> Cursor {
    Cursor { epoch, seq: Seq::new(seq) }
}

/// What a reader with this cursor is told first, and then all events.
fn lines_of_all(epoch: Epoch, requested: &str, source: &[NewEvent]) -> Vec<String> {
    let (oldest, tail) = (at(epoch, 0), at(epoch, source.len() as u64));
    let mut lines = vec![
        format!(
            r#"{{"type":"open","cursor":"{oldest}","epoch":"{epoch}","oldest":"{oldest}","tail":"{tail}","heartbeat_s":15}}"#
        ),
        format!(
            r#"{{"type":"gap","requested":"{requested}","resumed_from":"{oldest}","oldest":"{oldest}","reason":"epoch_changed"}}"#
        ),
    ];
    lines.extend((1..).zip(source).map(|(seq, event)| {
        let mut line = String::new();
        write_webhook_frame(at(epoch, seq), seq, &event.record, &mut line);
        line
    }));
    lines
}

#[test]
fn every_reader_is_sent_away_and_then_reads_everything() {
    let (mut relay, _) = sealed();
    relay.append(&row_of(9..=10));
    let tail = Start::Cursor(cursor(9).to_string());
    let dialects = [Dialect::Ndjson, Dialect::Sse, Dialect::WebSocket];
    for (connection, dialect) in (1..).zip(dialects) {
        relay.connect(connection, &connect(dialect, tail.clone()));
    }
    let (_, commands) = rebuild(&mut relay);
    let bye = |(connection, dialect)| {
        let line = bye_line("reconnect", 0, 10);
        sent_and_closed(dialect, connection, line, (10, 10, 1), ByeCode::Reconnect)
    };
    let expected: Vec<Command> = (1..).zip(dialects).flat_map(bye).collect();
    assert_eq!(commands, expected);
    assert!(relay.stream.connections().is_empty() && relay.remembered.is_empty());

    let source = [events(1..=8), row_of(9..=10)].concat();
    for requested in [cursor(10).to_string(), cursor(3).to_string(), cursor(99).to_string()] {
        let reader = connect(Dialect::Ndjson, Start::Cursor(requested.clone()));
        let reading = relay.read(&reader);
        let epoch = relay.stream.log().epoch();
        assert_eq!(reading.lines, lines_of_all(epoch, &requested, &source));
        assert_eq!(reading.segments_lost, 0);
    }
}

#[test]
fn a_reader_of_history_learns_of_the_rebuild_and_reads_everything() {
    let (mut relay, _) = sealed();
    lose_storage(&mut relay);
    relay.append(&events(9..=9));
    rebuild(&mut relay);
    let requested = cursor(5).to_string();
    let resumed = Connect {
        start: Start::Cursor(requested.clone()),
        resume: Some(relay_schemas::Resume { n: 5, credit_bytes: 1 << 18 }),
        ..connect(Dialect::Ndjson, Start::Earliest)
    };
    let reading = relay.read(&resumed);
    let epoch = relay.stream.log().epoch();
    let mut expected = lines_of_all(epoch, &requested, &events(1..=9))[1..2].to_vec();
    expected.extend((1..).zip(events(1..=9)).map(|(seq, event)| {
        let mut line = String::new();
        write_webhook_frame(at(epoch, seq), 5 + seq, &event.record, &mut line);
        line
    }));
    assert_eq!(reading.lines, expected);
}

#[test]
fn a_reader_of_the_new_incarnation_is_followed() {
    let (mut relay, _) = sealed();
    lose_storage(&mut relay);
    rebuild(&mut relay);
    let epoch = relay.stream.log().epoch();
    let tail = at(epoch, 8);
    let reader = connect(Dialect::WebSocket, Start::Cursor(tail.to_string()));
    relay.connect(1, &reader);
    relay.reload();
    let mut line = String::new();
    write_webhook_frame(at(epoch, 9), 1, &event(9).record, &mut line);
    let commands = relay.append(&events(9..=9));
    assert_eq!(commands[..1], sent(Dialect::WebSocket, 1, &[line], (9, 9, 1)));
}

#[test]
fn a_storage_that_fails_leaves_the_old_or_the_new_and_can_be_rebuilt_again() {
    for lands in [false, true] {
        let (mut relay, _) = sealed();
        relay.append(&row_of(9..=10));
        report(&mut relay, 4);
        report(&mut relay, 9);
        let source = [events(1..=8), row_of(9..=10)].concat();
        let epoch = relay.stream.log().epoch();
        relay.now = NOW + 1;
        relay.storage.fail_after(0, lands);
        let objects = found(&relay);
        let outcome = relay.stream.rebuild(&stream_key(), objects, relay.now, REBUILD_SALT);
        assert!(outcome.is_err());
        relay.reload();
        assert_eq!(relay.stream.log().epoch() != epoch, lands);
        for round in 0..2 {
            check_contents(&relay, &source, &format!("{lands} {round}"));
            assert_eq!(reports(&relay), numbers(&[(4, 4), (9, 9)]));
            rebuild(&mut relay);
        }
    }
}

#[test]
fn a_rebuild_that_was_lost_keeps_its_readers() {
    let (mut relay, _) = sealed();
    relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
    relay.storage.fail_after(0, false);
    let objects = found(&relay);
    assert!(relay.stream.rebuild(&stream_key(), objects, NOW + 1, REBUILD_SALT).is_err());
    relay.reload();
    assert_eq!(relay.stream.connections().len(), 1);
    let (_, commands) = rebuild(&mut relay);
    let line = bye_line("reconnect", 0, 8);
    let stand = (8, 8, 0);
    let expected = sent_and_closed(Dialect::WebSocket, 1, line, stand, ByeCode::Reconnect);
    assert_eq!(commands, expected);
}

#[test]
fn sealing_by_age_counts_from_the_rows() {
    let seal_bytes = 16 * LOG_ROW_EXTENDED_BYTES_MAX as u64;
    let settings = StreamSettings { seal_bytes, ..StreamSettings::default() };
    let mut relay = Relay::with_settings(settings);
    let due = NOW + settings.seal_age_ms;
    relay.append(&(1..=12).map(support::event_alone).collect::<Vec<_>>());
    assert_eq!(relay.stream.next_alarm(), Some(due));
    rebuild(&mut relay);
    assert_eq!(relay.stream.next_alarm(), Some(due), "a rebuild makes no event younger");
    relay.now = due;
    assert_eq!(relay.seal().len(), 1);
}
