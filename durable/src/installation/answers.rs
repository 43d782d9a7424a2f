//! What a machine's word becomes in Linear.

use std::collections::BTreeMap;

use relay_schemas::{
    Abandoned, ActivityCommand, ActivityContent, Announcement, EdgeId, EventId, ReportCommand,
    ReportStatus, UnixMillis,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Call, Operation, StandIn, StandInReason, Urgency, call_id};

/// An event that was announced, as long as somebody may report on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AnnouncedEvent {
    pub(super) announcement: Announcement,
    /// Whose token its answers are made with.
    pub(super) app: String,
    /// What each machine has said last in its present run, if it has answered, asked, or given up in
    /// words of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) last_words: BTreeMap<EdgeId, LastWord>,
    /// Until when it is kept.
    pub(super) until: UnixMillis,
}

/// A call that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) urgency: Urgency,
    pub(super) operation: Operation,
    pub(super) stand_in: Option<StandIn>,
    pub(super) reason: Option<StandInReason>,
    pub(super) first_after: Option<UnixMillis>,
    pub(super) not_before: UnixMillis,
    pub(super) is_replacement: bool,
}

impl Wanted {
    /// What a machine has said.
    fn now(id: String, urgency: Urgency, operation: Operation, now: UnixMillis) -> Self {
        Self {
            id,
            urgency,
            operation,
            stand_in: None,
            reason: None,
            first_after: None,
            not_before: now,
            is_replacement: false,
        }
    }

    /// What is shown in place of an answer that Linear refuses for good: a person waits for it.
    pub(super) fn in_place_of(
        refused: &Call,
        (code, message): (&str, &str),
        now: UnixMillis,
    ) -> Option<Self> {
        let Operation::Activity { session, .. } = &refused.operation else { return None };
        let is_gone = [code, message].iter().any(|text| says_not_found(text));
        if refused.is_replacement || !refused.is_answer() || is_gone {
            return None;
        }
        let body = format!("The answer could not be shown: {code}.");
        let content = json!({ "type": "error", "body": body });
        let (session, ephemeral, options) = (session.clone(), false, None);
        let operation = Operation::Activity { session, content, ephemeral, options };
        let id = call_id(refused.event, "relay", "refused", &refused.id);
        let urgency = refused.urgency.min(Urgency::Final);
        Some(Self { is_replacement: true, ..Self::now(id, urgency, operation, now) })
    }
}

/// What ended a machine's turn by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LastWord {
    /// A response or a question.
    Answer,
    /// An error.
    Error,
}

impl LastWord {
    /// What an activity is; `None` if work goes on after it.
    pub(super) fn of(content: &ActivityContent) -> Option<Self> {
        match content {
            ActivityContent::Error { .. } => Some(Self::Error),
            content => content.ends_turn().then_some(Self::Answer),
        }
    }
}

/// Machines whose last words on one event are kept: the event's row is written anew for each.
const LAST_WORDS_MAX: usize = 64;

/// Edges that are named in one sentence.
const EDGES_NAMED_MAX: usize = 3;

impl AnnouncedEvent {
    fn event(&self) -> EventId {
        self.announcement.event
    }

    /// When Linear's clock for a new session began.
    pub(super) fn called_at(&self) -> Option<UnixMillis> {
        let announcement = &self.announcement;
        let is_new = announcement.kind == "AgentSessionEvent.created";
        (is_new && announcement.session.is_some()).then_some(announcement.sent_at)
    }

    /// Takes what a machine has said last. `true`: that is new, and to be stored.
    pub(super) fn take_last_word(&mut self, edge: &EdgeId, last_word: Option<LastWord>) -> bool {
        let Some(last_word) = last_word else { return self.last_words.remove(edge).is_some() };
        let is_new = !self.last_words.contains_key(edge);
        if is_new && self.last_words.len() >= LAST_WORDS_MAX {
            return false;
        }
        self.last_words.insert(edge.clone(), last_word) != Some(last_word)
    }

    /// Its calls are made one after the other with those of the same session, or thread.
    pub(super) fn lane(&self) -> String {
        let announcement = &self.announcement;
        let about = announcement
            .session
            .as_ref()
            .or(announcement.parent_comment.as_ref())
            .or(announcement.comment.as_ref())
            .or(announcement.issue.as_ref());
        about.cloned().unwrap_or_default()
    }

