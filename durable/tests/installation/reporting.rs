//! What reports and activities become.

use relay_durable::InstallationRow;
use relay_schemas::{
    Abandoned, ActivityCommand, ActivityReply, Announcement, ErrorCode, ReportCommand, ReportStatus,
};
use serde_json::json;

use crate::desk::{Desk, Refusal, activity, created, event, machine, mention, report, variables};

/// The input of the one call that a report on an announced session makes, without its id.
#[track_caller]
fn check(report: &ReportCommand, expected: serde_json::Value) {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(report);
    let mut variables = variables(&desk.effect());
    let id = variables["input"].as_object_mut().unwrap().remove("id").unwrap();
    assert_eq!(&id.as_str().unwrap()[14..15], "4", "a UUID of version 4");
    assert_eq!(variables["input"], expected);
}

#[test]
fn a_report_becomes_an_activity() {
    check(
        &report(1, ReportStatus::Processing, None),
        json!({"agentSessionId": "s", "ephemeral": true,
            "content": {"type": "thought", "body": "Working on it on `laptop`."}}),
    );
    let response =
        |body: &str| json!({"agentSessionId": "s", "content": {"type": "response", "body": body}});
    check(&report(1, ReportStatus::Completed, Some(" It works. ")), response("It works."));
    check(&report(1, ReportStatus::Completed, Some(" ")), response("Done."));
    let error =
        |body: &str| json!({"agentSessionId": "s", "content": {"type": "error", "body": body}});
    let failed = report(1, ReportStatus::Failed, Some("last line"));
    check(&failed, error("last line"));
    let both = ReportCommand { error: Some("exit status: 1".into()), ..failed.clone() };
    check(&both, error("last line\n\nexit status: 1"));
    check(&ReportCommand { message: None, ..both }, error("exit status: 1"));
    let silent = ReportCommand { message: None, exit_code: Some(3), ..failed };
    check(&silent, error("The handler on `laptop` failed with exit code 3."));
}

#[test]
fn a_last_word_is_that_of_its_run() {
    let said = |kind: &str| activity(1, "", json!({"type": kind, "body": kind}));
    let completed = report(1, ReportStatus::Completed, Some("completed"));
    let failed = report(1, ReportStatus::Failed, Some("failed"));
    for (kind, end) in [("error", &failed), ("error", &completed), ("response", &completed)] {
        let mut desk = Desk::new();
        desk.announce(created(1, "s", &["laptop"]));
        desk.report(&report(1, ReportStatus::Processing, None));
        desk.activity(&said(kind));
        desk.report(end);
        desk.drain();
        desk.check(&["Working on it on `laptop`.", kind]);
        // It is begun again.
        desk.report(&report(1, ReportStatus::Processing, None));
        desk.report(&completed);
        desk.drain();
        let again = ["Working on it on `laptop`.", kind, "completed"];
        assert_eq!(desk.linear.texts().last(), again.last(), "{:?}", desk.linear.texts());
    }
}

#[test]
fn a_machine_s_last_word_is_not_another_s() {
    let on = |name: &str, status| ReportCommand { edge: machine(name), ..report(1, status, None) };
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["one", "two"]));
    for name in ["one", "two"] {
        desk.report(&on(name, ReportStatus::Processing));
        desk.activity(&ActivityCommand {
            edge: machine(name),
            ..activity(1, "", json!({"type": "response", "body": format!("{name}'s")}))
        });
        desk.reload();
    }
    // One that has said nothing of its own says that it is done, the others don't.
    for name in ["one", "three", "two"] {
        desk.report(&on(name, ReportStatus::Completed));
    }
    desk.drain();
    let working = ["Working on it on `one`.", "Working on it on `two`."];
    desk.check(&[working[0], "one's", working[1], "two's", "Done."]);
    // Whoever has answered, it isn't said that nobody has.
    let abandoned = Abandoned { event: event(1), attempts: 3, edge: None, error: None };
    desk.report(&on("two", ReportStatus::Processing));
    desk.drain();
    desk.core.abandoned(&abandoned, desk.now).unwrap();
    assert_eq!(desk.effects(), []);
}

