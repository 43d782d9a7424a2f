//! What operators see: how the installation does, and what was counted, each told once.

use relay_durable::News;
use relay_schemas::{
    AppState, InstallationTouch, ReportStatus, limits::GIVEN_UP_MS, linear_api::LinearAnswer,
};
use serde_json::json;

use crate::desk::{Desk, activity, created, report, stop};

fn news(desk: &mut Desk) -> News {
    desk.core.news(desk.now)
}

fn touch(news: &News) -> Option<&InstallationTouch> {
    news.delta.installations.get("org-1")
}

/// The counts, `name|label|value=count`, of all that was told.
#[track_caller]
fn check_counts(desk: &mut Desk, expected: &[&str]) {
    let counters = news(desk).delta.counters;
    let found: Vec<String> =
        counters.iter().map(|(series, count)| format!("{series}={count}")).collect();
    assert_eq!(found, expected);
    assert!(news(desk).delta.is_empty(), "counts are told once");
}

/// Linear's clock of the first activities, in ms.
fn first_activities(desk: &mut Desk) -> (u64, u64) {
    let told = news(desk).delta;
    let histogram = told.histograms.get("linear_first_activity_seconds").cloned();
    let histogram = histogram.unwrap_or_default();
    (histogram.counts.iter().sum(), histogram.sum_ms)
}

#[test]
fn its_state_is_told_when_it_changes_and_again_after_a_crash() {
    let mut desk = Desk::empty();
    assert!(news(&mut desk).delta.is_empty());
    desk.install();
    let told = news(&mut desk);
    let expected = InstallationTouch {
        apps: [("client-id".to_owned(), AppState::Ready)].into(),
        waiting: Some(0),
        given_up: 0,
        at: desk.now,
    };
    assert_eq!((touch(&told), told.is_urgent), (Some(&expected), true));
    assert!(news(&mut desk).delta.is_empty());
    desk.reload();
    assert_eq!(touch(&news(&mut desk)), Some(&expected));

    desk.announce(created(1, "s", &[]));
    let told = news(&mut desk);
    assert_eq!((touch(&told).unwrap().waiting, told.is_urgent), (Some(1), false));
    desk.drain();
    assert_eq!(touch(&news(&mut desk)).unwrap().waiting, Some(0));

    desk.wait(86_399_000);
    let refresh = desk.effect();
    desk.answer(&refresh, Some(&LinearAnswer::new(400, r#"{"error":"invalid_grant"}"#)));
    let told = news(&mut desk);
    assert_eq!(touch(&told).unwrap().apps["client-id"], AppState::NeedsSignIn);
    assert!(told.is_urgent && touch(&told).unwrap().needs_sign_in());
    assert_eq!(told.delta.counters["linear_refreshes_total|result|invalid_grant"], 1);
    desk.install();
    assert!(!touch(&news(&mut desk)).unwrap().needs_sign_in());

    desk.revoked("client-id");
    let told = news(&mut desk);
    assert_eq!(touch(&told).unwrap().apps["client-id"], AppState::Revoked);
    assert!(told.is_urgent && !touch(&told).unwrap().needs_sign_in());
}

#[test]
fn calls_are_counted_by_what_came_of_them() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(&report(1, ReportStatus::Completed, None));
    let call = desk.effect();
    desk.answer(&call, None);
    check_counts(&mut desk, &["linear_calls_total|result|retried=1"]);
    desk.wait(1_000);
    // It was made, and the answer lost: the second time Linear says so.
    let call = desk.effect();
    let exists = r#"{"errors":[{"message":"Entity with this id already exists","extensions":
        {"code":"INPUT_ERROR","type":"invalid input","userError":true}}]}"#;
    desk.answer(&call, Some(&LinearAnswer::new(200, exists)));
    check_counts(
        &mut desk,
        &[
            "linear_calls_total|result|already_there=1",
            "linear_first_activity_total|in_time|true=1",
        ],
    );

    desk.announce(created(2, "t", &[]));
    let call = desk.effect();
    let limited = r#"{"errors":[{"extensions":{"code":"RATELIMITED"}}]}"#;
    desk.answer(&call, Some(&LinearAnswer::new(400, limited)));
    check_counts(&mut desk, &["linear_calls_total|result|rate_limited=1"]);
    desk.wait(2 * 3_600_000);
    let call = desk.effect();
    let wrong = r#"{"errors":[{"extensions":{"code":"INPUT_ERROR"},"message":"no such session"}]}"#;
    desk.answer(&call, Some(&LinearAnswer::new(200, wrong)));
    let told = news(&mut desk);
    assert_eq!((touch(&told).unwrap().given_up, told.is_urgent), (1, true));
    assert_eq!(told.delta.counters["linear_calls_total|result|given_up"], 1);
    assert_eq!(told.delta.counters["linear_first_activity_total|in_time|false"], 1);
    assert!(told.delta.histograms.is_empty(), "Linear never had it");
}

