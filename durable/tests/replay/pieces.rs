//! Goal: how much is written at a time is bounded by what was asked for and one frame, the
//! position is exact after each piece, and a reader that the object sends back goes on there.
//! Method: every bound over the same segments; the position after each piece.

use relay_durable::{Fetched, Replay, ReplayStep};
use relay_schemas::{BridgeMessage, Connect, Position, Resume, Start};

use crate::{
    expected, reader,
    support::{Relay, cursor, events, kinds, open_line, webhook_line},
    tiers,
};

fn position(at: u64, tail: u64, n: u64) -> Position {
    Position { cursor: cursor(at), tail: cursor(tail), n }
}

fn fetch(relay: &Relay, replay: &mut Replay) {
    let ReplayStep::Fetch(object) = replay.next_step() else { panic!("nothing to fetch") };
    replay.fetched(&object.entry, Fetched::Bytes(relay.bucket[&object.key].clone()));
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let frame = webhook_line(1, 1, &crate::support::event(1)).len() + 1;
    for bytes_max in [1, frame - 1, frame, frame + 1, 2 * frame, 3 * frame, 1_000_000] {
        for after in 0..8 {
            let reading = tiers().read_in_pieces(&reader(after), bytes_max);
            assert_eq!(reading.lines, expected(after), "{bytes_max} {after}");
        }
    }
}

#[test]
fn a_piece_ends_with_the_frame_that_fills_it() {
    let mut relay = tiers();
    let offer = relay.history(1, &reader(0));
    let mut replay = Replay::new(reader(0), offer);
    let mut out = String::new();
    assert_eq!(replay.write(1, &mut out), 0, "control frames cost nothing");
    assert_eq!(out, format!("{}\n", expected(0)[0]));
    assert_eq!(replay.position(), position(0, 10, 0));
    fetch(&relay, &mut replay);
    assert_eq!(replay.position(), position(0, 10, 0));

    let lines = &expected(0)[1..];
    let frame = lines[0].len();
    out.clear();
    assert_eq!(replay.write(1, &mut out), frame as u64);
    assert_eq!(
        (out.as_str(), replay.position()),
        (&*format!("{}\n", lines[0]), position(1, 10, 1))
    );
    // What is there already counts.
    let before = out.len();
    assert_eq!(replay.write(before, &mut out), 0);
    assert_eq!((out.len(), replay.position()), (before, position(1, 10, 1)));
    assert_eq!(replay.write(before + 1, &mut out), frame as u64);
    assert_eq!(replay.position(), position(2, 10, 2));
    out.clear();
    assert_eq!(replay.write(usize::MAX, &mut out), frame as u64, "a piece ends with its segment");
    assert_eq!(replay.position(), position(3, 10, 3));
    fetch(&relay, &mut replay);
}

#[test]
fn the_position_moves_past_what_a_filter_holds_back() {
    let mut relay = tiers();
    let connect = Connect { kinds: kinds("Nothing"), ..reader(0) };
    let offer = relay.history(1, &connect);
    let mut replay = Replay::new(connect, offer);
    let mut out = String::new();
    replay.write(usize::MAX, &mut out);
    for (reached, _) in [(3, 1), (4, 4), (8, 5)] {
        fetch(&relay, &mut replay);
        assert_eq!(replay.write(1_000_000, &mut out), 0);
        assert_eq!(replay.position(), position(reached, 10, 0));
    }
    assert_eq!(out.lines().count(), 1, "only the opening");
    assert_eq!(replay.ask(7).start, Start::Cursor(cursor(8).to_string()));
}

#[test]
fn the_segment_ahead_can_be_fetched_meanwhile() {
    let mut relay = tiers();
    let offer = relay.history(1, &reader(1));
    let mut replay = Replay::new(reader(1), offer.clone());
    assert_eq!(replay.ahead(), None, "nothing is being read yet");
    replay.write(usize::MAX, &mut String::new());
    for (place, next) in [(0, Some(1)), (1, Some(2)), (2, None)] {
        fetch(&relay, &mut replay);
        let found = replay.ahead();
        assert_eq!(
            found.as_ref().map(|object| &object.entry),
            next.map(|n: usize| &offer.segments[n])
        );
        if let Some(object) = found {
            assert_eq!(object.key, relay.key(&object.entry));
        }
        assert_eq!(replay.next_step(), ReplayStep::Write, "{place}");
        replay.write(usize::MAX, &mut String::new());
    }
}

#[test]
fn a_reader_that_was_sent_back_goes_on_where_it_was() {
    let mut relay = tiers();
    let after = Connect { kinds: kinds("Issue"), ..reader(8) };
    let commands = relay.connect(1, &after);
    let relay_durable::Command::Send { text, .. } = &commands[0] else { panic!("{commands:?}") };
    let message = BridgeMessage::decode(text).unwrap();
    relay.stream.closed(1, false, relay.now).unwrap();
    relay.seal();
    relay.append(&events(11..=11));

    let mut replay = Replay::after(after.clone(), message.position);
    check_sent_back(&mut relay, &mut replay, 10, 2);
    let offer = relay.history(1, &reader(0));
    let mut replay = Replay::new(reader(0), offer);
    replay.write(usize::MAX, &mut String::new());
    replay.go_on_after(position(9, 11, 77));
    check_sent_back(&mut relay, &mut replay, 9, 77);
}

/// It asks the object, whose word is newer than the index, and reads on.
fn check_sent_back(relay: &mut Relay, replay: &mut Replay, at: u64, n: u64) {
    assert_eq!(replay.next_step(), ReplayStep::Ask);
    let ask = replay.ask(123);
    assert_eq!(ask.start, Start::Cursor(cursor(at).to_string()));
    assert_eq!(ask.resume, Some(Resume { n, credit_bytes: 123 }));
    if at == 10 {
        let connected = relay.connect(1, &ask);
        let relay_durable::Command::Send { text, .. } = &connected[0] else { panic!() };
        let message = BridgeMessage::decode(text).unwrap();
        assert_eq!(message.position, position(11, 11, n + 1));
        relay.stream.closed(1, false, relay.now).unwrap();
        return;
    }
    replay.offered(relay.history(1, &ask));
    fetch(relay, replay);
    let mut out = String::new();
    replay.write(usize::MAX, &mut out);
    let line = webhook_line(10, n + 1, &crate::support::event(10));
    assert_eq!(out, format!("{line}\n"));
    assert_eq!(replay.position(), position(10, 11, n + 1));
}

#[test]
fn a_reader_that_comes_back_is_not_opened_again() {
    let mut relay = tiers();
    let resume = Some(Resume { n: 5, credit_bytes: 1 });
    let connect = Connect { resume, ..reader(3) };
    let offer = relay.history(1, &connect);
    let mut replay = Replay::new(connect, offer);
    fetch(&relay, &mut replay);
    let mut out = String::new();
    replay.write(usize::MAX, &mut out);
    assert_eq!(out, format!("{}\n", webhook_line(4, 6, &crate::support::event(4))));
    assert!(!out.contains(&open_line(relay_schemas::Dialect::Ndjson, 3, 0, 10)));
}