#[test]
fn what_is_tried_again_has_not_failed_yet() {
    let mut desk = Desk::new();
    let failed = report(1, ReportStatus::Failed, Some("no space"));
    let retried = ReportCommand { is_retried: true, ..failed.clone() };
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(&retried);
    let call = desk.effect();
    assert_eq!(variables(&call)["input"]["content"]["type"], "thought");
    desk.perform(&call);
    desk.report(&retried);
    // The same machine has it again, and for the last time.
    desk.report(&failed);
    desk.drain();
    desk.check(&["It is tried again. On `laptop` it has failed: no space", "no space"]);
    // In a thread only the end is told.
    desk.announce(mention(2));
    desk.report(&ReportCommand { event: event(2), ..retried });
    assert_eq!(desk.effects(), []);
}

#[test]
fn what_no_machine_finishes_ends_with_an_error() {
    let abandoned = |number, attempts, edge: Option<&str>, error: Option<&str>| Abandoned {
        event: event(number),
        attempts,
        edge: edge.map(str::to_owned),
        error: error.map(str::to_owned),
    };
    let mut desk = Desk::new();
    let mut abandon = |announcement: Option<Announcement>, abandoned: Abandoned| {
        if let Some(announcement) = announcement {
            desk.announce(announcement);
        }
        desk.core.abandoned(&abandoned, desk.now).unwrap();
        let effects = desk.effects();
        effects.iter().for_each(|effect| desk.perform(effect));
        effects.first().map(|effect| variables(effect)["input"].take())
    };
    let error = abandon(Some(created(1, "s", &["laptop"])), abandoned(1, 3, Some("laptop"), None));
    let body = "This was tried 3 times, the last time on `laptop`, and no machine has finished it. \
                It is given up.";
    assert_eq!(error.unwrap()["content"], json!({"type": "error", "body": body}));
    // Told again, of an event that nobody has heard of, in a thread.
    assert_eq!(abandon(None, abandoned(1, 3, Some("laptop"), None)), None);
    assert_eq!(abandon(None, abandoned(9, 3, None, None)), None);
    let comment = abandon(Some(mention(2)), abandoned(2, 1, None, Some("no space"))).unwrap();
    let body = "This was tried once, and no machine has finished it. It is given up. no space";
    assert_eq!((&comment["body"], &comment["parentId"]), (&json!(body), &json!("root")));
    // A machine has answered, and only its report is missing.
    desk.announce(created(3, "t", &["laptop"]));
    desk.activity(&activity(3, "", json!({"type": "response", "body": "Here."})));
    desk.drain();
    desk.core.abandoned(&abandoned(3, 3, None, None), desk.now).unwrap();
    assert_eq!(desk.effects(), []);
}

#[test]
fn a_notification_gets_a_reaction_and_a_comment() {
    let mut desk = Desk::new();
    desk.announce(mention(1));
    desk.report(&report(1, ReportStatus::Processing, None));
    let reaction = desk.effect();
    let id = &variables(&reaction)["input"]["id"];
    assert_eq!(
        variables(&reaction)["input"],
        json!({"commentId": "comment", "emoji": "eyes", "id": id})
    );
    desk.perform(&reaction);
    desk.report(&report(1, ReportStatus::Completed, Some("see the branch")));
    let comment = desk.effect();
    let id = &variables(&comment)["input"]["id"];
    assert_eq!(
        variables(&comment)["input"],
        json!({"issueId": "issue", "parentId": "root", "body": "see the branch", "id": id})
    );
    desk.perform(&comment);
    // Without words there is nothing to write.
    desk.announce(mention(2));
    desk.report(&report(2, ReportStatus::Completed, None));
    assert_eq!(desk.effects(), []);
    desk.report(&report(2, ReportStatus::Failed, None));
    desk.drain();
    desk.check(&["eyes", "see the branch", "The handler on `laptop` failed."]);
}

