//! Bob delegates four issues to the app, and his laptop works on them.

use std::time::{Duration, Instant};

use relay_tests::{Scene, linear::ANSWER_LIMIT_MS, until};
use tokio::process::Child;

use crate::{
    laptop::Laptop,
    shown::{Shown, Watch, seconds},
    verdict::Verdict,
};

/// Each issue with its title.
const ISSUES: [(&str, &str); 4] = [
    ("ENG-1", "The stream stops after a restart"),
    ("ENG-2", "The list is in no order"),
    ("ENG-3", "The log is never closed"),
    ("ENG-4", "Rewrite everything"),
];

/// What the handler says at the end of its work.
const ANSWER: &str = "Mended: the cursor was stored too late.";

/// What Linear must show of a stop within.
const STOP_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn play(scene: &Scene, verdict: &mut Verdict) -> Vec<Shown> {
    scene.install(&scene.ada).await;
    println!("installed   by Ada, in a browser, in the workspace Acme & Sons");
    let members = [scene.ada.as_str(), &scene.bob];
    scene.linear.add_team(&scene.acme, ("ENG", "Engineering"), &members, false).unwrap();
    for (_, title) in ISSUES {
        scene.linear.add_issue("ENG", &scene.bob, (title, "It does.")).unwrap();
    }

    println!("laptop      edgerelay login");
    let laptop = Laptop::new(scene);
    println!("laptop      {}", laptop.sign_in(scene, &scene.bob).await);
    let whoami = laptop.who_am_i().await;
    println!("laptop      edgerelay whoami: {}, {}", whoami["name"], whoami["scopes"]);
    let (edge, user) = (&whoami["name"], &whoami["user"]);
    verdict.check("the laptop is signed in as Bob's", edge == "laptop" && user == &scene.bob);

    let watch = Watch::start(&scene.linear, &["ENG-1", "ENG-2", "ENG-3", "ENG-4"]);
    let story = Story { scene, laptop: &laptop, watch: &watch };
    let (first, client) = story.delegated_while_off().await;
    let second = story.delegated_live().await;
    let (third, client) = story.killed_in_the_middle(client).await;
    let (fourth, stopped_after) = story.stopped().await;
    drop(client);

    judge([&first, &second, &third, &fourth], stopped_after, verdict);
    vec![first, second, third, fourth]
}

struct Story<'a> {
    scene: &'a Scene,
    laptop: &'a Laptop,
    watch: &'a Watch,
}

impl Story<'_> {
    /// Bob delegates an issue; gives back when.
    fn delegate(&self, (issue, title): (&str, &str)) -> u64 {
        let delegated_ms = self.scene.linear.now_ms();
        self.scene.linear.delegate(issue, &self.scene.bob).unwrap();
        println!("Bob         delegates {issue}: {title}");
        delegated_ms
    }

    fn shown(&self, (issue, title): (&str, &str), delegated_ms: u64) -> Shown {
        self.watch.shown(issue, title, delegated_ms)
    }

    async fn delegated_while_off(&self) -> (Shown, Child) {
        let delegated_ms = self.delegate(ISSUES[0]);
        self.watch.until("ENG-1", "thought", "No machine is connected").await;
        let waited_ms = self.scene.linear.now_ms() - delegated_ms;
        println!("relay       says after {} that no machine is on", seconds(waited_ms));
        let client = self.laptop.listen();
        println!("laptop      edgerelay listen --exec 'exec sh handler.sh'");
        self.watch.until("ENG-1", "response", ANSWER).await;
        (self.shown(ISSUES[0], delegated_ms), client)
    }

    async fn delegated_live(&self) -> Shown {
        let delegated_ms = self.delegate(ISSUES[1]);
        self.watch.until("ENG-2", "response", ANSWER).await;
        let session = self.scene.linear.session("ENG-2").unwrap().id;
        self.scene.linear.prompt(&session, &self.scene.bob, "And after a crash?").unwrap();
        println!("Bob         asks in that session: And after a crash?");
        self.watch.until("ENG-2", "response", "Yes").await;
        self.shown(ISSUES[1], delegated_ms)
    }

    async fn killed_in_the_middle(&self, mut client: Child) -> (Shown, Child) {
        let delegated_ms = self.delegate(ISSUES[2]);
        self.watch.until("ENG-3", "thought", "Reading the issue").await;
        client.kill().await.unwrap();
        println!("laptop      the client is killed while its handler works, and started again");
        let client = self.laptop.listen();
        self.watch.until("ENG-3", "response", ANSWER).await;
        (self.shown(ISSUES[2], delegated_ms), client)
    }

    async fn stopped(&self) -> (Shown, Duration) {
        let delegated_ms = self.delegate(ISSUES[3]);
        self.watch.until("ENG-4", "thought", "Reading the issue").await;
        let session = self.scene.linear.session("ENG-4").unwrap().id;
        self.scene.linear.stop(&session, &self.scene.bob).unwrap();
        println!("Bob         stops that session, whose handler would work for ten minutes");
        let stopped_at = Instant::now();
        self.watch.until("ENG-4", "response", "Stopped halfway").await;
        let stopped_after = stopped_at.elapsed();
        // The stop is an event as well, and is answered, too.
        let answered = async || {
            let shown = self.shown(ISSUES[3], delegated_ms);
            (shown.texts("response").len() > 1).then_some(shown)
        };
        (until("the answer to the stop", answered).await, stopped_after)
    }
}

fn judge(all: [&Shown; 4], stopped_after: Duration, verdict: &mut Verdict) {
    let [off, live, killed, stopped] = all;
    for shown in all {
        let issue = &shown.view.issue;
        let is_in_time = shown.first_answer_ms() < ANSWER_LIMIT_MS && !shown.view.unresponsive;
        verdict.check(&format!("{issue} had a first answer within 10 s"), is_in_time);
        verdict.check(&format!("{issue} is complete"), shown.is_complete());
    }
    verdict.check(
        "ENG-1: the relay's own word, then the laptop's work, in order",
        off.texts("thought").first().is_some_and(|text| text.starts_with("No machine"))
            && off.texts("response") == [ANSWER],
    );
    verdict.check(
        "ENG-2: work was announced with the laptop's name, then shown step by step",
        live.has_shown("Working on it on `laptop`.")
            && live.texts("thought") == ["Reading the issue."]
            && live.texts("action") == ["Ran cargo test 1 failed", "Read docs/restart.md"],
    );
    let steps = live.view.plan.as_array();
    verdict.check(
        "ENG-2: the plan is done, the link is there",
        steps.is_some_and(|steps| steps.iter().all(|step| step["status"] == "completed"))
            && live.view.urls.len() == 1,
    );
    verdict.check(
        "ENG-2: the question got an answer of its own",
        live.texts("response") == [ANSWER, "Yes: it resumes by its cursor now."],
    );
    verdict.check(
        "ENG-3: begun again after the kill, and answered once",
        killed.texts("response") == [ANSWER],
    );
    verdict.check(
        "ENG-4: the stop ended the handler, which said so itself",
        stopped_after < STOP_LIMIT
            && stopped.texts("response") == ["Stopped halfway; nothing was changed.", "Stopped."],
    );
}
