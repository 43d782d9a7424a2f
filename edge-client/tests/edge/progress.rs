//! Goal: what a command says while it runs, and how it ends, reaches the relay in order; what it
//! prints still goes where it went; and a stop ends it. Method: real commands.

#![cfg(unix)]

use std::{fs, path::Path, time::Duration};

use edgerelay::{Exit, limits::BYTES_HELD_MAX};
use relay_schemas::{ErrorCode, Scope, Signal, Subject};
use serde_json::{Value, json};

use crate::{
    events::{cursor, event_id, record_about},
    fake_relay::FakeRelay,
    harness::{Running, credential, credential_for, settings, settings_as, state, within},
    program::{output, program, text},
};

/// What the relay was told about events of one session by this command: the kinds of activities,
/// and the reports.
async fn told(command: &str, flags: &[&str]) -> Vec<Value> {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (_directory, state) = state();
    let all = [&["--exec", command, "--exit-when-caught-up", "--attempts", "1"], flags].concat();
    Running::start_as_set(settings(&relay, &state, &all)).exit().await;
    relay.seen(|seen| seen.told.clone())
}

/// Nothing else tells that a handler has begun.
async fn exists(file: &Path) {
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What it was told without a run's duration, after `processing`.
fn timeless(mut told: Vec<Value>) -> Vec<Value> {
    for one in &mut told {
        one.as_object_mut().unwrap().remove("durationMs");
    }
    told.split_off(1)
}

fn last(told: &[Value]) -> &Value {
    told.last().unwrap()
}

#[tokio::test]
async fn the_last_line_the_exit_code_and_the_duration_are_the_report() {
    for (command, message, exit_code, status) in [
        ("echo one; echo two; echo err >&2", json!("two"), 0, "completed"),
        ("echo one >&2; echo; echo >&2", json!("one"), 0, "completed"),
        ("true", Value::Null, 0, "completed"),
        ("printf 'no end'; exit 7", json!("no end"), 7, "failed"),
        ("printf 'a\\377b\\n'", json!("a\u{fffd}b"), 0, "completed"),
    ] {
        let told = told(command, &[]).await;
        let report = last(&told);
        assert_eq!(report["status"], status, "{command}: {report}");
        assert_eq!(report["message"], message, "{command}: {report}");
        assert_eq!(report["exitCode"], exit_code, "{command}: {report}");
        assert!(report["durationMs"].as_u64().is_some(), "{command}: {report}");
    }
}

#[tokio::test]
async fn a_long_last_line_is_cut_at_a_character() {
    let told = told("i=0; while [ $i -lt 3000 ]; do printf 'é'; i=$((i+1)); done", &[]).await;
    let message = last(&told)["message"].as_str().unwrap();
    assert!(message.len() <= 4_096 && message.len() > 4_000, "{}", message.len());
    assert!(message.chars().all(|character| character == 'é'));
}

#[tokio::test]
async fn what_a_command_prints_still_goes_where_it_went() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (_directory, state) = state();
    let command = "echo to stdout; echo to stderr >&2";
    let flags = ["listen", "--exec", command, "--exit-when-caught-up"];
    let output = output(program(&relay.url(), &state, &flags)).await;
    assert_eq!(text(&output.stdout), "to stdout\n");
    assert!(text(&output.stderr).contains("to stderr\n"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn something_left_in_the_background_holds_up_no_report() {
    let told = told("echo done; sleep 1000 & exit 0", &["--grace", "0"]).await;
    assert_eq!(last(&told)["message"], "done");
}

/// Its pipe stays open, so that nothing but the time says that no more comes.
#[tokio::test]
async fn an_unfinished_line_counts_though_something_is_left_in_the_background() {
    let command = r#"printf '{"type":"response","body":"Fixed."}' >&3; sleep 1000 & exit 0"#;
    let told = told(command, &["--grace", "0"]).await;
    assert_eq!(told[1]["activity"]["body"], "Fixed.", "{told:?}");
}

#[tokio::test]
async fn what_is_left_in_the_background_says_no_more_than_a_pipe_holds() {
    let command = r#"
        yes '{"type":"action","action":"a","parameter":""}' >&3 & sleep 0.2; exit 0"#;
    let told = told(command, &["--grace", "0"]).await;
    let line_bytes = r#"{"type":"action","action":"a","parameter":""}"#.len() + 1;
    // A pipe's worth after the end, a read's worth before it, and what its pace let through.
    let most = (64 + 4) * 1024 / line_bytes + 100;
    assert!(told.len() < most, "{} of at most {most}", told.len());
    assert_eq!(last(&told)["status"], "completed");
}

#[tokio::test]
async fn lines_of_progress_become_activities_before_the_report() {
    let command = r#"
        p() { echo "$1" >&"$EDGERELAY_PROGRESS_FD"; }
        p '{"type":"thought","body":"looking"}'
        p '{"type":"action","action":"ran","parameter":"ls"}'
        p 'this is no JSON with a s3cret'
        p '{"type":"plan","steps":[{"content":"c","status":"pending"}]}'
        p '{"type":"elicitation","body":"which?","options":[{"value":"a"}]}'
        echo the last line"#;
    let mut questions = Vec::new();
    for flags in [&[][..], &["--progress-fd", "9"]] {
        let told = told(command, flags).await;
        let kinds: Vec<&str> = told
            .iter()
            .map(|one| one["activity"]["type"].as_str().or(one["status"].as_str()).unwrap())
            .collect();
        let expected = ["processing", "thought", "action", "plan", "elicitation", "completed"];
        assert_eq!(kinds, expected);
        let ids: Vec<&str> =
            told[1..5].iter().map(|one| one["activity"]["id"].as_str().unwrap()).collect();
        assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4'), "{ids:?}");
        assert!(told.iter().all(|one| one["eventId"] == event_id(1).to_string()));
        assert_eq!(last(&told)["message"], Value::Null, "it has spoken for itself");
        questions.push(ids[3].to_owned());
    }
    assert_eq!(questions[0], questions[1], "a run that is repeated asks once");
}

/// What the relay would refuse is no answer: the last line stays one.
#[tokio::test]
async fn a_question_that_the_relay_would_not_take_is_a_bad_line() {
    let options = vec![r#"{"value":"a"}"#; 26].join(",");
    let question = format!(r#"{{"type":"elicitation","body":"which?","options":[{options}]}}"#);
    let told = told(&format!("echo '{question}' >&3; echo the last line"), &[]).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(last(&told)["message"], "the last line");
}

#[tokio::test]
async fn an_answer_that_cannot_be_shown_is_the_reports_message() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (_directory, state) = state();
    let command = r#"echo '{"type":"response","body":"Fixed."}' >&3; echo the last line"#;
    let flags = ["--exec", command, "--exit-when-caught-up"];
    let scopes = [Scope::ReadEvents, Scope::WriteStatus];
    let settings = settings_as(&credential_for("edge_1", &scopes), &relay, &state, &flags);
    Running::start_as_set(settings).exit().await;
    let told = relay.seen(|seen| seen.told.clone());
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(last(&told)["message"], "Fixed.");
}

/// A handler that reports by the program, in the same environment as everything else it starts.
#[tokio::test]
async fn what_a_handler_reports_itself_is_the_report() {
    let edgerelay = env!("CARGO_BIN_EXE_edgerelay");
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (directory, state) = state();
    // As a sign-in would be: handlers find no credential in their environment.
    let config = directory.path().join("config.toml");
    fs::write(&config, format!("credential = \"{}\"\n", credential("edge_1"))).unwrap();
    let told = async |words: &str| {
        let command = format!(
            "PROXY_URL={} EDGERELAY_CONFIG={} {edgerelay} status $EDGERELAY_EVENT_ID {words}; \
             echo the last line",
            relay.url(),
            config.display(),
        );
        let flags = ["--exec", &command, "--exit-when-caught-up", "--reset"];
        let before = relay.seen(|seen| seen.told.len());
        Running::start_as_set(settings(&relay, &state, &flags)).exit().await;
        timeless(relay.seen(|seen| seen.told[before..].to_vec()))
    };
    let event = event_id(1).to_string();
    let failed = json!({ "eventId": event, "status": "failed", "error": "No." });
    assert_eq!(told("failed --error No.").await, [failed]);
    let processing = json!({ "eventId": event, "status": "processing" });
    let end = json!({ "eventId": event, "status": "completed", "message": "the last line", "exitCode": 0 });
    assert_eq!(told("processing").await, [processing, end]);
}

#[tokio::test]
async fn without_activities_there_is_no_descriptor() {
    let told = told(
        "echo \"fd:$EDGERELAY_PROGRESS_FD\"; (echo x >&3) 2>/dev/null && exit 9; true",
        &["--activities", "off"],
    )
    .await;
    assert_eq!(last(&told)["message"], "fd:");
    assert_eq!(last(&told)["status"], "completed");
}

#[tokio::test]
async fn a_flood_of_thoughts_is_few_and_ends_with_the_newest() {
    let command = r#"i=0; while [ $i -lt 2000 ]; do
        echo "{\"type\":\"thought\",\"body\":\"$i\"}"; i=$((i+1)); done >&3"#;
    let told = told(command, &[]).await;
    let thoughts: Vec<&str> =
        told.iter().filter_map(|one| one["activity"]["body"].as_str()).collect();
    let seconds = last(&told)["durationMs"].as_u64().unwrap() / 1_000;
    assert!(thoughts.len() as u64 <= seconds + 2, "{thoughts:?} in {seconds} s");
    assert_eq!((thoughts[0], *thoughts.last().unwrap()), ("0", "1999"));
}

#[tokio::test]
async fn bad_lines_are_told_of_once_and_never_shown() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (_directory, state) = state();
    let command = "for i in 1 2 3; do echo \"s3cret $i\" >&3; done";
    let flags = ["listen", "--exec", command, "--exit-when-caught-up"];
    let output = output(program(&relay.url(), &state, &flags)).await;
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("3 lines of progress").count(), 1, "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

#[tokio::test]
async fn an_activity_whose_answer_is_lost_goes_again_with_the_same_id() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    for code in [ErrorCode::Unavailable, ErrorCode::Unavailable] {
        relay.plan_report(code, None);
    }
    let (_directory, state) = state();
    let command = r#"echo '{"type":"response","body":"b"}' >&3"#;
    let client =
        Running::start_as_set(settings(&relay, &state, &["--exec", command, "--report", "off"]));
    within(relay.wait_for(|seen| seen.told.len() >= 3)).await;
    client.stop().await;
    relay.seen(|seen| {
        assert_eq!(seen.told.len(), 3);
        assert!(seen.told.iter().all(|one| *one == seen.told[0]), "{:?}", seen.told);
    });
}

#[tokio::test]
async fn what_the_relay_knows_of_an_event_is_in_variables() {
    let relay = FakeRelay::start().await;
    let subject = Subject {
        app: Some("app-1".into()),
        session: Some("session-1".into()),
        issue: Some("issue-1".into()),
        routed_by: Some("creator".into()),
    };
    relay.push_records(vec![
        record_about(1, "{}", subject, true),
        record_about(2, "{}", Subject::default(), false),
    ]);
    let (directory, state) = state();
    let at = directory.path().join("env");
    let command = format!("env | grep ^EDGERELAY_ | sort > {}.$EDGERELAY_EVENT_ID", at.display());
    let flags = ["--exec", &command, "--exit-when-caught-up"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    assert_eq!(client.exit().await, Exit::CaughtUp);
    let variables =
        |seq| fs::read_to_string(format!("{}.{}", at.display(), event_id(seq))).unwrap();
    for expected in [
        "EDGERELAY_APP=app-1\n",
        "EDGERELAY_SESSION=session-1\n",
        "EDGERELAY_ISSUE=issue-1\n",
        "EDGERELAY_ROUTED_BY=creator\n",
        "EDGERELAY_OWN=true\n",
        "EDGERELAY_PROGRESS_FD=3\n",
    ] {
        assert!(variables(1).contains(expected), "{expected} in {}", variables(1));
    }
    for absent in ["APP=", "SESSION=", "ISSUE=", "ROUTED_BY=", "OWN=", "ASSIGNED_ATTEMPT="] {
        assert!(!variables(2).contains(&format!("EDGERELAY_{absent}")), "{}", variables(2));
    }
}

/// Of the session `s`.
fn stop_signal() -> Signal {
    Signal {
        signal: "stop".into(),
        session: "s".into(),
        id: event_id(99),
        cursor: cursor(1),
        timestamp: "2027-01-01T00:00:00Z".into(),
    }
}

/// Starts this command, sends a stop when it runs, and gives back what the relay was told.
async fn stop(command: &str, grace: &str) -> Vec<Value> {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (directory, state) = state();
    let started = directory.path().join("started");
    let command = command.replace("STARTED", &started.display().to_string());
    let flags = ["--exec", &command, "--grace", grace, "--concurrency", "2"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    within(exists(&started)).await;
    relay.send_line(stop_signal().to_line());
    let is_over = |seen: &crate::fake_relay::Seen| seen.reports.len() == 2;
    within(relay.wait_for(is_over)).await;
    client.stop().await;
    relay.seen(|seen| seen.told.clone())
}

#[tokio::test]
async fn a_stop_ends_the_command_and_is_reported() {
    let told = stop("touch STARTED; sleep 1000; exit 3", "10s").await;
    assert_eq!(last(&told)["status"], "completed");
    assert_eq!(last(&told)["message"], "stopped");
}

/// More than the client holds waits behind the one that runs.
#[tokio::test]
async fn a_stop_reaches_a_client_that_is_full() {
    let relay = FakeRelay::start().await;
    relay.set_credit(8 * 1024 * 1024);
    relay.push(&["s"]);
    let body = format!(r#"{{"agentSession":{{"id":"other"}},"x":"{}"}}"#, "x".repeat(100_000));
    relay.push_bodies(&vec![body; 2 * BYTES_HELD_MAX / 100_000]);
    let (directory, state) = state();
    let started = directory.path().join("started");
    let command = format!("touch {}; sleep 1000", started.display());
    let client = Running::start_as_set(settings(&relay, &state, &["--exec", &command]));
    within(exists(&started)).await;
    relay.send_line(stop_signal().to_line());
    let is_over = |seen: &crate::fake_relay::Seen| {
        let mut reports = seen.reports.iter();
        reports.any(|report| report.message.as_deref() == Some("stopped"))
    };
    within(relay.wait_for(is_over)).await;
    client.ask_to_end();
    client.stop().await;
}

#[tokio::test]
async fn a_stopped_command_may_have_the_last_word() {
    let command = r#"
        bye() { echo '{"type":"response","body":"I have stopped"}' >&3; exit 0; }
        trap bye TERM; touch STARTED; while :; do sleep 0.05; done"#;
    let told = stop(command, "10s").await;
    assert_eq!(told[told.len() - 2]["activity"]["body"], "I have stopped");
    assert_eq!(last(&told)["status"], "completed");
    assert_eq!(last(&told)["message"], Value::Null);
}

#[tokio::test]
async fn a_shell_that_ends_first_leaves_the_last_word_to_what_it_has_started() {
    let command = r#"sh -c '
        bye() { sleep 0.3; echo "{\"type\":\"response\",\"body\":\"I have stopped\"}" >&3; exit 0; }
        trap bye TERM; touch STARTED; while :; do sleep 0.05; done'; true"#;
    let told = stop(command, "10s").await;
    assert_eq!(told[told.len() - 2]["activity"]["body"], "I have stopped", "{told:?}");
    assert_eq!(last(&told)["message"], Value::Null);
}

#[tokio::test]
async fn a_command_that_is_deaf_to_the_stop_ends_after_the_grace() {
    let told = stop("trap '' TERM; touch STARTED; while :; do sleep 1; done", "100ms").await;
    assert_eq!(last(&told)["message"], "stopped");
}
