//! What operators see of decisions, and what keeping them costs.

use relay_schemas::{RoutingStrategy, limits};

use super::{
    book::{DAY, Desk, HOUR, event},
    *,
};

fn desk_with(decisions: u16) -> Desk {
    let mut desk = Desk::new(RoutingStrategy::User);
    for id in 0..decisions {
        desk.route(event(id, "Issue.update", &format!("data.assigneeId=p{id}")));
    }
    desk
}

/// The persons of all pages.
fn pages(desk: &Desk, limit: usize) -> Vec<String> {
    let (mut after, mut persons) = (AuditCursor::NEWEST, Vec::new());
    loop {
        let page = desk.book.audit(after, limit, desk.now).unwrap();
        assert!(page.decisions.len() <= limit);
        let of = |line: &AuditLine| line.targets[0].channel.to_string().replace("user:p", "");
        persons.extend(page.decisions.iter().map(of));
        let Some(cursor) = page.cursor else { return persons };
        after = cursor.parse().unwrap();
    }
}

#[test]
fn pages_show_each_decision_once_newest_first() {
    let desk = desk_with(300);
    let expected: Vec<String> = (0..300).rev().map(|id| id.to_string()).collect();
    for limit in [1, 7, 100, 300, 1_000] {
        assert_eq!(pages(&desk, limit), expected, "{limit}");
    }
    assert!(desk.storage.rows().1 > 2, "several rows");
    assert_eq!(pages(&desk_with(0), 10), [""; 0]);
}

#[test]
fn a_decision_says_what_and_why() {
    let mut desk = Desk::new(RoutingStrategy::User);
    let fields = "oauthClientId=a appUserId=app notification.actorId=app";
    desk.try_route(&[event(1, "AppUserNotification.system", fields)]).unwrap();
    let page = desk.book.audit(AuditCursor::NEWEST, 10, desk.now).unwrap();
    let text = serde_json::to_string(&page.decisions[0]).unwrap();
    assert_eq!(
        text,
        "{\"at\":1790000000000,\"id\":\"evt_000200000000000000000000000\",\
         \"kind\":\"AppUserNotification.system\",\
         \"targets\":[{\"channel\":\"unrouted\",\"rule\":\"unrouted\"}],\
         \"reason\":\"unrouted\",\"own\":true}"
            .replace("000200000000000000000000000", &page.decisions[0].id.to_string()[4..])
    );
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let mut desk = desk_with(3);
    let mut row = desk.storage.audit_until(u64::MAX).unwrap().unwrap();
    row.lines = row.lines.replacen("\"id\"", "\"di\"", 1);
    desk.storage.save_audit(&row).unwrap();
    desk.wake();
    assert_eq!(pages(&desk, 10), ["2", "1"]);
    let again = event(0, "Issue.update", "data.assigneeId=other");
    assert_eq!(desk.route(again), "user:other | assignee");
    for text in ["", "1", "1-", "-1", "a-b", "1-2-3"] {
        assert!(text.parse::<AuditCursor>().is_err(), "{text}");
    }
}

#[test]
fn decisions_are_kept_for_thirty_days() {
    let mut desk = desk_with(1);
    desk.now = desk.now + 20 * DAY;
    desk.route(event(500, "Issue.update", "data.assigneeId=p500"));
    desk.now = desk.now + 10 * DAY;
    assert_eq!(pages(&desk, 10), ["500", "0"]);
    desk.now = desk.now + 1;
    assert_eq!(pages(&desk, 10), ["500"], "it is no longer shown");
    assert_eq!(desk.storage.rows().1, 2);
    desk.now = desk.now + DAY;
    desk.route(event(501, "Issue.update", "data.assigneeId=p501"));
    assert_eq!((pages(&desk, 10), desk.storage.rows().1), (vec!["501".into(), "500".into()], 2));
}

/// One row a call, and one more to delete each row: with rows of 16 KiB that is little.
#[test]
fn a_decision_costs_one_row_a_call() {
    let mut desk = desk_with(1);
    let before = desk.storage.rows_written();
    let batch: Vec<EventFacts> = (1..=100)
        .map(|id| event(id, "Issue.update", "data.id=i data.teamId=t data.assigneeId=ann"))
        .collect();
    desk.try_route(&batch).unwrap();
    assert_eq!(desk.storage.rows_written() - before, 1);
    let before = (desk.storage.rows_written(), desk.storage.rows().1);
    for id in 200..1_200 {
        desk.route(event(id, "Issue.update", "data.assigneeId=ann"));
    }
    assert_eq!(desk.storage.rows_written() - before.0, 1_000);
    let rows = desk.storage.rows().1 - before.1;
    assert!((5..20).contains(&rows), "{rows}");
}

#[test]
fn a_row_ends_after_a_day_and_when_it_is_large() {
    let mut desk = desk_with(2);
    assert_eq!(desk.storage.rows().1, 1);
    desk.now = desk.now + 24 * HOUR - 1;
    desk.route(event(10, "Issue.update", "data.assigneeId=ann"));
    assert_eq!(desk.storage.rows().1, 1);
    desk.wake();
    desk.now = desk.now + 1;
    desk.route(event(11, "Issue.update", "data.assigneeId=ann"));
    assert_eq!(desk.storage.rows().1, 2);
    for id in 100..200 {
        desk.route(event(id, "Issue.update", "data.assigneeId=ann"));
        let row = desk.storage.audit_until(u64::MAX).unwrap().unwrap();
        assert!(row.lines.len() < limits::AUDIT_ROW_EXTENDED_BYTES_MAX + 1_000);
    }
}
