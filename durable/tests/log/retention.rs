//! Goal: what is older than the retention goes, nothing else does, and positions go on.
//! Method: trim at the edges of rows, and reload after each.

use relay_schemas::{Seq, Start};

use crate::support::{NOW, contents, event, events, id, load, new_log};

fn positions(log: &relay_durable::Log<relay_durable::test_storage::MemoryStorage>) -> Vec<u64> {
    contents(log).into_iter().map(|(seq, _)| seq).collect()
}

#[test]
fn rows_go_whole_when_their_time_has_come() {
    let (storage, mut log) = new_log();
    log.append(&events(1..=2), NOW).unwrap();
    log.append(&events(3..=5), NOW + 10).unwrap();
    log.append(&events(6..=6), NOW + 20).unwrap();
    for (at, any, floor) in
        [(NOW - 1, false, 0), (NOW, true, 2), (NOW + 9, false, 2), (NOW + 19, true, 5)]
    {
        assert_eq!(log.trim_until(at), Ok(any));
        for log in [&log, &load(&storage, NOW + 20)] {
            assert_eq!(log.trimmed(), Seq::new(floor), "{at}");
            assert_eq!(positions(log), (floor + 1..=6).collect::<Vec<_>>(), "{at}");
        }
    }
}

#[test]
fn positions_go_on_after_everything_was_trimmed() {
    for reloads in [false, true] {
        let (storage, mut log) = new_log();
        log.append(&events(1..=3), NOW).unwrap();
        assert_eq!(log.trim_until(NOW), Ok(true));
        if reloads {
            log = load(&storage, NOW + 1);
        }
        assert_eq!((log.trimmed(), log.tail()), (Seq::new(3), Seq::new(3)));
        assert_eq!(positions(&log), [0; 0]);
        log.append(&events(4..=4), NOW + 1).unwrap();
        assert_eq!(contents(&log), [(4, event(4).record)]);
        assert_eq!(contents(&load(&storage, NOW + 1)), [(4, event(4).record)]);
    }
}

#[test]
fn a_trimmed_event_is_no_longer_known() {
    let (storage, mut log) = new_log();
    log.append(&events(1..=1), NOW).unwrap();
    log.append(&events(2..=2), NOW + 1).unwrap();
    log.trim_until(NOW).unwrap();
    for log in [&log, &load(&storage, NOW + 1)] {
        assert_eq!(log.position_of(id(1)), Ok(None));
        assert_eq!(log.position_of(id(2)), Ok(Some(Seq::new(2))));
        assert_eq!(log.resolve(&Start::Earliest).unwrap().after, Seq::new(1));
    }
}
