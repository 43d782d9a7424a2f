//! Who sees to what a command has left to do: the alarm's work, or an alarm to come.

use relay_durable::{Pace, Wake, WorkClock};
use relay_schemas::ReportStatus;
use serde_json::json;

use crate::desk::{Desk, NOW, activity, created, report};

/// Sessions in which thoughts wait behind those that are under way.
fn crowded() -> Desk {
    let mut desk = Desk::new();
    for number in 1..=8 {
        desk.announce(created(number, &format!("s{number}"), &["laptop"]));
        desk.report(&report(number, ReportStatus::Processing, None));
    }
    desk.drain();
    for number in 1..=8 {
        desk.activity(&activity(number, "", json!({"type": "thought", "body": "b"})));
    }
    assert_eq!(desk.effects().len(), 4);
    desk
}

#[test]
fn what_has_no_room_does_not_hide_what_is_due_soon() {
    let mut desk = crowded();
    assert!(desk.core.next_look(desk.now).unwrap() > NOW + 4_000);
    desk.announce(created(9, "new", &["laptop"]));
    assert_eq!(desk.core.next_look(desk.now), Some(NOW + 4_000));
    desk.wait(4_000);
    let call = desk.effect();
    desk.perform(&call);
    assert_eq!(desk.linear.texts().last(), Some(&"Waiting for `laptop`."));
    // Once nothing is under way, what was in its way is due.
    desk.reload();
    assert_eq!(desk.core.next_alarm(desk.now), Some(NOW));
}

#[test]
fn first_words_go_on_while_the_work_is_handed_over() {
    let mut clock = WorkClock::default();
    clock.begin(NOW);
    let (last_of_all, last) = (NOW + 119_999, NOW + 124_999);
    assert_eq!((clock.pace(NOW), clock.pace(last_of_all)), (Pace::Full, Pace::Full));
    let paces = (clock.pace(last_of_all + 1), clock.pace(last), clock.pace(last + 1));
    assert_eq!(paces, (Pace::FirstWords, Pace::FirstWords, Pace::Ending));
    let mut desk = crowded();
    desk.activity(&activity(8, "", json!({"type": "response", "body": "b"})));
    desk.announce(created(9, "new", &[]));
    assert_eq!(desk.core.next_effect_at(Pace::Ending, desk.now).unwrap(), None);
    let call = desk.core.next_effect_at(Pace::FirstWords, desk.now).unwrap().unwrap();
    desk.perform(&call);
    assert!(desk.linear.texts().last().unwrap().starts_with("No machine"));
    assert_eq!(desk.core.next_effect_at(Pace::FirstWords, desk.now).unwrap(), None);
    // The answer, and the thought before it.
    assert!(desk.core.next_effect_at(Pace::Full, desk.now).unwrap().is_some());
}

#[test]
fn a_command_that_comes_when_the_work_has_looked_last_is_not_left_lying() {
    let mut desk = Desk::new();
    let mut clock = WorkClock::default();
    desk.announce(created(1, "s", &[]));
    assert_eq!(clock.wake(desk.core.next_alarm(NOW), NOW), Wake::Alarm(NOW));
    clock.begin(NOW);
    desk.drain();
    let looked_last = desk.core.next_alarm(NOW).unwrap();
    assert!(looked_last > NOW);
    desk.announce(created(2, "t", &[]));
    assert_eq!(clock.wake(desk.core.next_alarm(NOW), NOW), Wake::Kick);
    assert_eq!(clock.end(desk.core.next_alarm(NOW)), Some(NOW));
    // And what comes after its end sets an alarm of its own.
    clock.end(Some(looked_last));
    assert_eq!(clock.wake(desk.core.next_alarm(NOW), NOW), Wake::Alarm(NOW));
}

#[test]
fn a_silent_machine_is_spoken_for_in_time_also_after_a_crash_of_the_alarm() {
    let mut desk = Desk::new();
    desk.wait(4_500);
    desk.announce(created(1, "s", &["laptop"]));
    desk.now = desk.core.next_alarm(desk.now).unwrap();
    let next = WorkClock::default().begin(desk.now);
    desk.effect();
    desk.reload();
    desk.now = next;
    desk.drain();
    desk.check(&["Waiting for `laptop`."]);
    assert!(desk.now.since_ms(NOW) < 10_000, "{}", desk.now.since_ms(NOW));
}

#[test]
fn an_alarm_is_set_only_when_it_must_come_earlier() {
    let mut clock = WorkClock::default();
    assert_eq!(clock.wake(None, NOW), Wake::Nothing);
    assert_eq!(clock.wake(Some(NOW + 500), NOW), Wake::Alarm(NOW + 500));
    assert_eq!(clock.wake(Some(NOW + 500), NOW), Wake::Nothing);
    assert_eq!(clock.wake(Some(NOW + 499), NOW), Wake::Alarm(NOW + 499));
    // One that should have come, and hasn't, is set again; so is one that could not be set.
    assert_eq!(clock.wake(Some(NOW + 600), NOW + 499), Wake::Alarm(NOW + 600));
    clock.reset();
    assert_eq!(clock.wake(Some(NOW + 600), NOW + 499), Wake::Alarm(NOW + 600));
    // Work that could not set its alarm has not begun.
    clock.begin(NOW);
    clock.reset();
    assert_eq!(clock.wake(Some(NOW), NOW), Wake::Alarm(NOW));
    // Work without a sign for so long is taken to be gone.
    clock.begin(NOW);
    clock.go_on(NOW + 5_000);
    assert_eq!(clock.wake(Some(NOW), NOW + 24_999), Wake::Kick);
    assert_eq!(clock.wake(Some(NOW), NOW + 25_000), Wake::Alarm(NOW));
}
