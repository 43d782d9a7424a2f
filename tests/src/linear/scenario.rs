//! What is to happen, and when, as data: for the demo, and for whoever drives the binary.
//!
//! A scenario is a JSON array of steps, or one step on each line. A step is an object with `do`,
//! and optionally `at_ms`: how long after the start of the scenario it happens; without it, at
//! once after the one before. The steps, with their fields (`?`: may be left out):
//!
//! | `do` | fields |
//! |---|---|
//! | `organization` | `key`, `name` |
//! | `user` | `organization`, `name`, `email`, `admin?` |
//! | `admin`, `active` | `user`, `value` |
//! | `team` | `organization`, `key`, `name`, `members?`, `private?` |
//! | `member` | `team`, `user`, `value` |
//! | `issue` | `team`, `by`, `title`, `description?` |
//! | `install`, `uninstall` | `organization` |
//! | `delegate`, `undelegate` | `issue`, `by` |
//! | `assign` | `issue`, `by`, `to?` (nobody) |
//! | `comment` | `issue`, `by`, `body`, `parent?` (a comment's id) |
//! | `mention` | `issue`, `by`, `body` |
//! | `prompt` | `session` (an id, or the issue), `by`, `body` |
//! | `stop` | `session`, `by` |
//! | `react` | `issue`, `by`, `emoji`, `comment?` |
//! | `notify` | `kind`, `issue`, `by`, `comment?` |
//! | `team_access` | `added?`, `removed?`: lists of teams |
//! | `webhook` | `url?`, `secret?`, `time_scale?`, `retry_stamp?` (`kept`, `renewed`) |
//! | `rotate_secret`, `enable_webhook`, `hold` | |
//! | `release` | `reversed?` |
//! | `duplicate_next` | `count` |
//! | `redeliver` | `delivery` |
//! | `fault` | `target` (`token`, `graphql`, a root field or an operation's name), `kind`, `count?` (1) |
//! | `latency` | `ms` |
//! | `limit` | `requests_per_hour` |
//! | `advance` | `ms` |

use std::{fmt, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{FakeLinear, FaultKind, Refusal, RetryStamp};

/// Something to be done at a moment.
#[derive(Clone, Debug, Deserialize)]
pub struct TimedStep {
    /// After the start of the scenario; at once, if it isn't given.
    #[serde(default)]
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub step: Step,
}

/// Something to be done: the module's documentation lists them.
#[derive(Clone, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table at the head of this module is their documentation")]
pub enum Step {
    Organization {
        key: String,
        name: String,
    },
    User {
        organization: String,
        name: String,
        email: String,
        #[serde(default)]
        admin: bool,
    },
    Admin {
        user: String,
        value: bool,
    },
    Active {
        user: String,
        value: bool,
    },
    Team {
        organization: String,
        key: String,
        name: String,
        #[serde(default)]
        members: Vec<String>,
        #[serde(default)]
        private: bool,
    },
    Member {
        team: String,
        user: String,
        value: bool,
    },
    Issue {
        team: String,
        by: String,
        title: String,
        #[serde(default)]
        description: String,
    },
    Install {
        organization: String,
    },
    Uninstall {
        organization: String,
    },
    Delegate {
        issue: String,
        by: String,
    },
    Undelegate {
        issue: String,
        by: String,
    },
    Assign {
        issue: String,
        by: String,
        to: Option<String>,
    },
    Comment {
        issue: String,
        by: String,
        body: String,
        parent: Option<String>,
    },
    Mention {
        issue: String,
        by: String,
        body: String,
    },
    Prompt {
        session: String,
        by: String,
        body: String,
    },
    Stop {
        session: String,
        by: String,
    },
    React {
        issue: String,
        by: String,
        emoji: String,
        comment: Option<String>,
    },
    Notify {
        kind: String,
        issue: String,
        by: String,
        comment: Option<String>,
    },
    TeamAccess {
        #[serde(default)]
        added: Vec<String>,
        #[serde(default)]
        removed: Vec<String>,
    },
    Webhook {
        url: Option<String>,
        secret: Option<String>,
        time_scale: Option<f64>,
        retry_stamp: Option<RetryStamp>,
    },
    RotateSecret,
    EnableWebhook,
    Hold,
    Release {
        #[serde(default)]
        reversed: bool,
    },
    DuplicateNext {
        count: u32,
    },
    Redeliver {
        delivery: String,
    },
    Fault {
        target: String,
        kind: FaultKind,
        #[serde(default = "once")]
        count: u32,
    },
    Latency {
        ms: u64,
    },
    Limit {
        requests_per_hour: u32,
    },
    Advance {
        ms: u64,
    },
}

fn once() -> u32 {
    1
}

/// A webhook's secret must not be printed.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Step")
    }
}

