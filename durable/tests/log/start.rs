//! Goal: every way to say where to start finds the right position, and a position that can't be
//! followed is named, never bent.
//! Method: tables of starts over a log of five events of which two are trimmed.

use relay_durable::{Log, Resolved, test_storage::MemoryStorage};
use relay_schemas::{Cursor, Epoch, GapReason, Seq, Start, limits::DEDUPLICATION_WINDOW_MS};

use crate::support::{NOW, SALT, cursor, event_of, fill, id, load, new_log, row_of, rows};

/// Events 3 to 5 are kept; 3 and 4 share a row.
fn log() -> (MemoryStorage, Log<MemoryStorage>) {
    let (storage, mut log) = new_log();
    log.append(&row_of(1..=2), NOW).unwrap();
    log.append(&row_of(3..=4), NOW + 1).unwrap();
    log.append(&row_of(5..=5), NOW + 2).unwrap();
    log.trim_until(NOW).unwrap();
    (storage, log)
}

fn check(start: Start, after: u64, fault: Option<(GapReason, &str)>) {
    let (storage, log) = log();
    let fault = fault.map(|(reason, requested)| (reason, requested.to_owned()));
    let expected = Resolved { after: Seq::new(after), received_since: None, fault };
    assert_eq!(log.resolve(&start), Ok(expected.clone()), "{start:?}");
    let long_after = load(&storage, NOW + DEDUPLICATION_WINDOW_MS * 2);
    assert_eq!(long_after.resolve(&start), Ok(expected), "{start:?} after a reload");
}

#[test]
fn keywords_and_counts() {
    check(Start::Earliest, 2, None);
    check(Start::Now, 5, None);
    for (count, after) in [(0, 5), (1, 4), (3, 2), (4, 2), (u64::MAX, 2)] {
        check(Start::Tail(count), after, None);
    }
    for (at, after) in [(NOW - 9, 2), (NOW, 2), (NOW + 1, 5)] {
        check(Start::Time(at), after, None);
    }
}

#[test]
fn event_ids() {
    for number in 3..=5 {
        check(Start::Event(id(number)), number, None);
    }
    for unknown in [2, 9] {
        let text = id(unknown).to_string();
        check(Start::Event(id(unknown)), 2, Some((GapReason::Invalid, &text)));
    }
}

#[test]
fn cursors_that_can_be_followed() {
    for seq in 2..=5 {
        check(Start::Cursor(cursor(seq).to_string()), seq, None);
    }
}

#[test]
fn cursors_that_cannot() {
    let other = |salt| Cursor { epoch: Epoch::new(NOW, salt), seq: Seq::new(4) }.to_string();
    let upper_case = cursor(4).to_string().to_uppercase();
    for (text, reason) in [
        (cursor(0).to_string(), GapReason::Trimmed),
        (cursor(1).to_string(), GapReason::Trimmed),
        (cursor(6).to_string(), GapReason::Future),
        (cursor(Seq::MAX.get()).to_string(), GapReason::Future),
        (other(SALT - 1), GapReason::EpochChanged),
        (other(SALT + 1), GapReason::EpochChanged),
        (String::new(), GapReason::Invalid),
        ("nonsense \n\"".into(), GapReason::Invalid),
        (upper_case, GapReason::Invalid),
        (format!("{}0", cursor(4)), GapReason::Invalid),
        (format!(" {}", cursor(4)), GapReason::Invalid),
        (cursor(4).to_string()[1..].into(), GapReason::Invalid),
    ] {
        check(Start::Cursor(text.clone()), 2, Some((reason, &text)));
    }
    let shown = "é".repeat(92);
    let long = Start::Cursor("é".repeat(5_000));
    check(long, 2, Some((GapReason::Invalid, &shown)));
}

#[test]
fn a_time_starts_at_the_first_event_received_since() {
    // Receipts out of order, within a row and between rows.
    let received = [[10, 30, 20], [15, 25, 12], [40, 5, 40]];
    let (storage, mut log) = new_log();
    for (row, times) in received.iter().enumerate() {
        let batch: Vec<_> = (row as u64 * 3 + 1..)
            .zip(times)
            .map(|(number, at)| {
                let mut event = event_of(number, "Issue.update", NOW + *at, r#"{"fill":""}"#);
                fill(&mut event, 20_000);
                event
            })
            .collect();
        log.append(&batch, NOW + 50).unwrap();
    }
    assert_eq!(rows(&storage).len(), received.len());
    let flat: Vec<u64> = received.concat();
    for at in 0..45 {
        let expected = flat.iter().position(|received| *received >= at).unwrap_or(flat.len());
        for log in [&log, &load(&storage, NOW + 50)] {
            let found = log.resolve(&Start::Time(NOW + at)).unwrap();
            let after = Seq::new(expected as u64);
            let expected = Resolved { after, received_since: None, fault: None };
            assert_eq!(found, expected, "{at}");
        }
    }
}

#[test]
fn an_empty_log_has_one_position() {
    let (_, log) = new_log();
    for start in [Start::Earliest, Start::Now, Start::Tail(5), Start::Time(NOW)] {
        let expected = Resolved { after: Seq::ZERO, received_since: None, fault: None };
        assert_eq!(log.resolve(&start), Ok(expected));
    }
    let future = log.resolve(&Start::Cursor(cursor(1).to_string())).unwrap();
    assert_eq!(future.fault.map(|fault| fault.0), Some(GapReason::Future));
}
