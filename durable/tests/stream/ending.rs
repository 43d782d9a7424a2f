//! Goal: expired, revoked and unintelligible readers are ended with a reason, and only they.
//! Method: several readers at once; the clock just before and at the end.

use relay_durable::StreamSettings;
use relay_schemas::{
    ByeCode, Connect, Dialect, ErrorCode, OnGap, Order, PageCommand, PageQuery, Report,
    ReportStatus, Start, limits::SEAL_AGE_DEFAULT_S,
};

use crate::support::{
    DAY_MS, NOW, RETENTION_MS, Relay, bye_line, check, connect, edge, event_alone, event_of_size,
    events, id, page_command, refused, remember, sent_and_closed, sent_and_kept, webhook_lines,
};

fn expiring(dialect: Dialect) -> Connect {
    Connect { expires_at: NOW + 10, ..connect(dialect, Start::Now) }
}

#[test]
fn an_expired_reader_gets_no_event() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            relay.connect(1, &expiring(dialect));
            relay.connect(2, &connect(dialect, Start::Now));
            relay.now = NOW + 9;
            assert_eq!(relay.append(&events(1..=1)).last(), Some(&remember(2)));
            relay.now = NOW + 10;
            let mut expected = sent_and_kept(dialect, 2, &webhook_lines(2..=2, 2), (2, 2, 2));
            let bye = bye_line("expired", 0, 1);
            expected.extend(sent_and_closed(dialect, 1, bye, (1, 2, 1), ByeCode::Expired));
            assert_eq!(relay.append(&events(2..=2)), expected);
            assert_eq!(relay.stream.connections().len(), 1);
        });
    }
}

#[test]
fn expiry_is_also_seen_by_the_alarm_and_by_a_message() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            relay.connect(1, &expiring(dialect));
            relay.connect(2, &expiring(dialect));
            relay.connect(3, &connect(dialect, Start::Now));
            relay.now = NOW + 9;
            assert_eq!(relay.alarm(), []);
            assert_eq!(relay.grant(2, 1), [remember(2)]);
            relay.now = NOW + 10;
            let ended = |id| {
                let bye = bye_line("expired", 0, 0);
                sent_and_closed(dialect, id, bye, (0, 0, 0), ByeCode::Expired)
            };
            assert_eq!(relay.grant(2, 1), ended(2));
            assert_eq!(relay.alarm(), ended(1));
            assert_eq!(relay.alarm(), []);
        });
    }
}

#[test]
fn revocation_ends_the_readers_of_one_edge_and_bars_it() {
    check(|mut relay| {
        relay.append(&events(1..=1));
        let other = Connect { edge: edge("edge_2"), ..connect(Dialect::Ndjson, Start::Now) };
        relay.connect(1, &connect(Dialect::Ndjson, Start::Now));
        relay.connect(2, &other);
        relay.connect(3, &connect(Dialect::WebSocket, Start::Now));
        let mut expected = Vec::new();
        for (id, dialect) in [(1, Dialect::Ndjson), (3, Dialect::WebSocket)] {
            let bye = bye_line("revoked", 0, 1);
            expected.extend(sent_and_closed(dialect, id, bye, (1, 1, 0), ByeCode::Revoked));
        }
        assert_eq!(relay.revoke(&edge("edge_1")), expected);
        assert_eq!(relay.revoke(&edge("edge_1")), []);
        assert_eq!(relay.append(&events(2..=2)).last(), Some(&remember(2)));
        for barred in [true, false] {
            check_barred(&mut relay, if barred { "edge_1" } else { "edge_2" }, barred);
        }
    });
}

