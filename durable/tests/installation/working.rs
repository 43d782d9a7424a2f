//! Who sees to what a command has left to do: the alarm's work, or an alarm to come.

use relay_durable::{Wake, WorkClock};

use crate::desk::{Desk, NOW, created};

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
