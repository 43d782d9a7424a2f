use crate::cursor::Cursor;

/// How long a browser waits before it dials again, sent first.
const RETRY_MS: u32 = 1_000;

/// What stands before the first event of an SSE body.
pub fn sse_preamble() -> String {
    format!("retry: {RETRY_MS}\n\n")
}

/// One frame as a server-sent event. Webhooks are unnamed, so that `onmessage` sees them; control
/// frames carry their type as name. `position` becomes `id:`, the place to resume after this
/// event; an id-less frame leaves the browser's last id as it was.
pub fn sse_event(line: &str, position: Option<Cursor>, out: &mut String) {
    if let Some(name) = control_name(line) {
        out.push_str("event: ");
        out.push_str(name);
        out.push('\n');
    }
    if let Some(cursor) = position {
        out.push_str("id: ");
        cursor.write_to(out);
        out.push('\n');
    }
    out.push_str("data: ");
    out.push_str(line);
    out.push_str("\n\n");
}

fn control_name(line: &str) -> Option<&str> {
    let name = line.strip_prefix(r#"{"type":""#)?.split('"').next()?;
    (name != "webhook").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_unnamed_and_control_frames_named() {
        let cursor: Cursor = "0123456789ab0000000000v".parse().unwrap();
        let mut out = String::new();
        sse_event(r#"{"type":"webhook","n":1}"#, Some(cursor), &mut out);
        sse_event(r#"{"type":"heartbeat","n":1}"#, None, &mut out);
        assert_eq!(
            out,
            "id: 0123456789ab0000000000v\ndata: {\"type\":\"webhook\",\"n\":1}\n\n\
             event: heartbeat\ndata: {\"type\":\"heartbeat\",\"n\":1}\n\n"
        );
    }
}
