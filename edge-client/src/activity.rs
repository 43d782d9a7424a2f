use relay_schemas::{Activity, EventId, Sha256Digest, is_uuid_v4};

use crate::limits::ACTIVITY_LINE_BYTES_MAX;

/// Reads a line that a handler wrote; `None` when it is no activity that the relay takes. An id that
/// is no UUID v4 is left out: one is made for it.
pub fn read_activity(line: &[u8]) -> Option<Activity> {
    if line.len() > ACTIVITY_LINE_BYTES_MAX {
        return None;
    }
    let mut activity: Activity = serde_json::from_slice(line).ok()?;
    activity.id = activity.id.filter(|id| is_uuid_v4(id));
    activity.check().is_ok().then_some(activity)
}

/// With an id, so that it may be sent twice.
pub(crate) fn identified(mut activity: Activity) -> Activity {
    activity.id.get_or_insert_with(uuid_v4);
    activity
}

/// The same id whenever the run is repeated, so that what ends a turn ends it once: `ordinal` counts
/// those that the run gave before, of whatever kind.
pub(crate) fn derived_id(event: EventId, kind: &str, ordinal: u32) -> String {
    let digest = Sha256Digest::of(&[
        b"edgerelay-activity-1\0",
        event.as_bytes(),
        kind.as_bytes(),
        b"\0",
        &ordinal.to_be_bytes(),
    ]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    as_uuid_v4(bytes)
}

pub(crate) fn uuid_v4() -> String {
    let mut bytes = [0; 16];
    // Only fails where the system has no randomness at all, and then TLS has none either.
    getrandom::fill(&mut bytes).expect("the system has randomness");
    as_uuid_v4(bytes)
}

fn as_uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relay_schemas::limits::ACTIVITY_OPTIONS_MAX;

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
            r#"{"type":"elicitation","body":"b","options":[{"value":""}]}"#,
            r#"{"type":"urls","urls":[{"label":"l","url":"http://x"}]}"#,
        ] {
            check(line, None);
        }
        let options = vec![r#"{"value":"a"}"#; ACTIVITY_OPTIONS_MAX + 1].join(",");
        check(&format!(r#"{{"type":"elicitation","body":"b","options":[{options}]}}"#), None);
        let long = format!(r#"{{"type":"thought","body":"{}"}}"#, "x".repeat(16 * 1024));
        check(&long, None);
    }

    #[test]
    fn ids_are_version_4_and_distinct() {
        let made: Vec<String> = (0..100).map(|_| uuid_v4()).collect();
        assert!(made.iter().all(|id| is_uuid_v4(id)), "{made:?}");
        assert!(made.iter().enumerate().all(|(at, id)| !made[..at].contains(id)));
    }

    #[test]
    fn a_derived_id_is_version_4_and_the_same_for_the_same() {
        let event = EventId::from_bytes([7; 16]);
        let id = derived_id(event, "response", 0);
        assert_eq!(id, "ef5791e5-2d29-4f97-9af9-eb80023263cd");
        assert!(is_uuid_v4(&id));
        assert_ne!(id, derived_id(event, "response", 1));
        assert_ne!(id, derived_id(event, "error", 0));
        assert_ne!(id, derived_id(EventId::from_bytes([8; 16]), "response", 0));
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in any::<Vec<u8>>()) {
            let _ = read_activity(&line);
        }
    }
}
