//! Goal: what the relay says in Linear is there once, when workerd dies between "Linear has
//! accepted it" and "its row is removed from the outbox".
//!
//! Method: a Linear that does what it is asked and never answers, so that every word is surely in
//! that window when workerd is killed; then it answers again, and what its users see is counted.
//! Each kind of word: the relay's own first one, a report's, an activity, a plan, a comment, a
//! reaction. Once with a Linear that gives back what an id has made, once with one that refuses an
//! id that was used. After some kills something else wakes the installation, after the others
//! nothing does but its own alarm, which then comes a second later.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use relay_tests::{
    Answer, EnrolledEdge, RelayOptions, Scene,
    linear::{FaultKind, GRAPHQL, LinearOptions, RepeatedId, SessionView},
    until,
};
use reqwest::Method;
use serde_json::{Value, json};

const ROUNDS: usize = 3;
/// So many of Ada's issues are delegated at once: their first words go in one request.
const UNATTENDED: usize = 3;

struct Stage {
    scene: Scene,
    edge: EnrolledEdge,
}

/// What a round is about: sessions of Ada's, for whom nobody speaks, and what a machine of Bob's
/// speaks in.
struct Round {
    number: usize,
    unattended: Vec<String>,
    sessions: BTreeMap<&'static str, String>,
    issues: BTreeMap<&'static str, String>,
    comments: BTreeMap<&'static str, String>,
}

impl Stage {
    async fn start(repeated_id: RepeatedId) -> Self {
        let linear = LinearOptions { repeated_id, ..LinearOptions::default() };
        let scene = Scene::installed_with(RelayOptions::default(), linear).await;
        let members = [scene.ada.as_str(), &scene.bob];
        scene.linear.add_team(&scene.acme, ("ENG", "Engineering"), &members, false).unwrap();
        let edge = scene.relay.enrol(&scene.acme, &scene.bob).await;
        Self { scene, edge }
    }

    /// Sessions and notifications as they are before anything hangs.
    async fn prepare(&self, number: usize) -> Round {
        let mut round = Round {
            number,
            unattended: Vec::new(),
            sessions: BTreeMap::new(),
            issues: BTreeMap::new(),
            comments: BTreeMap::new(),
        };
        for word in ["processing", "completed", "thought", "plan"] {
            let issue = self.issue(&self.scene.bob);
            round
                .sessions
                .insert(word, self.scene.linear.delegate(&issue, &self.scene.bob).unwrap());
        }
        for word in ["reaction", "comment"] {
            let (linear, bob) = (&self.scene.linear, &self.scene.bob);
            let issue = self.issue(bob);
            let comment = linear.comment(&issue, bob, "Look here", None).unwrap();
            linear.notify("issueCommentMention", &issue, bob, Some(&comment)).unwrap();
            round.issues.insert(word, issue);
            round.comments.insert(word, comment);
        }
        for session in round.sessions.values() {
            self.until_said(session, "No machine is connected.").await;
        }
        round
    }

    fn issue(&self, user: &str) -> String {
        self.scene.linear.add_issue("ENG", user, ("It stops", "After a restart.")).unwrap()
    }

    /// The event about which the page of Bob's newest events says so.
    async fn event(&self, kind: &str, member: &str, value: &str) -> Value {
        let path = "/events?order=desc&limit=100";
        until(&format!("{kind} of {value}"), async || {
            let request = self.scene.relay.as_edge(&self.edge, Method::GET, path);
            let page = Answer::to(request).await.ok();
            let mut events = page["events"].as_array()?.iter();
            let found = events.find(|event| event["kind"] == kind && event[member] == value)?;
            Some(found["id"].clone())
        })
        .await
    }

    /// Says everything at once, to a Linear that does it and doesn't answer.
    async fn speak(&self, round: &mut Round) {
        let created = "AgentSessionEvent.created";
        let notified = "AppUserNotification.issueCommentMention";
        let text = |word: &str| format!("{word} of round {}", round.number);
        let mut events = BTreeMap::new();
        for (word, session) in &round.sessions {
            events.insert(*word, self.event(created, "session", session).await);
        }
        for (word, issue) in &round.issues {
            let issue = self.scene.linear.issue_id(issue).unwrap();
            events.insert(*word, self.event(notified, "issue", &issue).await);
        }
        self.scene.linear.fail_next(GRAPHQL, FaultKind::HangAfter, u32::MAX);
        for _ in 0..UNATTENDED {
            let issue = self.issue(&self.scene.ada);
            let session = self.scene.linear.delegate(&issue, &self.scene.ada).unwrap();
            round.unattended.push(session);
        }
        for (word, status) in [
            ("processing", "processing"),
            ("completed", "completed"),
            ("reaction", "processing"),
            ("comment", "completed"),
        ] {
            let body = json!({ "eventId": events[word], "status": status, "message": text(word) });
            self.post("/events/status", body).await;
        }
        let steps = json!([{ "content": text("plan"), "status": "inProgress" }]);
        for (word, activity) in [
            ("thought", json!({ "type": "thought", "body": text("thought") })),
            ("plan", json!({ "type": "plan", "steps": steps })),
        ] {
            self.post("/events/activity", json!({ "eventId": events[word], "activity": activity }))
                .await;
        }
    }

    async fn post(&self, path: &str, body: Value) {
        let request = self.scene.relay.as_edge(&self.edge, Method::POST, path);
        Answer::to(request.json(&body)).await.ok();
    }

