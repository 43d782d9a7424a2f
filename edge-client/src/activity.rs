use relay_schemas::{Activity, ActivityContent, is_uuid_v4};

use crate::limits::ACTIVITY_LINE_BYTES_MAX;

/// Reads a line that a handler wrote; `None` when it is no activity. An id that is no UUID v4 is left
/// out: one is made for it.
pub fn read_activity(line: &[u8]) -> Option<Activity> {
    if line.len() > ACTIVITY_LINE_BYTES_MAX {
        return None;
    }
    let mut activity: Activity = serde_json::from_slice(line).ok()?;
    activity.id = activity.id.filter(|id| is_uuid_v4(id));
    says_something(&activity.content).then_some(activity)
}

/// With an id, so that it may be sent twice.
pub(crate) fn identified(mut activity: Activity) -> Activity {
    activity.id.get_or_insert_with(uuid_v4);
    activity
}

fn says_something(content: &ActivityContent) -> bool {
    let is_text = |text: &str| !text.trim().is_empty();
    match content {
        ActivityContent::Thought { body, .. }
        | ActivityContent::Elicitation { body, .. }
        | ActivityContent::Response { body }
        | ActivityContent::Error { body } => is_text(body),
        ActivityContent::Action { action, .. } => is_text(action),
        ActivityContent::Plan { steps } => steps.iter().all(|step| is_text(&step.content)),
        ActivityContent::Urls { urls } => urls.iter().all(|link| is_text(&link.label)),
    }
}

fn uuid_v4() -> String {
    let mut bytes = [0; 16];
    // Only fails where the system has no randomness at all, and then TLS has none either.
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        let read = read_activity(line.as_bytes());
        let written = read.map(|activity| serde_json::to_string(&activity).unwrap());
        assert_eq!(written.as_deref(), expected, "{line}");
    }

    #[test]
    fn lines_are_read_and_written_as_the_relay_reads_them() {
        let thought = r#"{"type":"thought","body":"b","ephemeral":true}"#;
        check(thought, Some(thought));
        let id = r#"{"id":"11111111-2222-4333-8444-555555555555","type":"response","body":"b"}"#;
        check(id, Some(id));
        let other = r#"{"id":"no uuid","type":"error","body":"b","more":1}"#;
        check(other, Some(r#"{"type":"error","body":"b"}"#));
        let action =
            r#"{"type":"action","action":"ran","parameter":"ls","result":"ok","ephemeral":false}"#;
        check(action, Some(action));
        let question = r#"{"type":"elicitation","body":"which?","options":[{"value":"a"},{"value":"b","label":"B"}]}"#;
        check(question, Some(question));
        let plan = r#"{"type":"plan","steps":[{"content":"c","status":"inProgress"}]}"#;
        check(plan, Some(plan));
        let urls = r#"{"type":"urls","urls":[{"label":"l","url":"https://x"}]}"#;
        check(urls, Some(urls));
    }

    #[test]
    fn what_says_nothing_is_none() {
        for line in [
            "",
            "hello",
            "[]",
            r#"{"type":"thought"}"#,
            r#"{"type":"thought","body":" "}"#,
            r#"{"type":"novel","body":"b"}"#,
            r#"{"type":"plan","steps":[{"content":"c","status":"soon"}]}"#,
        ] {
            check(line, None);
        }
        let long = format!(r#"{{"type":"thought","body":"{}"}}"#, "x".repeat(16 * 1024));
        check(&long, None);
    }

    #[test]
    fn ids_are_version_4_and_distinct() {
        let made: Vec<String> = (0..100).map(|_| uuid_v4()).collect();
        assert!(made.iter().all(|id| is_uuid_v4(id)), "{made:?}");
        assert!(made.iter().enumerate().all(|(at, id)| !made[..at].contains(id)));
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in any::<Vec<u8>>()) {
            let _ = read_activity(&line);
        }
    }
}
