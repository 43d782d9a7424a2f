//! Goal: a segment that can't be read is asked for once more and then told as lost, never passed
//! over in silence; what lies behind it is read.
//! Method: objects that are gone, cut, spoiled or of other events.

use relay_durable::Fetched;
use relay_schemas::{Cursor, Dialect, Epoch, HistoryOffer, Seq, Start};

use crate::{
    expected, expected_without, reader,
    support::{
        NOW, Relay, SALT, connect, cursor, event_received, lines_after, lost_line, open_line,
        webhook_line,
    },
    tiers,
};

/// How an object is lost: `None` when it is gone.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

const DAMAGES: [(&str, Damage); 4] = [
    ("gone", |_| None),
    ("cut", |bytes| Some(bytes[..bytes.len() - 1].to_vec())),
    ("empty", |_| Some(Vec::new())),
    ("flipped", |bytes| {
        Some(bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i == 9)).collect())
    }),
];

fn damage(relay: &mut Relay, place: usize, damage: Damage) {
    let segments = relay.stream.log().segments_after(Seq::ZERO, usize::MAX).unwrap();
    let key = relay.key(&segments[place]);
    match damage(&relay.bucket[&key]) {
        Some(bytes) => relay.bucket.insert(key, bytes),
        None => relay.bucket.remove(&key),
    };
}

#[test]
fn a_lost_segment_is_told_and_what_follows_is_read() {
    let bounds = [(1, 3), (4, 4), (5, 8)];
    for (name, how) in DAMAGES {
        for place in 0..3 {
            for after in 0..=9 {
                let mut relay = tiers();
                damage(&mut relay, place, how);
                let reading = relay.read(&reader(after));
                let expected = expected_without(after, &bounds[place..=place]);
                assert_eq!(reading.lines, expected, "{name} {place} {after}");
                let is_met = after < bounds[place].1;
                assert_eq!(reading.segments_lost, u64::from(is_met));
                let first = format!("fetch {}", bounds[place].0);
                let tries = reading.steps.iter().filter(|step| **step == first).count();
                assert_eq!(tries, if is_met { 2 } else { 0 }, "asked for once more");
            }
        }
    }
}

#[test]
fn several_lost_segments_are_each_told() {
    for (name, how) in DAMAGES {
        let mut relay = tiers();
        damage(&mut relay, 0, how);
        damage(&mut relay, 1, how);
        let reading = relay.read(&reader(0));
        assert_eq!(reading.lines, expected_without(0, &[(1, 3), (4, 4)]), "{name}");
        let steps = ["fetch 1", "ask", "fetch 1", "list", "ask", "fetch 4", "ask", "fetch 4"];
        assert!(reading.steps.len() >= steps.len() - 1, "{:?}", reading.steps);
        assert_eq!(reading.segments_lost, 2);
        damage(&mut relay, 2, |_| None);
        let reading = relay.read(&reader(2));
        assert_eq!(reading.lines, expected_without(2, &[(1, 3), (4, 4), (5, 8)]), "{name}");
    }
}

#[test]
fn a_segment_that_comes_back_is_read() {
    let mut relay = tiers();
    let offer = relay.history(1, &reader(0));
    let mut replay = relay_durable::Replay::new(reader(0), offer.clone());
    let mut out = String::new();
    replay.write(usize::MAX, &mut out);
    replay.fetched(&offer.segments[0], Fetched::Missing);
    assert_eq!(replay.next_step(), relay_durable::ReplayStep::Ask);
    replay.offered(relay.history(1, &replay.ask(1)));
    let bytes = relay.bucket[&relay.key(&offer.segments[0])].clone();
    replay.fetched(&offer.segments[0], Fetched::Bytes(bytes));
    replay.write(usize::MAX, &mut out);
    replay.write(usize::MAX, &mut out);
    assert_eq!(out.lines().collect::<Vec<_>>(), expected(0)[..4]);
    assert_eq!(replay.take_segments_lost(), 0);

    // Later it fails again: that is another matter, and asked about again.
    replay.fetched(&offer.segments[1], Fetched::Missing);
    assert_eq!(replay.next_step(), relay_durable::ReplayStep::Ask);
    assert_eq!(replay.take_segments_lost(), 0);
}