#[test]
fn activities_keep_their_order_and_their_form() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    let say = |id, content| activity(1, id, content);
    desk.activity(&say("", json!({"type": "thought", "body": "one", "ephemeral": true})));
    desk.activity(&say("", json!({"type": "action", "action": "Read", "parameter": "a.rs"})));
    desk.activity(&say(
        "",
        json!({"type": "plan", "steps": [{"content": "c", "status": "inProgress"}]}),
    ));
    desk.activity(&say(
        "",
        json!({"type": "urls", "urls": [{"label": "l", "url": "https://e.com"}]}),
    ));
    desk.activity(&say(
        "",
        json!({"type": "elicitation", "body": "which?", "options": [{"value": "a"}]}),
    ));
    let mut inputs = Vec::new();
    for _ in 0..5 {
        let call = desk.effect();
        inputs.push(variables(&call)["input"].clone());
        desk.perform(&call);
    }
    assert_eq!(inputs[0]["ephemeral"], true);
    assert_eq!(
        inputs[1]["content"],
        json!({"type": "action", "action": "Read", "parameter": "a.rs"})
    );
    assert_eq!(inputs[2], json!({"plan": [{"content": "c", "status": "inProgress"}]}));
    assert_eq!(inputs[3], json!({"externalUrls": [{"label": "l", "url": "https://e.com"}]}));
    assert_eq!(inputs[4]["signal"], "select");
    assert_eq!(inputs[4]["signalMetadata"], json!({"options": [{"value": "a"}]}));
    assert_eq!(inputs[4]["content"], json!({"type": "elicitation", "body": "which?"}));
    // It has asked: that it has ended is no answer.
    desk.report(&report(1, ReportStatus::Completed, Some("last line")));
    assert_eq!(desk.effects(), []);
    desk.report(&report(1, ReportStatus::Failed, Some("broken")));
    assert_eq!(desk.effects().len(), 1);
}

#[test]
fn the_same_again_makes_nothing_new() {
    let id = "12345678-1234-4234-8234-123456789abc";
    let thought = json!({"type": "thought", "body": "one"});
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    let mut replies = Vec::new();
    for round in 0..3 {
        desk.report(&report(1, ReportStatus::Processing, None));
        replies.push(desk.activity(&activity(1, id, thought.clone())).id);
        desk.report(&report(1, ReportStatus::Completed, None));
        if round > 0 {
            desk.drain();
            desk.reload();
        }
    }
    desk.check(&["Working on it on `laptop`.", "one", "Done."]);
    assert_eq!(replies[0], replies[2]);
    assert_eq!(desk.linear.tries.values().max(), Some(&1));
    // Two activities without an id of their own are two.
    let first = desk.activity(&activity(1, "", thought.clone())).id;
    assert_ne!(first, desk.activity(&activity(1, "", thought)).id);
}

#[test]
fn what_comes_before_its_announcement_waits_for_an_hour() {
    let mut desk = Desk::new();
    desk.report(&report(1, ReportStatus::Processing, None));
    desk.activity(&activity(1, "", json!({"type": "thought", "body": "one"})));
    desk.report(&report(1, ReportStatus::Completed, Some("done")));
    desk.report(&report(2, ReportStatus::Completed, Some("never")));
    assert_eq!(desk.effects(), []);
    desk.reload();
    desk.announce(created(1, "s", &[]));
    desk.drain();
    desk.check(&["Working on it on `laptop`.", "one", "done"]);
    assert_eq!(desk.storage.count(InstallationRow::Parked), 1);
    desk.wait(3_600_000);
    assert!(desk.core.next_alarm(desk.now).unwrap() <= desk.now);
    desk.drain();
    assert_eq!(desk.storage.count(InstallationRow::Parked), 0);
    desk.announce(created(2, "t", &[]));
    desk.drain();
    assert_eq!(desk.linear.made.len(), 4);
}