    fn session(&self, id: &str) -> SessionView {
        self.scene.linear.session(id).unwrap()
    }

    /// How often something with this text was said in a session.
    fn times(&self, session: &str, text: &str) -> usize {
        self.session(session).activities.iter().filter(|one| one.text.contains(text)).count()
    }

    /// How many things with this text a session was given, also those that others have replaced.
    fn shown_for_a_while(&self, session: &str, text: &str) -> usize {
        let requests = self.scene.linear.requests();
        let inputs = requests.iter().filter_map(|request| request.variables.as_object());
        let inputs = inputs.flat_map(|variables| variables.values());
        let about = inputs.filter(|input| {
            let said = input["content"]["body"].as_str();
            input["agentSessionId"] == session && said.is_some_and(|said| said.contains(text))
        });
        let ids: BTreeSet<&str> = about.map(|input| input["id"].as_str().unwrap()).collect();
        ids.len()
    }

    async fn until_said(&self, session: &str, text: &str) {
        until(text, async || (self.times(session, text) > 0).then_some(())).await;
    }

    fn reactions(&self, comment: &str) -> usize {
        let deliveries = self.scene.linear.deliveries();
        let reactions = deliveries.iter().filter(|delivery| delivery.kind == "Reaction.create");
        reactions.filter(|delivery| delivery.body.contains(comment)).count()
    }

    fn comments(&self, issue: &str, text: &str) -> usize {
        let comments = self.scene.linear.comments(issue).unwrap();
        comments.iter().filter(|body| body.contains(text)).count()
    }

    /// How often each word of a round is in Linear.
    fn counts(&self, round: &Round) -> BTreeMap<String, usize> {
        let text = |word: &str| format!("{word} of round {}", round.number);
        let plan = |id: &str| usize::from(self.session(id).plan[0]["content"] == text("plan"));
        let mut counts: BTreeMap<String, usize> = round
            .sessions
            .iter()
            .map(|(word, session)| {
                let count = match *word {
                    "processing" => self.shown_for_a_while(session, "Working on it"),
                    "plan" => plan(session),
                    word => self.times(session, &text(word)),
                };
                ((*word).to_owned(), count)
            })
            .collect();
        for (index, session) in round.unattended.iter().enumerate() {
            let count = self.session(session).activities.len();
            counts.insert(format!("first word {index}"), count);
        }
        let comments = self.comments(&round.issues["comment"], &text("comment"));
        counts.insert("comment".into(), comments);
        counts.insert("reaction".into(), self.reactions(&round.comments["reaction"]));
        counts
    }

    /// The ids of what Linear was asked to create, with or without an answer.
    fn ids(&self, from: usize, is_answered: bool) -> BTreeSet<String> {
        let requests = self.scene.linear.requests();
        let requests = requests.iter().skip(from);
        let inputs = requests
            .filter(|request| request.status.is_some() == is_answered)
            .flat_map(|request| request.variables.as_object().cloned().unwrap_or_default());
        inputs.filter_map(|(_, input)| input["id"].as_str().map(str::to_owned)).collect()
    }

    async fn kill(&mut self, round: usize) {
        self.scene.relay.kill_workerd();
        // Nothing of the dead one is on its way any more: what it was told is on no disk.
        self.scene.linear.stop_failing();
        self.scene.relay.restarted().await;
        if round.is_multiple_of(2) {
            let issue = self.issue(&self.scene.ada);
            self.scene.linear.delegate(&issue, &self.scene.ada).unwrap();
        }
    }

    async fn until_the_outbox_is_empty(&self) {
        until("an empty outbox", async || {
            let status = self.scene.installation(&self.scene.acme).await;
            assert_eq!(status["outbox"]["given_up"], 0, "{status}");
            (status["outbox"]["waiting"] == 0).then_some(())
        })
        .await;
    }
}

async fn check(repeated_id: RepeatedId) {
    let mut stage = Stage::start(repeated_id).await;
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let mut round = stage.prepare(number).await;
        stage.until_the_outbox_is_empty().await;
        let asked_before = stage.scene.linear.requests().len();
        stage.speak(&mut round).await;
        until("every word at Linear", async || {
            stage.counts(&round).values().all(|count| *count > 0).then_some(())
        })
        .await;
        let status = stage.scene.installation(&stage.scene.acme).await;
        let words = stage.counts(&round).len();
        assert_eq!(status["outbox"]["waiting"], words, "Linear has answered nothing");
        stage.kill(number).await;
        stage.until_the_outbox_is_empty().await;
        rounds.push(round);
        for round in &rounds {
            let counts = stage.counts(round);
            assert!(counts.values().all(|count| *count == 1), "round {}: {counts:?}", round.number);
        }
        // A plan has no id: it is the same plan however often it is set.
        let without_answer = stage.ids(asked_before, false);
        assert_eq!(without_answer.len(), words - 1);
        assert!(stage.ids(asked_before, true).is_superset(&without_answer), "each was asked again");
        println!("round {number}: {words} words, none lost, none twice");
    }
}

#[tokio::test]
async fn what_was_said_before_a_kill_is_said_once() {
    check(RepeatedId::Returned).await;
}

#[tokio::test]
async fn what_was_said_before_a_kill_is_said_once_where_used_ids_are_refused() {
    check(RepeatedId::Refused).await;
}
