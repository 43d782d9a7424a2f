//! Goal: what a handler says last is neither lost nor said twice: it is shown in the agent session, or
//! else it is the report. Method: the session as a value, as in `session_script`.

use edgerelay::{
    Dispatch, Input, OnFailure, Ordering, Outcome, RunSummary, SessionSettings, Ticket,
};
use relay_schemas::limits::REPORT_TEXT_BYTES_MAX;
use serde_json::{Value, json};

use crate::script::{Script, at, run, settings, webhook_line_with};

const IN_SESSION: &str = r#"{"agentSession":{"id":"s"}}"#;
const IN_NONE: &str = r#"{"type":"AppUserNotification","notification":{"issueId":"i"}}"#;

/// A session that hands over one event with this body.
struct Told {
    script: Script,
    ticket: Ticket,
}

impl Told {
    fn new(settings: SessionSettings, body: &str) -> Self {
        let ordering = Ordering::Lanes;
        let persist_interval_ms = 1_000_000;
        let settings = SessionSettings { reports: true, ordering, persist_interval_ms, ..settings };
        let mut script = Script::open(settings, at(0), false);
        let (ticket, ..) = run(&script.line(&webhook_line_with(1, 1, body)));
        script.feed(Input::Persisted);
        Self { script, ticket }
    }

    fn say(&mut self, kind: &str, body: &str) {
        let line = json!({ "type": kind, "body": body }).to_string();
        let activity = edgerelay::read_activity(line.as_bytes()).unwrap();
        self.script.feed(Input::Progress { ticket: self.ticket, activity });
    }

    fn finish(&mut self, outcome: Outcome, last_line: &str) {
        let summary = RunSummary { message: Some(last_line.into()), ..RunSummary::default() };
        self.finish_with(outcome, summary);
    }

    fn finish_with(&mut self, outcome: Outcome, summary: RunSummary) {
        self.script.feed(Input::Finished { ticket: self.ticket, outcome, summary });
    }

    /// Everything after `processing`.
    fn told(&mut self) -> Vec<Value> {
        let commands = self.script.pass(1_000_000);
        let batches = commands.iter().filter_map(|command| match command {
            edgerelay::Command::Persist(batch) => Some(batch),
            _ => None,
        });
        let told: Vec<Dispatch> = batches.flat_map(|batch| &batch.dispatches).cloned().collect();
        let told = serde_json::to_value(told).unwrap();
        let is_start = |one: &Value| one["status"] == "processing";
        told.as_array().unwrap().iter().filter(|one| !is_start(one)).cloned().collect()
    }
}

fn failed() -> Outcome {
    Outcome::Failed("exit status 1".into())
}

#[test]
fn a_last_word_that_is_shown_leaves_nothing_to_the_report() {
    let mut told = Told::new(settings(), IN_SESSION);
    told.say("response", "Fixed.");
    told.finish(Outcome::Succeeded, "a last line");
    let told = told.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["activity"]["body"], "Fixed.");
    assert_eq!((&told[1]["status"], &told[1]["message"]), (&json!("completed"), &Value::Null));
}

#[test]
fn a_last_word_that_cannot_be_shown_is_the_reports() {
    let unscoped = SessionSettings { activities: false, ..settings() };
    for (settings, body) in [(settings(), IN_NONE), (unscoped, IN_SESSION)] {
        for kind in ["response", "error", "elicitation"] {
            let mut told = Told::new(settings.clone(), body);
            told.say("thought", "hm");
            told.say("response", "an earlier word");
            told.say(kind, "the last word");
            told.finish(Outcome::Succeeded, "a last line");
            let told = told.told();
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!(told[0]["message"], "the last word", "{kind}");
        }
        let mut told = Told::new(settings, body);
        told.say("thought", "hm");
        told.finish(Outcome::Succeeded, "a last line");
        assert_eq!(told.told()[0]["message"], "a last line", "a thought answers nothing");
    }
}

#[test]
fn a_failure_is_told_in_the_handlers_own_words() {
    let skipping =
        SessionSettings { attempts_max: Some(1), on_failure: OnFailure::Skip, ..settings() };
    let long = "é".repeat(REPORT_TEXT_BYTES_MAX);
    for (said, expected) in [
        (Some("The disk is full."), "The disk is full."),
        (Some(&long), &long[..REPORT_TEXT_BYTES_MAX]),
        (None, "exit status 1"),
    ] {
        let mut told = Told::new(skipping.clone(), IN_NONE);
        if let Some(said) = said {
            told.say("error", said);
        }
        told.finish(failed(), "a last line");
        let told = told.told();
        assert_eq!((&told[0]["status"], &told[0]["error"]), (&json!("failed"), &json!(expected)));
    }
}

#[test]
fn a_run_that_is_repeated_says_its_last_word_with_the_same_id() {
    let ids = |kinds: &[&str]| -> Vec<String> {
        let mut told = Told::new(settings(), IN_SESSION);
        for kind in kinds {
            told.say(kind, "b");
        }
        told.finish(failed(), "");
        let told = told.told();
        told.iter().map(|one| one["activity"]["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = ids(&["response", "response", "error"]);
    assert!(first.iter().all(|id| relay_schemas::is_uuid_v4(id)), "{first:?}");
    assert_eq!(first, ids(&["response", "response", "error"]));
    assert_ne!(first[0], first[1], "a second answer of one run is another");
    assert_ne!(first[0], ids(&["error"])[0]);
}

#[test]
fn an_attempt_begins_without_the_words_of_the_one_before() {
    let patient = SessionSettings { attempts_max: None, ..settings() };
    let mut told = Told::new(patient.clone(), IN_SESSION);
    told.say("response", "It seems to work.");
    told.finish(failed(), "");
    told.script.pass(60_000);
    assert_eq!(told.script.session.status(told.script.now).handlers_running, 1);
    told.say("response", "It works.");
    told.finish(failed(), "");
    let told = told.told();
    assert_eq!(told[0]["activity"]["id"], told[1]["activity"]["id"], "{told:?}");

    let mut told = Told::new(patient, IN_NONE);
    told.say("response", "It seems to work.");
    told.finish(failed(), "");
    told.script.pass(60_000);
    told.finish(Outcome::Succeeded, "a last line");
    assert_eq!(told.told()[0]["message"], "a last line");
}

#[test]
fn what_the_handler_has_reported_itself_is_not_reported_over() {
    let skipping =
        SessionSettings { attempts_max: Some(1), on_failure: OnFailure::Skip, ..settings() };
    for outcome in [Outcome::Succeeded, failed()] {
        let mut told = Told::new(skipping.clone(), IN_SESSION);
        let summary = RunSummary { is_told: true, ..RunSummary::default() };
        told.finish_with(outcome, summary);
        assert_eq!(told.told(), [] as [Value; 0]);
        assert_eq!(told.script.session.status(told.script.now).events_held, 0);
    }
}