#[test]
fn reports_on_what_nobody_waits_for_are_not_kept() {
    let mut desk = Desk::new();
    let before = desk.storage.rows_written();
    for kind in [
        Some("Issue.update"),
        Some("AgentSessionEvent.archived"),
        Some("AppUserNotification.issueEmojiReaction"),
        // It lies in history.
        None,
    ] {
        let kind = kind.map(str::to_owned);
        desk.report(&ReportCommand { kind, ..report(1, ReportStatus::Completed, None) });
    }
    assert_eq!(desk.storage.rows_written(), before);
}

#[test]
fn another_app_s_event_takes_no_room() {
    let foreign =
        |number| Announcement { app_user: Some("other".into()), ..created(number, "theirs", &[]) };
    let mut desk = Desk::new();
    desk.report(&report(1, ReportStatus::Processing, None));
    desk.announce(foreign(1));
    for _ in 0..2 {
        desk.report(&report(1, ReportStatus::Completed, None));
        desk.announce(foreign(1));
        desk.reload();
    }
    assert_eq!(desk.storage.count(InstallationRow::Parked), 0);
    assert_eq!(desk.storage.count(InstallationRow::Foreign), 1);
    assert_eq!(desk.effects(), []);
    // Before any app is installed, events of apps cost nothing.
    let mut desk = Desk::empty();
    desk.announce(foreign(1));
    assert_eq!(desk.storage.rows_written(), 0);
}

fn code(refused: Result<ActivityReply, Refusal>) -> ErrorCode {
    match refused {
        Err(Refusal::Refused(problem)) => problem.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_machine_is_told_why_nothing_is_shown() {
    let thought = json!({"type": "thought", "body": "one"});
    let mut desk = Desk::empty();
    let refused = desk.try_activity(&activity(1, "", thought.clone()));
    assert_eq!(code(refused), ErrorCode::OrganizationNotInstalled);
    desk.install();
    desk.announce(mention(1));
    let refused = desk.try_activity(&activity(1, "", thought.clone()));
    assert_eq!(code(refused), ErrorCode::SessionUnknown);
    // Parked before it was known what the event is: the announcement must not fail for it.
    desk.activity(&activity(2, "", thought));
    desk.announce(mention(2));
    assert_eq!(desk.effects(), []);
}

#[test]
fn an_activity_without_a_session_to_come_is_refused_at_once() {
    let mut desk = Desk::new();
    let say = activity(1, "", json!({"type": "thought", "body": "one"}));
    for kind in [
        Some("Issue.update"),
        Some("AgentSessionEvent.archived"),
        Some("AppUserNotification.issueCommentMention"),
        Some("AppUserNotification.issueEmojiReaction"),
        None,
    ] {
        let kind = kind.map(str::to_owned);
        let refused = desk.try_activity(&ActivityCommand { kind, ..say.clone() });
        assert_eq!(code(refused), ErrorCode::SessionUnknown);
    }
    let theirs = created(1, "theirs", &[]);
    desk.announce(Announcement { app_user: Some("other".into()), ..theirs });
    assert_eq!(code(desk.try_activity(&say)), ErrorCode::SessionUnknown);
    assert_eq!(desk.storage.count(InstallationRow::Parked), 0);
}

#[test]
fn a_report_is_answered_weeks_later() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    desk.drain();
    for _ in 0..60 {
        desk.wait(24 * 3_600_000);
        desk.drain();
    }
    desk.report(&report(1, ReportStatus::Completed, Some("back from holiday")));
    desk.drain();
    assert_eq!(desk.linear.texts().last(), Some(&"back from holiday"));
    assert_eq!(event(1), report(1, ReportStatus::Failed, None).event);
}