#[test]
fn the_relay_s_own_words_are_counted_by_why_it_spoke() {
    let mut desk = Desk::new();
    let reason = |word: &str| format!("linear_stand_ins_total|reason|{word}");
    let mut said = |announcement: relay_schemas::Announcement, wait_ms, word: &str| {
        desk.announce(announcement);
        desk.wait(wait_ms);
        desk.drain();
        let counters = news(&mut desk).delta.counters;
        let own: Vec<_> = counters.keys().filter(|name| name.contains("stand_ins")).collect();
        assert_eq!(own, [&reason(word)], "{word}");
    };
    said(created(1, "a", &[]), 0, "no_machine");
    said(created(2, "b", &["laptop"]), 4_000, "silent_machine");
    said(stop(3, "a", false), 0, "stop_no_machine");
    said(stop(4, "b", true), 4_000, "stop_silent_machine");
    // A machine that speaks in time leaves the relay nothing to say.
    desk.announce(created(5, "c", &["laptop"]));
    desk.report(&report(5, ReportStatus::Processing, None));
    desk.wait(8_000);
    desk.drain();
    assert!(!news(&mut desk).delta.counters.contains_key(&reason("silent_machine")));
}

#[test]
fn a_new_session_s_first_word_is_timed_once_whoever_has_it() {
    let mut desk = Desk::new();
    // The relay's.
    desk.announce(created(1, "a", &[]));
    desk.wait(1_000);
    desk.drain();
    assert_eq!(first_activities(&mut desk), (1, 1_000));
    desk.report(&report(1, ReportStatus::Completed, None));
    desk.drain();
    assert_eq!(first_activities(&mut desk), (0, 0));
    // A machine's, also after a crash; what it says next is no first word.
    let mut machine_s = created(2, "b", &["laptop"]);
    machine_s.sent_at = desk.now;
    desk.announce(machine_s);
    desk.reload();
    desk.wait(500);
    desk.activity(&activity(2, "", json!({ "type": "thought", "body": "one" })));
    desk.activity(&activity(2, "", json!({ "type": "thought", "body": "two" })));
    desk.reload();
    desk.drain();
    assert_eq!(first_activities(&mut desk), (1, 500));
    // One that came before its announcement.
    desk.report(&report(3, ReportStatus::Processing, None));
    let mut late = created(3, "c", &["laptop"]);
    late.sent_at = desk.now;
    desk.announce(late);
    desk.wait(700);
    desk.drain();
    assert_eq!(first_activities(&mut desk), (1, 700));
    // A stop before anything was said.
    let mut stopped = created(4, "d", &["laptop"]);
    stopped.sent_at = desk.now;
    desk.announce(stopped);
    desk.announce(stop(5, "d", false));
    desk.wait(300);
    desk.drain();
    assert_eq!(first_activities(&mut desk), (1, 300));
    // A prompt has no such clock.
    let mut prompted = created(6, "d", &[]);
    prompted.kind = "AgentSessionEvent.prompted".into();
    desk.announce(prompted);
    desk.drain();
    assert_eq!(first_activities(&mut desk), (0, 0));
}

#[test]
fn ten_seconds_are_in_time_and_no_more() {
    let mut desk = Desk::new();
    for (number, waited_ms, in_time) in [(1, 9_999, "true"), (2, 10_000, "false")] {
        let mut announcement = created(number, &format!("s{number}"), &[]);
        announcement.sent_at = desk.now;
        desk.announce(announcement);
        let call = desk.effect();
        desk.wait(waited_ms);
        desk.perform(&call);
        let series = format!("linear_first_activity_total|in_time|{in_time}");
        assert_eq!(news(&mut desk).delta.counters.get(&series), Some(&1), "{waited_ms}");
    }
}

#[test]
fn what_was_given_up_is_counted_without_reading_it() {
    let mut desk = Desk::new();
    desk.linear.gone.insert("s".into());
    let give_up = |desk: &mut Desk, number| {
        desk.announce(created(number, "s", &[]));
        desk.drain();
    };
    give_up(&mut desk, 1);
    desk.reload();
    desk.wait(1_000);
    let before = desk.storage.listings();
    give_up(&mut desk, 2);
    assert_eq!(touch(&news(&mut desk)).unwrap().given_up, 2);
    assert_eq!(desk.status().outbox.given_up, 2);
    assert_eq!(desk.storage.listings(), before);
    desk.wait(GIVEN_UP_MS - 1_000);
    assert_eq!(touch(&news(&mut desk)).unwrap().given_up, 1);
}
