//! Goal: nobody is sent what its scopes don't allow, or what it did not ask for, in any tier.

use relay_durable::{EventAnswer, Fetched, PageFill, PageStep, Replay, ReplayStep, sealed_event};
use relay_schemas::{
    Connect, Cursor, Dialect, ErrorCode, KindFilter, NewEvent, OnGap, Order, PageCommand,
    PageQuery, Record, RecordParts, Start, Subject,
};

use crate::{
    check_round_robin, given, of_edge,
    support::{
        NOW, Relay, check, connect, edge, event, event_of_kind, id, kinds, page_command, refused,
    },
    who,
};

fn made_by(number: u64, own: bool, app: Option<&'static str>) -> NewEvent {
    let subject = Subject { app: app.map(Into::into), ..Subject::default() };
    let record = Record::new(&RecordParts {
        id: id(number),
        received_at: NOW,
        kind: "AgentSessionEvent.created",
        organization: &"org-1".parse().unwrap(),
        channel: &"user:u-1".parse().unwrap(),
        delivery: None,
        headers: &[],
        subject,
        own,
        body: r#"{"own":true}"#,
    });
    let kind = "AgentSessionEvent.created".to_owned();
    NewEvent { id: id(number), kind, received_at: NOW, signal: None, record: record.into_string() }
}

/// An issue, an event of the app's own, two of two apps, a comment.
fn all() -> Vec<NewEvent> {
    vec![
        event_of_kind(1, "Issue.update"),
        made_by(2, true, Some("a")),
        made_by(3, false, Some("a")),
        made_by(4, false, Some("b")),
        event_of_kind(5, "Comment.create"),
    ]
}

struct Case {
    kinds: KindFilter,
    allowed: KindFilter,
    own: bool,
    app: Option<String>,
    expected: &'static [u64],
}

fn cases() -> Vec<Case> {
    let case = |kinds_: &str, allowed: &str, own, app: &str, expected| Case {
        kinds: if kinds_.is_empty() { KindFilter::default() } else { kinds(kinds_) },
        allowed: if allowed.is_empty() { KindFilter::default() } else { kinds(allowed) },
        own,
        app: (!app.is_empty()).then(|| app.to_owned()),
        expected,
    };
    vec![
        case("", "", false, "", &[1, 3, 4, 5]),
        case("", "", true, "", &[1, 2, 3, 4, 5]),
        case("", "", false, "a", &[3]),
        case("", "", true, "a", &[2, 3]),
        case("", "AgentSessionEvent", false, "", &[3, 4]),
        case("Comment", "AgentSessionEvent", false, "", &[]),
        case("Comment,Issue", "Issue", true, "", &[1]),
        case("", "Issue,Comment", false, "b", &[]),
    ]
}

fn reader(case: &Case) -> Connect {
    Connect {
        kinds: case.kinds.clone(),
        allowed: case.allowed.clone(),
        own: case.own,
        app: case.app.clone(),
        ..connect(Dialect::WebSocket, Start::Earliest)
    }
}

fn numbers(sent: &[crate::Given]) -> Vec<u64> {
    sent.iter().map(|one| one.number).collect()
}

#[test]
fn live_and_replayed_from_the_hot_tail() {
    for case in cases() {
        check(|mut relay| {
            relay.connect(1, &reader(&case));
            assert_eq!(numbers(&given(&relay.append(&all()))), case.expected);
            let replayed = given(&relay.connect(2, &reader(&case)));
            assert_eq!(numbers(&replayed), case.expected);
            assert!(replayed.iter().map(|one| one.n).eq(1..=case.expected.len() as u64));
        });
    }
}

#[test]
fn replayed_from_history() {
    for case in cases() {
        let mut relay = Relay::sealing_at_once();
        relay.seal_each(&[all()]);
        let connect = reader(&case);
        let offer = relay.history(1, &connect);
        let mut replay = Replay::new(connect, offer);
        let mut text = String::new();
        loop {
            match replay.next_step() {
                ReplayStep::Write => drop(replay.write(usize::MAX, &mut text)),
                ReplayStep::Fetch(object) => {
                    let bytes = relay.bucket[&object.key].clone();
                    replay.fetched(&object.entry, Fetched::Bytes(bytes));
                }
                ReplayStep::List { .. } => replay.listed(Vec::new()),
                ReplayStep::Ask => break,
            }
        }
        let sent = crate::given(
            &text.lines().map(|line| crate::support::send(1, line)).collect::<Vec<_>>(),
        );
        assert_eq!(numbers(&sent), case.expected);
        assert_eq!(replay.position().cursor.seq.get(), 5);
    }
}

