//! Goal: `edgerelay status` and `edgerelay activity` tell the relay what they are asked to, once,
//! and say by their exit code whether it was taken; and what another machine has now is dropped.

use relay_schemas::ErrorCode;
use serde_json::{Value, json};

use crate::{
    events::event_id,
    fake_relay::FakeRelay,
    harness::{Recorder, Running, settings, state, within},
    program::{output, program, text},
};

async fn run(relay: &FakeRelay, arguments: &[&str]) -> (Option<i32>, String, String) {
    let (_directory, state) = state();
    let output = output(program(&relay.url(), &state, arguments)).await;
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn every_kind_is_told_as_the_relay_reads_it() {
    let event = event_id(1).to_string();
    let id = "11111111-2222-4333-8444-555555555555";
    let activity = |content: Value| {
        let mut activity = content;
        activity["id"] = json!(id);
        json!({ "eventId": event, "activity": activity })
    };
    for (arguments, expected) in [
        (
            &["status", &event, "completed", "--message", "done"][..],
            json!({ "eventId": event, "status": "completed", "message": "done" }),
        ),
        (
            &["status", &event, "failed", "--error", "-1"],
            json!({ "eventId": event, "status": "failed", "error": "-1" }),
        ),
        (
            &["activity", "--id", id, &event, "thought", "hm", "--ephemeral"],
            activity(json!({ "type": "thought", "body": "hm", "ephemeral": true })),
        ),
        (
            &["activity", "--id", id, &event, "action", "Ran", "ls", "--result", "ok"],
            activity(json!({ "type": "action", "action": "Ran", "parameter": "ls", "result": "ok",
                             "ephemeral": false })),
        ),
        (
            &["activity", "--id", id, &event, "response", "- a list"],
            activity(json!({ "type": "response", "body": "- a list" })),
        ),
        (
            &["activity", "--id", id, &event, "error", "b"],
            activity(json!({ "type": "error", "body": "b" })),
        ),
        (
            &[
                "activity",
                "--id",
                id,
                &event,
                "elicitation",
                "?",
                "--option",
                "a",
                "--option",
                "b=B",
            ],
            activity(json!({ "type": "elicitation", "body": "?",
                             "options": [{ "value": "a" }, { "value": "b", "label": "B" }] })),
        ),
        (
            &["activity", "--id", id, &event, "plan", "completed=a=1", "inProgress=b"],
            activity(json!({ "type": "plan", "steps": [
                { "content": "a=1", "status": "completed" },
                { "content": "b", "status": "inProgress" }] })),
        ),
        (
            &["activity", "--id", id, &event, "urls", "Log=https://x/?a=b", "--json"],
            activity(
                json!({ "type": "urls", "urls": [{ "label": "Log", "url": "https://x/?a=b" }] }),
            ),
        ),
    ] {
        let relay = FakeRelay::start().await;
        relay.push(&["s"]);
        let (code, stdout, stderr) = run(&relay, arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        // It would become the message of a handler's report.
        let is_asked = arguments.contains(&"--json");
        assert_eq!(stdout.contains(&event), is_asked, "{stdout}");
        assert_eq!(stdout.is_empty(), !is_asked, "{stdout}");
        assert_eq!(relay.seen(|seen| seen.told.clone()), [expected], "{arguments:?}");
    }
}

#[tokio::test]
async fn exit_codes_say_whether_it_was_taken() {
    let event = event_id(1).to_string();
    for (code, expected, words) in [
        (ErrorCode::EventUnknown, 2, "event_unknown"),
        (ErrorCode::EventReassigned, 2, "desktop has this event now"),
        (ErrorCode::CredentialRevoked, 3, "edgerelay login"),
    ] {
        let relay = FakeRelay::start().await;
        relay.plan_report(code, None);
        let (status, _, stderr) = run(&relay, &["status", &event, "completed"]).await;
        assert_eq!(status, Some(expected), "{code:?}: {stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    let relay = FakeRelay::start().await;
    for arguments in [
        &["status", "evt_1", "completed"][..],
        &["status", &event, "finished"],
        &["activity", &event],
        &["activity", &event, "plan", "soon=a"],
        &["activity", &event, "urls", "Log=http://x"],
        &["activity", "--id", "1", &event, "response", "b"],
    ] {
        let (status, _, stderr) = run(&relay, arguments).await;
        assert_eq!(status, Some(2), "{arguments:?}: {stderr}");
    }
    assert!(relay.seen(|seen| seen.told.is_empty()));
}

#[tokio::test]
async fn a_passing_fault_is_waited_out_with_the_same_id() {
    let event = event_id(1).to_string();
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    relay.plan_report(ErrorCode::Unavailable, None);
    let (code, ..) = run(&relay, &["activity", &event, "response", "b"]).await;
    assert_eq!(code, Some(0));
    relay.seen(|seen| {
        assert_eq!(seen.told.len(), 2);
        assert_eq!(seen.told[0], seen.told[1]);
    });
    for _ in 0..10 {
        relay.plan_report(ErrorCode::Unavailable, Some(3_600));
    }
    let (code, _, stderr) = run(&relay, &["status", &event, "completed"]).await;
    assert_eq!(code, Some(1), "{stderr}");
}

#[tokio::test]
async fn an_event_of_a_channel_is_told_of_there() {
    let event = event_id(1).to_string();
    let relay = FakeRelay::start().await;
    relay.set_channel("team:team-t");
    relay.push(&["s"]);
    let (code, _, stderr) = run(&relay, &["status", &event, "completed"]).await;
    assert_eq!(code, Some(2), "{stderr}");
    let (code, _, stderr) =
        run(&relay, &["status", "--channel", "team:team-t", &event, "completed"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let of_kind = ["activity", &event, "thought", "hm", "--channel", "team:team-t"];
    let (code, _, stderr) = run(&relay, &of_kind).await;
    assert_eq!(code, Some(0), "{stderr}");
}

/// In the environment of a handler: its variables say something about the event.
#[tokio::test]
async fn a_handler_names_neither_the_channel_nor_anything_else() {
    let event = event_id(1).to_string();
    let relay = FakeRelay::start().await;
    relay.set_channel("team:team-t");
    relay.push(&["s"]);
    let (_directory, state) = state();
    let mut command = program(&relay.url(), &state, &["status", &event, "completed"]);
    command.env("EDGERELAY_CHANNEL", "team:team-t").env("EDGERELAY_OWN", "true");
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[tokio::test]
async fn a_client_of_a_channel_reports_and_shows_there() {
    let relay = FakeRelay::start().await;
    relay.set_channel("team:team-t");
    relay.push(&["s"]);
    let (_directory, state) = state();
    let command = r#"echo '{"type":"thought","body":"hm"}' >&3"#;
    let flags = ["listen", "--channel", "team:team-t", "--exec", command, "--exit-when-caught-up"];
    let output = output(program(&relay.url(), &state, &flags)).await;
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("WARN"), "{stderr}");
    assert_eq!(relay.seen(|seen| (seen.told.len(), seen.reports.len())), (3, 2), "{stderr}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_relay_that_answers_nothing_to_linear_takes_reports_all_the_same() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    relay.show_nothing();
    let (_directory, state) = state();
    let command =
        r#"for i in 1 2 3; do echo '{"type":"action","action":"a","parameter":""}' >&3; done"#;
    let flags = ["listen", "--exec", command, "--exit-when-caught-up"];
    let output = output(program(&relay.url(), &state, &flags)).await;
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("WARN").count(), 1, "{stderr}");
    assert!(stderr.contains("oauth_not_configured"), "{stderr}");
    assert_eq!(relay.seen(|seen| (seen.told.len(), seen.reports.len())), (5, 2), "{stderr}");
    let event = event_id(1).to_string();
    let (code, _, stderr) = run(&relay, &["activity", &event, "thought", "hm"]).await;
    assert_eq!(code, Some(2), "{stderr}");
}

#[tokio::test]
async fn a_report_about_an_event_of_another_machine_is_dropped_with_one_warning() {
    let relay = FakeRelay::start().await;
    relay.push(&["a"]);
    for _ in 0..2 {
        relay.plan_report(ErrorCode::EventReassigned, None);
    }
    let (_directory, state) = state();
    let flags = ["listen", "--exec", "true", "--exit-when-caught-up"];
    let output = output(program(&relay.url(), &state, &flags)).await;
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr.matches("desktop has evt_").count(), 1, "{stderr}");
    assert_eq!(relay.seen(|seen| seen.told.len()), 2, "both were offered");

    relay.push(&["b"]);
    let client = Running::start(settings(&relay, &state, &["--report", "on"]), Recorder::new());
    within(relay.wait_for(|seen| seen.reports.len() == 2)).await;
    client.stop().await;
    assert_eq!(relay.seen(|seen| seen.told.len()), 4, "what was dropped never comes again");
}