fn check_barred(relay: &mut Relay, name: &str, barred: bool) {
    let edge = edge(name);
    let query = PageQuery {
        start: Start::Earliest,
        kinds: Default::default(),
        limit: 1,
        order: Order::Asc,
        body: Default::default(),
        on_gap: OnGap::Resume,
        channel: None,
        own: false,
        app: None,
    };
    let page = PageCommand { edge: edge.clone(), ..page_command(&query) };
    let report = Report::new(id(1), ReportStatus::Completed);
    let connect = Connect { edge: edge.clone(), ..connect(Dialect::Ndjson, Start::Now) };
    let outcomes = [
        relay.try_connect(9, &connect).map(|_| ()),
        relay.stream.page(&page).map(|_| ()),
        relay.stream.history(&page.stream, &edge, &Start::Now, OnGap::Resume).map(|_| ()),
        relay.stream.event(&edge, id(1), &Default::default()).map(|_| ()),
        relay.stream.report(&edge, report, NOW).map(|_| ()),
    ];
    for outcome in outcomes {
        if barred {
            assert_eq!(refused(outcome).code, ErrorCode::CredentialRevoked);
        } else {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }
}

#[test]
fn what_is_not_a_message_ends_the_reader() {
    for text in [
        "",
        "ping",
        "binary",
        "{",
        "{}",
        "[]",
        "null",
        r#"{"type":"credit"}"#,
        r#"{"type":"credit","bytes":0}"#,
        r#"{"type":"credit","bytes":-1}"#,
        r#"{"type":"credit","bytes":1.5}"#,
        r#"{"type":"credit","bytes":"1"}"#,
        r#"{"type":"credit","bytes":9223372036854775808}"#,
    ] {
        check(|mut relay| {
            relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
            relay.connect(2, &connect(Dialect::WebSocket, Start::Now));
            let bye = bye_line("protocol", 0, 0);
            let expected =
                sent_and_closed(Dialect::WebSocket, 1, bye, (0, 0, 0), ByeCode::Protocol);
            assert_eq!(relay.message(1, text), expected, "{text}");
            assert_eq!(relay.stream.connections().len(), 1);
        });
    }
}

#[test]
fn messages_of_newer_clients_are_ignored() {
    check(|mut relay| {
        relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
        assert_eq!(relay.message(1, r#"{"type":"later","bytes":"x"}"#), []);
        assert_eq!(relay.stream.connections().len(), 1);
    });
}

#[test]
fn the_alarm_is_for_sealing_retention_and_direct_readers() {
    check(|mut relay| {
        let alarm = |relay: &Relay| relay.stream.next_alarm();
        assert_eq!(alarm(&relay), None);
        relay.connect(1, &expiring(Dialect::Ndjson));
        assert_eq!(alarm(&relay), None, "the Worker ends readers over HTTP");
        relay.connect(2, &connect(Dialect::WebSocket, Start::Now));
        assert_eq!(alarm(&relay), Some(NOW + 90 * DAY_MS));
        relay.connect(3, &expiring(Dialect::WebSocket));
        assert_eq!(alarm(&relay), Some(NOW + 10));
        relay.now = NOW + 10;
        relay.alarm();
        assert_eq!(alarm(&relay), Some(NOW + 90 * DAY_MS));
        relay.append(&[event_of_size(1, 300_000)]);
        assert_eq!(alarm(&relay), Some(relay.now + SEAL_AGE_DEFAULT_S * 1000));
        let appended_at = relay.now;
        relay.now = appended_at + SEAL_AGE_DEFAULT_S * 1000;
        assert_eq!(relay.seal().len(), 1);
        relay.now = appended_at;
        let due = alarm(&relay).unwrap();
        let earliest = relay.now + RETENTION_MS;
        assert!(due >= earliest && due < earliest + DAY_MS, "{due} {earliest}");
        relay.now = due;
        relay.alarm();
        assert_eq!(relay.stream.log().trimmed().get(), 1, "it came when the segment could go");
        assert_eq!(alarm(&relay), Some(NOW + 90 * DAY_MS));
    });
}

#[test]
fn rows_of_one_day_share_a_sweep() {
    let mut relay = Relay::with_settings(StreamSettings {
        seal_age_ms: RETENTION_MS * 2,
        ..StreamSettings::default()
    });
    relay.now = relay_schemas::UnixMillis::new(NOW.get() / DAY_MS * DAY_MS + 1);
    let first = relay.now;
    relay.append(&[event_alone(1)]);
    relay.now = first + (DAY_MS - 2);
    relay.append(&[event_alone(2)]);
    let due = relay.stream.next_alarm().unwrap();
    relay.now = due;
    relay.alarm();
    assert_eq!((relay.stream.log().trimmed().get(), due), (2, first + (RETENTION_MS + DAY_MS - 1)));
    assert_eq!(relay.stream.next_alarm(), None);
}