    /// What the relay says if no machine speaks first, and when.
    pub(super) fn stand_in(&self, speak_at: UnixMillis, now: UnixMillis) -> Option<Wanted> {
        let announcement = &self.announcement;
        let session = announcement.session.clone()?;
        let edges = name_all(&announcement.edges);
        let (content, not_before) = match (announcement.is_stop(), announcement.is_held) {
            (true, true) => {
                let body =
                    format!("Stop was passed on to {edges}, which has not confirmed it yet.");
                (response(&body), speak_at)
            }
            (true, false) => {
                let body = "Stopped. The machine that has this session isn't connected; it is \
                            told as soon as it comes back.";
                (response(body), now)
            }
            (false, _) if announcement.edges.is_empty() => {
                let body = "No machine is connected. Your request is queued and is taken up as \
                            soon as one connects.";
                (thought(body), now)
            }
            (false, _) => (thought(&format!("Waiting for {edges}.")), speak_at),
        };
        // What a machine is expected to say next takes the place of "waiting".
        let ephemeral = !announcement.is_stop() && !announcement.edges.is_empty();
        Some(Wanted {
            id: call_id(self.event(), "relay", "announced", "stand-in"),
            urgency: Urgency::First,
            operation: Operation::Activity { session, content, ephemeral, options: None },
            stand_in: Some(match announcement.is_stop() {
                true => StandIn::ForStop,
                false => StandIn::ForFirstWord,
            }),
            reason: Some(match (announcement.is_stop(), announcement.edges.is_empty()) {
                (true, _) if announcement.is_held => StandInReason::StopUnconfirmed,
                (true, _) => StandInReason::StopOfNobody,
                (false, true) => StandInReason::Nobody,
                (false, false) => StandInReason::Silence,
            }),
            first_after: None,
            not_before,
            is_replacement: false,
        })
    }

    /// What a report becomes.
    pub(super) fn answer(&self, report: &ReportCommand, now: UnixMillis) -> Option<Wanted> {
        let (urgency, operation) = match &self.announcement.session {
            Some(session) => self.answer_in_session(session, report)?,
            None => (Urgency::Ordinary, self.answer_in_thread(report)?),
        };
        // One reaction is enough, however many machines have begun.
        let who = match operation {
            Operation::Reaction { .. } => "",
            _ => report.edge.id.as_str(),
        };
        // The same machine may be given it again, and fail for good.
        let what = if is_retried(report) { "retried" } else { report.status.as_str() };
        let id = call_id(self.event(), who, what, "report");
        Some(Wanted::now(id, urgency, operation, now))
    }

    /// Whether a report says of a stop that it has ended, and nothing else.
    pub(super) fn is_bare_stop(&self, report: &ReportCommand) -> bool {
        let is_end = report.status == ReportStatus::Completed && words(&report.message).is_none();
        self.announcement.is_stop() && is_end
    }

    /// What it is said that no machine has finished it; nothing where any has answered.
    pub(super) fn abandon(&self, abandoned: &Abandoned, now: UnixMillis) -> Option<Wanted> {
        if !self.last_words.is_empty() {
            return None;
        }
        let body = abandonment(abandoned);
        let (urgency, operation) = match self.announcement.session.clone() {
            Some(session) => {
                let content = json!({ "type": "error", "body": body });
                let (ephemeral, options) = (false, None);
                let activity = Operation::Activity { session, content, ephemeral, options };
                (Urgency::Final, activity)
            }
            None => (Urgency::Ordinary, self.comment(body)),
        };
        let id = call_id(self.event(), "relay", "abandoned", "report");
        Some(Wanted::now(id, urgency, operation, now))
    }

    fn answer_in_session(
        &self,
        session: &str,
        report: &ReportCommand,
    ) -> Option<(Urgency, Operation)> {
        let last_word = self.last_words.get(&report.edge.id);
        let (urgency, content, ephemeral) = match report.status {
            ReportStatus::Processing => {
                let body = format!("Working on it on {}.", name_of(&report.edge.name));
                (Urgency::First, thought(&body), true)
            }
            // It has said itself what there was to say.
            ReportStatus::Completed if last_word.is_some() => return None,
            ReportStatus::Failed if last_word == Some(&LastWord::Error) => return None,
            ReportStatus::Completed => {
                let default = if self.announcement.is_stop() { "Stopped." } else { "Done." };
                (Urgency::Final, response(words(&report.message).unwrap_or(default)), false)
            }
            ReportStatus::Failed if is_retried(report) => {
                let name = name_of(&report.edge.name);
                let body =
                    format!("It is tried again. On {name} it has failed: {}", failure(report));
                (Urgency::Ordinary, thought(&body), false)
            }
            ReportStatus::Failed => {
                let content = json!({ "type": "error", "body": failure(report) });
                (Urgency::Final, content, false)
            }
        };
        let urgency = if self.announcement.is_stop() { Urgency::First } else { urgency };
        let session = session.to_owned();
        Some((urgency, Operation::Activity { session, content, ephemeral, options: None }))
    }

