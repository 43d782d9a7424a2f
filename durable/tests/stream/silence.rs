//! Goal: a direct reader whose pings have stopped is ended; one that never pings is not judged.
//! Method: the platform's note of the last ping is a table.

use relay_schemas::{ByeCode, Connect, Dialect, Start};

use crate::support::{NOW, bye_line, check, connect, events, sent_and_closed};

#[test]
fn silence_is_judged_after_two_and_a_half_heartbeats() {
    check(|mut relay| {
        for (id, dialect) in (1..).zip(Dialect::ALL) {
            relay.connect(id, &connect(dialect, Start::Now));
        }
        let pinged = [(1, NOW), (2, NOW), (3, NOW)];
        relay.now = NOW + 37_500;
        assert_eq!(relay.end_silent(&pinged), []);
        relay.now = NOW + 37_501;
        assert_eq!(relay.end_silent(&[]), [], "never pinged");
        assert_eq!(relay.end_silent(&pinged[..2]), [], "the Worker looks after HTTP readers");
        let bye = bye_line("reconnect", 0, 0);
        let expected = sent_and_closed(Dialect::WebSocket, 3, bye, (0, 0, 0), ByeCode::Reconnect);
        assert_eq!(relay.end_silent(&pinged), expected);
        assert_eq!(relay.end_silent(&pinged), []);
    });
}

#[test]
fn the_readers_own_heartbeat_counts() {
    check(|mut relay| {
        let patient = Connect { heartbeat_s: 60, ..connect(Dialect::WebSocket, Start::Now) };
        relay.connect(1, &patient);
        relay.now = NOW + 150_000;
        assert_eq!(relay.end_silent(&[(1, NOW)]), []);
        relay.now = NOW + 150_001;
        assert_eq!(relay.end_silent(&[(1, NOW)]).len(), 2);
    });
}

#[test]
fn losses_are_counted_once() {
    let mut relay = crate::support::Relay::new();
    relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
    relay.now = NOW + 60_000;
    relay.end_silent(&[(1, NOW)]);
    assert_eq!(relay.try_append(&events(1..=1)).unwrap().0.heartbeat_losses, 1);
    assert_eq!(relay.try_append(&events(2..=2)).unwrap().0.heartbeat_losses, 0);
}
