use relay_schemas::{Activity, ActivityContent, EventId, limits::REPORT_TEXT_BYTES_MAX};

use super::RunSummary;
use crate::{activity::derived_id, fault::shorten};

/// What a run has said of its event: an answer, an error or a question must not get lost, whether it
/// can be shown in an agent session or not.
#[derive(Debug, Default)]
pub(super) struct Words {
    last: LastWord,
    /// Those that ended the turn so far.
    count: u32,
}

/// The newest that ended the turn.
#[derive(Debug, Default)]
enum LastWord {
    #[default]
    None,
    /// The report that follows says nothing more.
    Shown,
    /// The report says it.
    ForReport(String),
}

impl Words {
    /// Takes an activity in; gives it back as it is to be shown, where it can be.
    pub(super) fn take(
        &mut self,
        event: EventId,
        mut activity: Activity,
        is_shown: bool,
    ) -> Option<Activity> {
        if let Some(text) = closing_text(&activity.content) {
            self.last = if is_shown { LastWord::Shown } else { LastWord::ForReport(cut(text)) };
            let kind = activity.content.kind();
            activity.id.get_or_insert_with(|| derived_id(event, kind, self.count));
            self.count += 1;
        }
        is_shown.then_some(activity)
    }

    /// What the report of a success says.
    pub(super) fn of_success(self, summary: RunSummary) -> RunSummary {
        let message = match self.last {
            LastWord::None => summary.message,
            LastWord::Shown => None,
            LastWord::ForReport(text) => Some(text),
        };
        RunSummary { message, ..summary }
    }

    /// What the report of a failure says, and why it failed: in the handler's own words, if it has
    /// given any.
    pub(super) fn of_failure(self, error: &str, summary: RunSummary) -> (String, RunSummary) {
        match self.last {
            LastWord::None => (shorten(error.to_owned()), summary),
            LastWord::Shown => (shorten(error.to_owned()), RunSummary { message: None, ..summary }),
            LastWord::ForReport(text) => (text, RunSummary { message: None, ..summary }),
        }
    }
}

fn closing_text(content: &ActivityContent) -> Option<&str> {
    match content {
        ActivityContent::Elicitation { body, .. }
        | ActivityContent::Response { body }
        | ActivityContent::Error { body } => Some(body),
        ActivityContent::Thought { .. }
        | ActivityContent::Action { .. }
        | ActivityContent::Plan { .. }
        | ActivityContent::Urls { .. } => None,
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(REPORT_TEXT_BYTES_MAX)].to_owned()
}