    fn answer_in_thread(&self, report: &ReportCommand) -> Option<Operation> {
        let announcement = &self.announcement;
        let body = match report.status {
            ReportStatus::Processing => {
                let issue = announcement.comment.is_none().then(|| announcement.issue.clone());
                return Some(Operation::Reaction {
                    issue: issue.flatten(),
                    comment: announcement.comment.clone(),
                    emoji: "eyes".into(),
                });
            }
            ReportStatus::Completed => words(&report.message)?.to_owned(),
            ReportStatus::Failed if is_retried(report) => return None,
            ReportStatus::Failed => failure(report),
        };
        Some(self.comment(body))
    }

    fn comment(&self, body: String) -> Operation {
        let announcement = &self.announcement;
        let parent = announcement.parent_comment.as_ref().or(announcement.comment.as_ref());
        Operation::Comment { issue: announcement.issue.clone(), parent: parent.cloned(), body }
    }

    /// What an activity of a machine becomes; `None` where there is no session to show it in.
    pub(super) fn show(&self, command: &ActivityCommand, now: UnixMillis) -> Option<Wanted> {
        let session = self.announcement.session.clone()?;
        let content = &command.activity.content;
        let operation = match (content, content.linear_content()) {
            (ActivityContent::Plan { steps }, _) => {
                Operation::Session { session, input: json!({ "plan": steps }) }
            }
            (ActivityContent::Urls { urls }, _) => {
                Operation::Session { session, input: json!({ "externalUrls": urls }) }
            }
            (_, Some(linear)) => Operation::Activity {
                session,
                content: linear,
                ephemeral: is_ephemeral(content),
                options: options_of(content),
            },
            (_, None) => return None,
        };
        let urgency = if content.ends_turn() { Urgency::Final } else { Urgency::Ordinary };
        let id = activity_call_id(command);
        Some(Wanted::now(id, urgency, operation, now))
    }
}

/// Linear has a text for it, and no code.
fn says_not_found(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("not found") || text.contains("not_found")
}

/// The id that an activity has at Linear.
pub(super) fn activity_call_id(command: &ActivityCommand) -> String {
    let own = command.activity.id.as_deref().unwrap_or_default();
    call_id(command.event, command.edge.id.as_str(), own, "activity")
}

fn is_ephemeral(content: &ActivityContent) -> bool {
    matches!(
        content,
        ActivityContent::Thought { ephemeral: true, .. }
            | ActivityContent::Action { ephemeral: true, .. }
    )
}

fn options_of(content: &ActivityContent) -> Option<Value> {
    match content {
        ActivityContent::Elicitation { options, .. } if !options.is_empty() => Some(json!(options)),
        _ => None,
    }
}

fn thought(body: &str) -> Value {
    json!({ "type": "thought", "body": body })
}

fn response(body: &str) -> Value {
    json!({ "type": "response", "body": body })
}

fn words(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// Whether it is no end of the event that it has failed.
pub(super) fn is_retried(report: &ReportCommand) -> bool {
    report.status == ReportStatus::Failed && report.is_retried
}

fn abandonment(abandoned: &Abandoned) -> String {
    let times = match abandoned.attempts {
        0 | 1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    let last =
        abandoned.edge.as_deref().map(|name| format!(", the last time on {}", name_of(name)));
    let why = words(&abandoned.error).map(|error| format!(" {error}")).unwrap_or_default();
    let last = last.unwrap_or_default();
    format!("This was tried {times}{last}, and no machine has finished it. It is given up.{why}")
}

/// What it said last is mostly why; how it ended stands below.
fn failure(report: &ReportCommand) -> String {
    match (words(&report.message), words(&report.error)) {
        (Some(message), Some(error)) if message != error => return format!("{message}\n\n{error}"),
        (Some(text), _) | (None, Some(text)) => return text.to_owned(),
        (None, None) => {}
    }
    let name = name_of(&report.edge.name);
    match report.exit_code {
        Some(code) => format!("The handler on {name} failed with exit code {code}."),
        None => format!("The handler on {name} failed."),
    }
}

/// A machine's name is its owner's text: as code it is neither a link nor a mention.
fn name_of(name: &str) -> String {
    let plain: String =
        name.chars().filter(|character| !character.is_control() && *character != '`').collect();
    if plain.trim().is_empty() { "a machine".into() } else { format!("`{}`", plain.trim()) }
}

fn name_all(names: &[String]) -> String {
    let mut named: Vec<String> =
        names.iter().take(EDGES_NAMED_MAX).map(|name| name_of(name)).collect();
    let rest = names.len() - named.len();
    if rest > 0 {
        named.push(format!("{rest} more"));
    }
    match named.split_last() {
        None => "a machine".into(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
