//! What Linear's user sees, written down as it appears: some of it disappears again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use relay_tests::{
    linear::{ActivityView, FakeLinear, SessionStatus, SessionView},
    until,
};
use tokio::task::AbortHandle;

/// By issue, in the order of their appearance.
type Seen = Arc<Mutex<BTreeMap<String, Vec<ActivityView>>>>;

/// Looks at Linear all the time.
pub(crate) struct Watch {
    linear: FakeLinear,
    seen: Seen,
    looking: AbortHandle,
}

/// A session, as it was shown from its beginning on.
pub(crate) struct Shown {
    pub(crate) delegated_ms: u64,
    pub(crate) title: String,
    pub(crate) view: SessionView,
    pub(crate) seen: Vec<ActivityView>,
}

impl Watch {
    pub(crate) fn start(linear: &FakeLinear, issues: &'static [&'static str]) -> Self {
        let seen = Seen::default();
        let (watched, written) = (linear.clone(), Arc::clone(&seen));
        let looking = tokio::spawn(async move {
            loop {
                issues.iter().for_each(|issue| look(&watched, issue, &written));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { linear: linear.clone(), seen, looking: looking.abort_handle() }
    }

    /// Waits until a kind of activity is shown that has these words.
    pub(crate) async fn until(&self, issue: &str, kind: &str, words: &str) {
        until(&format!("{issue}: {kind}: {words}"), async || {
            look(&self.linear, issue, &self.seen);
            let seen = self.seen.lock().unwrap();
            let mut seen = seen.get(issue)?.iter();
            seen.any(|one| one.kind == kind && one.text.contains(words)).then_some(())
        })
        .await;
    }

    /// All that was seen of a session.
    pub(crate) fn shown(&self, issue: &str, title: &str, delegated_ms: u64) -> Shown {
        look(&self.linear, issue, &self.seen);
        let view = self.linear.session(issue).unwrap();
        let seen = self.seen.lock().unwrap().get(issue).cloned().unwrap_or_default();
        Shown { delegated_ms, title: title.to_owned(), view, seen }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
        if std::thread::panicking() {
            eprintln!("what Linear has shown: {:#?}", self.seen.lock());
        }
    }
}

fn look(linear: &FakeLinear, issue: &str, seen: &Seen) {
    let Ok(session) = linear.session(issue) else { return };
    let mut seen = seen.lock().unwrap();
    let seen = seen.entry(issue.to_owned()).or_default();
    for activity in session.activities {
        if !seen.iter().any(|one| one.id == activity.id) {
            seen.push(activity);
        }
    }
}

impl Shown {
    /// How long Linear waited for the first word.
    pub(crate) fn first_answer_ms(&self) -> u64 {
        self.view.first_response_ms.unwrap_or(u64::MAX)
    }

    /// The texts of one kind that stay.
    pub(crate) fn texts(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.view.activities.iter().filter(|one| one.kind == kind);
        of_kind.map(|one| one.text.as_str()).collect()
    }

    /// Whether this was shown, if only for a while.
    pub(crate) fn has_shown(&self, words: &str) -> bool {
        self.seen.iter().any(|one| one.text.contains(words))
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.view.status == SessionStatus::Complete
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{}  {}: {}, first answer after {}",
            self.view.issue,
            self.title,
            self.view.status.as_str(),
            seconds(self.first_answer_ms())
        );
        for one in &self.seen {
            let after = seconds(one.at_ms.saturating_sub(self.delegated_ms));
            let who =
                if one.kind == "prompt" { format!("{}: ", one.author) } else { String::new() };
            let stays = self.view.activities.iter().any(|left| left.id == one.id);
            let note = if stays { "" } else { "  (until the next)" };
            println!("  {after:>8}  {:<9}  {who}{}{note}", one.kind, one.text);
        }
        for step in self.view.plan.as_array().into_iter().flatten() {
            println!("      plan  {:<9}  {}", text(&step["status"]), text(&step["content"]));
        }
        for (label, url) in &self.view.urls {
            println!("      link  {label:<9}  {url}");
        }
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a demo")]
pub(crate) fn seconds(milliseconds: u64) -> String {
    format!("{:.2} s", milliseconds as f64 / 1000.0)
}