fn page_of(case: &Case, order: Order, is_sealed: bool) -> Vec<u64> {
    let mut relay = if is_sealed { Relay::sealing_at_once() } else { Relay::new() };
    relay.append(&all());
    if is_sealed {
        relay.seal();
    }
    let query = PageQuery {
        start: if order == Order::Asc { Start::Earliest } else { Start::Now },
        kinds: case.kinds.clone(),
        limit: 100,
        order,
        body: Default::default(),
        on_gap: OnGap::Resume,
        channel: None,
        own: case.own,
        app: case.app.clone(),
    };
    let command = PageCommand { allowed: case.allowed.clone(), ..page_command(&query) };
    let mut fill = PageFill::new(command);
    loop {
        match fill.next_step() {
            PageStep::Ask(command) => fill.answered(relay.stream.page(&command).unwrap()),
            PageStep::Fetch(object) => {
                let bytes = relay.bucket[&object.key].clone();
                fill.fetched(&object.entry, Fetched::Bytes(bytes));
            }
            PageStep::Done => break,
        }
    }
    let events = fill.into_page().unwrap().events;
    let lines: Vec<_> = events.iter().map(|one| crate::support::send(1, one.get())).collect();
    numbers(&given(&lines))
}

#[test]
fn in_pages_of_the_hot_tail_and_of_history() {
    for case in cases() {
        let downwards: Vec<u64> = case.expected.iter().rev().copied().collect();
        for is_sealed in [false, true] {
            assert_eq!(page_of(&case, Order::Asc, is_sealed), case.expected, "{is_sealed}");
            assert_eq!(page_of(&case, Order::Desc, is_sealed), downwards, "{is_sealed}");
        }
    }
}

#[test]
fn a_single_event_that_may_not_be_read_is_unknown() {
    let mut relay = Relay::sealing_at_once();
    relay.append(&all());
    let (allowed, other) = (kinds("Issue"), kinds("Comment"));
    let edge = edge("edge_1");
    assert!(matches!(relay.stream.event(&edge, id(1), &allowed), Ok(EventAnswer::Hot(_))));
    let problem = refused(relay.stream.event(&edge, id(1), &other));
    assert_eq!(problem.code, ErrorCode::EventUnknown);
    relay.seal();
    let Ok(EventAnswer::Sealed { cursor, segment, .. }) = relay.stream.event(&edge, id(1), &other)
    else {
        panic!("sealed")
    };
    let bytes = || relay.bucket[&relay.key(&segment)].clone();
    let read = |filter| {
        let cursor: Cursor = cursor;
        sealed_event(bytes(), &segment, cursor, vec![], filter).unwrap().is_some()
    };
    assert!(read(&allowed) && !read(&other));
}

#[test]
fn events_are_given_only_to_those_who_may_read_them() {
    check_round_robin(|mut relay| {
        relay.connect(1, &Connect { allowed: kinds("Issue"), ..of_edge("edge_1") });
        relay.connect(2, &Connect { kinds: kinds("Comment"), ..of_edge("edge_2") });
        let sent = who(&relay.append(&all()));
        assert_eq!(sent, [(1, 1, 1), (2, 5, 1)]);
        assert_eq!(relay.stream.assignment().until().get(), 5);
        assert_eq!(relay.stream.assignment().waiting(), [], "nobody wants the others");
        // What only an edge reads that has gone waits for it.
        relay.closed(2, true);
        assert_eq!(
            who(&relay.append(&[event_of_kind(6, "Comment.create"), event(7)])),
            [(1, 7, 1)]
        );
        let back =
            who(&relay.connect(3, &Connect { kinds: kinds("Comment"), ..of_edge("edge_2") }));
        assert_eq!(back, [(3, 5, 2), (3, 6, 1)]);
    });
}
