//! Goal: what the documentation promises is what the code does.
//!
//! Method: the tables of `docs/wire.md` are compared with the code, row by row and in both
//! directions; the tests that `docs/architecture.md` names are looked up.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use relay_schemas::{ByeCode, ErrorCode, limits};

/// First column, without its backticks, to second and third column.
type Table = BTreeMap<String, (String, String)>;

fn file(path: &str) -> String {
    // What cargo says now: a target directory can be shared between checkouts.
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    fs::read_to_string(manifest.join("..").join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one table of a section. A row whose first column is no code is its head.
fn table(heading: &str) -> Table {
    let text = file("docs/wire.md");
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "docs/wire.md has no section {heading}");
    let rows = lines.take_while(|line| !line.starts_with("## ")).filter_map(|line| {
        let mut columns = line.strip_prefix("| `")?.split(" | ");
        let name = columns.next()?.strip_suffix('`')?.to_owned();
        Some((name, (columns.next()?.to_owned(), columns.next()?.to_owned())))
    });
    let mut table = Table::new();
    for (name, columns) in rows {
        assert!(table.insert(name.clone(), columns).is_none(), "{name} stands twice");
    }
    table
}

fn row(name: &str, second: impl ToString, third: impl ToString) -> (String, (String, String)) {
    (name.to_owned(), (second.to_string(), third.to_string()))
}

fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[test]
fn every_error_code_is_described_and_no_other() {
    let codes: Table = ErrorCode::ALL
        .iter()
        .map(|code| row(code.as_str(), code.status(), yes_or_no(code.is_retryable())))
        .collect();
    assert_eq!(table("## Error codes"), codes);
}

#[test]
fn every_bye_code_is_described_and_no_other() {
    let codes: Table = ByeCode::ALL
        .iter()
        .map(|code| row(code.as_str(), code.close_code(), yes_or_no(code.is_retryable())))
        .collect();
    assert_eq!(table("## How a connection ends"), codes);
}

#[test]
fn the_limits_are_those_of_the_code() {
    let of_usize = |value: usize| u64::try_from(value).unwrap();
    let of_i64 = |value: i64| u64::try_from(value).unwrap();
    let (heartbeat_s, heartbeat_s_min, heartbeat_s_max) = limits::HEARTBEAT_S;
    let (stream_age_ms_min, stream_age_ms_max) = limits::STREAM_AGE_MS;
    let (page_events, page_events_max) = limits::PAGE_EVENTS;
    let (credential_days, credential_days_max) = limits::CREDENTIAL_DAYS;
    let values = [
        ("webhook body", of_usize(limits::BODY_BYTES_MAX), "bytes"),
        ("webhook body nesting", of_usize(limits::BODY_DEPTH_MAX), "levels"),
        ("webhook from the future", limits::TIMESTAMP_WINDOW_MS / 1000, "s"),
        ("webhook age, default", limits::RETRY_AGE_DEFAULT_S, "s"),
        ("duplicate recognised for", limits::DEDUPLICATION_WINDOW_MS / 1000, "s"),
        ("duplicate recognised among", of_usize(limits::DEDUPLICATION_IDS_MAX), "events"),
        ("identifier", of_usize(limits::IDENTIFIER_LENGTH_MAX), "characters"),
        ("other request body", of_usize(limits::REQUEST_BYTES_MAX), "bytes"),
        ("request id", of_usize(limits::REQUEST_ID_LENGTH_MAX), "characters"),
        ("heartbeat, default", heartbeat_s.into(), "s"),
        ("heartbeat, least", heartbeat_s_min.into(), "s"),
        ("heartbeat, greatest", heartbeat_s_max.into(), "s"),
        ("HTTP stream's age, least", stream_age_ms_min / 60_000, "min"),
        ("HTTP stream's age, greatest", stream_age_ms_max / 60_000, "min"),
        ("credit, first", of_i64(limits::CREDIT_BYTES), "bytes"),
        ("credit, greatest", of_i64(limits::CREDIT_BYTES_MAX), "bytes"),
        ("slow: without credit for", limits::SLOW_STALL_MS / 1000, "s"),
        ("slow: and behind by", limits::SLOW_LAG_EVENTS, "events"),
        ("connections of a stream", of_usize(limits::CONNECTIONS_PER_STREAM_MAX), "connections"),
        ("connections of an edge", of_usize(limits::CONNECTIONS_PER_EDGE_MAX), "connections"),
        ("events given and not reported on", of_usize(limits::ASSIGNMENT_WINDOW), "events"),
        ("capacity", of_usize(limits::CAPACITY_MAX), "events"),
        ("waiting for absent machines", of_usize(limits::ASSIGNMENT_ABSENT_MAX), "events"),
        ("times that an event is given", limits::ASSIGNMENT_ATTEMPTS_MAX.into(), "times"),
        ("requests of a credential", limits::CREDENTIAL_REQUESTS_MAX.into(), "a minute"),
        ("requests of an address", limits::ADDRESS_REQUESTS_MAX.into(), "a minute"),
        ("page, default", of_usize(page_events), "events"),
        ("page, greatest", of_usize(page_events_max), "events"),
        ("page's size", of_usize(limits::PAGE_BYTES_MAX), "bytes"),
        ("kinds in a filter", of_usize(limits::KIND_PATTERNS_MAX), "patterns"),
        ("kind in a filter", of_usize(limits::KIND_PATTERN_LENGTH_MAX), "characters"),
        ("report's text", of_usize(limits::REPORT_TEXT_BYTES_MAX), "bytes"),
        ("activity's text", of_usize(limits::ACTIVITY_BODY_BYTES_MAX), "bytes"),
        ("activity's short text", of_usize(limits::ACTIVITY_FIELD_BYTES_MAX), "bytes"),
        ("choices of a question", of_usize(limits::ACTIVITY_OPTIONS_MAX), "choices"),
        ("steps of a plan", of_usize(limits::PLAN_STEPS_MAX), "steps"),
        ("links of a session", of_usize(limits::SESSION_URLS_MAX), "links"),
        ("calls that wait for Linear", of_usize(limits::OUTBOX_CALLS_MAX), "calls"),
        ("credential's life, default", credential_days.into(), "days"),
        ("credential's life, greatest", credential_days_max.into(), "days"),
        ("edges of an organization", of_usize(limits::EDGES_PER_ORGANIZATION_MAX), "edges"),
        ("machines of a person", of_usize(limits::MACHINES_PER_PERSON_MAX), "machines"),
        ("channels of an edge", of_usize(limits::CHANNELS_PER_EDGE_MAX), "channels"),
        ("edge's name", of_usize(limits::EDGE_NAME_LENGTH_MAX), "bytes"),
    ];
    let limits: Table =
        values.into_iter().map(|(name, value, unit)| row(name, grouped(value), unit)).collect();
    assert_eq!(table("## Limits"), limits);
}

/// `5,242,880`
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_queue_offers_a_message_as_often_as_the_consumer_counts() {
    let retries = limits::DELIVERY_ATTEMPTS_MAX - 1;
    let text = file("wrangler.toml");
    let consumers: Vec<&str> = text.split("queues.consumers]]").skip(1).collect();
    let of_events: Vec<&&str> =
        consumers.iter().filter(|consumer| consumer.contains("dead_letter_queue = ")).collect();
    assert_eq!(of_events.len(), 3, "local, develop and production");
    for consumer in of_events {
        let wanted = format!("max_retries = {retries}");
        assert!(consumer.lines().any(|line| line == wanted), "{wanted}:{consumer}");
    }
}

#[test]
fn the_limiters_count_as_far_as_the_limits_say() {
    let text = file("wrangler.toml");
    let period = limits::RATE_LIMIT_PERIOD_S;
    for (name, limit) in [
        ("CREDENTIAL_LIMIT", limits::CREDENTIAL_REQUESTS_MAX),
        ("ADDRESS_LIMIT", limits::ADDRESS_REQUESTS_MAX),
    ] {
        let limiters: Vec<&str> = text
            .split("ratelimits]]")
            .filter(|limiter| limiter.contains(&format!("name = \"{name}\"")))
            .collect();
        assert_eq!(limiters.len(), 3, "local, develop and production");
        let wanted = format!("simple = {{ limit = {limit}, period = {period} }}");
        assert!(limiters.iter().all(|limiter| limiter.contains(&wanted)), "{name}: {wanted}");
    }
    assert_eq!(period, 60, "the documentation says 'a minute'");
}

#[test]
fn the_tests_that_show_the_invariants_exist() {
    check_tests_named_under("## What must always hold", 10);
}

#[test]
fn every_bug_of_the_earlier_system_has_its_tests() {
    check_tests_named_under("## What the earlier system got wrong", 9);
}

/// In a row of the table, a name with `.rs` says in which file the names after it are. Each must be
/// that of a test, not only of a function.
fn check_tests_named_under(heading: &str, rows_expected: usize) {
    let text = file("docs/architecture.md");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows: Vec<&str> = lines
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .collect();
    assert_eq!(rows.len(), rows_expected, "{heading}");
    for row in rows {
        let shown_by = row.rsplit(" | ").next().unwrap();
        let (mut path, mut source, mut found) = ("", String::new(), 0);
        for name in shown_by.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                (path, source) = (name, file(name));
            } else {
                assert!(is_test(&source, name), "{path} has no test {name}");
                found += 1;
            }
        }
        assert!(found > 0, "no test: {row}");
    }
}

/// Whether an attribute above a function makes it a test.
fn is_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    let Some((above, _)) = before.rsplit_once('\n') else { return false };
    let mut attributes = above.lines().rev().map(str::trim).take_while(|line| !line.is_empty());
    attributes.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
}