/// Reads a scenario: a JSON array, or a step on each line.
pub fn read_scenario(text: &str) -> Result<Vec<TimedStep>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))
        })
        .collect()
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

impl FakeLinear {
    /// Plays a scenario to its end. Stops at a step that can't be done.
    pub async fn play(&self, steps: &[TimedStep]) -> Result<(), Refusal> {
        let began = Instant::now();
        for TimedStep { at_ms, step } in steps {
            sleep_until(began + Duration::from_millis(*at_ms)).await;
            self.perform(step)?;
        }
        Ok(())
    }

    /// Does one step. Gives back what was made, if it has an id.
    pub fn perform(&self, step: &Step) -> Result<Value, Refusal> {
        let none = |result: Result<(), Refusal>| result.map(|()| Value::Null);
        let id = |result: Result<String, Refusal>| result.map(Value::String);
        match step {
            Step::Organization { key, name } => id(Ok(self.add_organization(key, name))),
            Step::User { organization, name, email, admin } => {
                id(self.add_user(organization, name, email, *admin))
            }
            Step::Admin { user, value } => none(self.set_admin(user, *value)),
            Step::Active { user, value } => none(self.set_active(user, *value)),
            Step::Team { organization, key, name, members, private } => {
                id(self.add_team(organization, (key, name), &texts(members), *private))
            }
            Step::Member { team, user, value } => none(self.set_member(team, user, *value)),
            Step::Issue { team, by, title, description } => {
                id(self.add_issue(team, by, (title, description)))
            }
            Step::Install { organization } => id(self.install(organization)),
            Step::Uninstall { organization } => none(self.uninstall(organization)),
            Step::Delegate { issue, by } => id(self.delegate(issue, by)),
            Step::Undelegate { issue, by } => none(self.undelegate(issue, by)),
            Step::Assign { issue, by, to } => none(self.assign(issue, by, to.as_deref())),
            Step::Comment { issue, by, body, parent } => {
                id(self.comment(issue, by, body, parent.as_deref()))
            }
            Step::Mention { issue, by, body } => id(self.mention(issue, by, body)),
            Step::Prompt { session, by, body } => id(self.prompt(session, by, body)),
            Step::Stop { session, by } => id(self.stop(session, by)),
            Step::React { issue, by, emoji, comment } => {
                id(self.react(issue, by, emoji, comment.as_deref()))
            }
            Step::Notify { kind, issue, by, comment } => {
                id(self.notify(kind, issue, by, comment.as_deref()))
            }
            Step::TeamAccess { added, removed } => {
                none(self.change_team_access(&texts(added), &texts(removed)))
            }
            other => self.perform_on_service(other),
        }
    }

    /// What Linear itself does, rather than its users.
    fn perform_on_service(&self, step: &Step) -> Result<Value, Refusal> {
        match step {
            Step::Webhook { url, secret, time_scale, retry_stamp } => self.set_webhook(|options| {
                options.url = url.clone().or(options.url.take());
                options.secret = secret.clone().unwrap_or_else(|| options.secret.clone());
                options.time_scale = time_scale.unwrap_or(options.time_scale);
                options.retry_stamp = retry_stamp.unwrap_or(options.retry_stamp);
            }),
            Step::RotateSecret => return Ok(json!({"secret": self.rotate_webhook_secret()})),
            Step::EnableWebhook => self.enable_webhook(),
            Step::Hold => self.hold_webhooks(),
            Step::Release { reversed } => self.release_webhooks(*reversed),
            Step::DuplicateNext { count } => self.duplicate_next_webhooks(*count),
            Step::Redeliver { delivery } => self.redeliver(delivery),
            Step::Fault { target, kind, count } => self.fail_next(target, *kind, *count),
            Step::Latency { ms } => self.set_latency(Duration::from_millis(*ms)),
            Step::Limit { requests_per_hour } => self.set_request_limit(*requests_per_hour),
            Step::Advance { ms } => self.advance(Duration::from_millis(*ms)),
            _ => return Err(Refusal::internal()),
        }
        Ok(Value::Null)
    }
}