#[test]
fn a_segment_that_breaks_in_the_middle_is_told_from_there() {
    // The entry promises one event more than the object has.
    let mut relay = tiers();
    let offer = relay.history(1, &reader(0));
    let with_more = |mut offer: HistoryOffer| {
        offer.segments[0].last = Seq::new(4);
        offer.segments.remove(1);
        offer
    };
    let mut replay = relay_durable::Replay::new(reader(0), with_more(offer.clone()));
    let bytes = relay.bucket[&relay.key(&offer.segments[0])].clone();
    let entry = with_more(offer).segments[0].clone();
    let mut out = String::new();
    replay.write(usize::MAX, &mut out);
    for _ in 0..2 {
        replay.fetched(&entry, Fetched::Bytes(bytes.clone()));
        replay.write(usize::MAX, &mut out);
        if replay.next_step() == relay_durable::ReplayStep::Ask {
            let mut again = relay.history(1, &replay.ask(1));
            again.segments.insert(0, entry.clone());
            again.segments.remove(1);
            replay.offered(again);
        }
    }
    replay.write(usize::MAX, &mut out);
    let mut lines = expected(0)[..4].to_vec();
    lines.push(lost_line(3, 4, 0));
    assert_eq!(out.lines().collect::<Vec<_>>(), lines);
    assert_eq!(replay.position().cursor, cursor(4));
}

#[test]
fn a_hole_in_what_the_object_names_is_told() {
    for (removed, lost) in [(0, (1, 3)), (1, (4, 4)), (2, (5, 8))] {
        for after in 0..8 {
            let mut relay = tiers();
            let mut offer = relay.history(1, &reader(after));
            let first = [1, 4, 5][removed];
            offer.segments.retain(|entry| entry.first != Seq::new(first));
            relay.index.clear();
            let mut replay = relay_durable::Replay::new(reader(after), offer);
            let mut out = String::new();
            let mut steps = 0;
            loop {
                steps += 1;
                assert!(steps < 100, "no end");
                match replay.next_step() {
                    relay_durable::ReplayStep::Write => drop(replay.write(usize::MAX, &mut out)),
                    relay_durable::ReplayStep::Fetch(object) => {
                        let bytes = relay.bucket[&object.key].clone();
                        replay.fetched(&object.entry, Fetched::Bytes(bytes));
                    }
                    relay_durable::ReplayStep::List { .. } => replay.listed(Vec::new()),
                    relay_durable::ReplayStep::Ask if replay.position().cursor == cursor(8) => {
                        break;
                    }
                    relay_durable::ReplayStep::Ask => {
                        let mut more = relay.history(1, &replay.ask(1));
                        more.segments.retain(|entry| entry.first != Seq::new(first));
                        replay.offered(more);
                    }
                }
            }
            let mut lines = expected_without(after, &[lost]);
            lines.retain(|line| !line.contains(r#""data":{"number":9}"#));
            lines.retain(|line| !line.contains(r#""data":{"number":10}"#));
            assert_eq!(out.lines().collect::<Vec<_>>(), lines, "{removed} {after}");
        }
    }
}

#[test]
fn after_a_lost_instant_everything_is_read() {
    let mut relay = Relay::sealing_at_once();
    let source: Vec<_> =
        (1..).zip([10, 30, 5, 6, 7]).map(|(number, at)| event_received(number, NOW + at)).collect();
    relay.seal_each(&[source[..2].to_vec(), source[2..4].to_vec()]);
    relay.append(&source[4..]);
    damage(&mut relay, 0, |_| None);
    let reading = relay.read(&connect(Dialect::Ndjson, Start::Time(NOW + 20)));
    let mut expected = vec![open_line(Dialect::Ndjson, 0, 0, 5), lost_line(0, 2, 0)];
    expected
        .extend((1..).zip(3..=5).map(|(n, seq)| webhook_line(seq, n, &source[seq as usize - 1])));
    assert_eq!(reading.lines, expected);
    assert_eq!(lines_after(&source, 2), expected[2..]);
}

#[test]
fn a_gap_that_comes_up_on_the_way_is_told() {
    let mut relay = tiers();
    let offer = relay.history(1, &reader(0));
    let mut replay = relay_durable::Replay::new(reader(0), offer.clone());
    replay.write(usize::MAX, &mut String::new());
    replay.fetched(&offer.segments[0], Fetched::Missing);
    // Retention has passed meanwhile, and the stream was rebuilt.
    let epoch = Epoch::new(NOW, SALT + 9);
    let at = |seq| Cursor { epoch, seq: Seq::new(seq) };
    let gap = relay_schemas::Gap {
        requested: cursor(0).to_string(),
        resumed_from: at(4),
        oldest: at(4),
        reason: relay_schemas::GapReason::EpochChanged,
    };
    replay.offered(HistoryOffer {
        after: at(4),
        oldest: at(4),
        sealed: at(8),
        tail: at(12),
        gap: Some(gap.clone()),
        segments: offer.segments[2..].to_vec(),
        ..offer.clone()
    });
    let mut out = String::new();
    assert_eq!(replay.write(usize::MAX, &mut out), 0);
    assert_eq!(out, format!("{}\n", gap.to_line()));
    assert_eq!((replay.position().cursor, replay.position().tail), (at(4), at(12)));
    let relay_durable::ReplayStep::Fetch(object) = replay.next_step() else { panic!("{out}") };
    assert_eq!(object.key, offer.segments[2].key(&crate::support::stream_key(), epoch));
}
