//! Names under which things are stored. A name once written stays readable for the retention
//! period; change a layout by adding one.

use crate::{identifier::EventId, signature::Sha256Digest, time::UnixMillis};

fn day(at: UnixMillis) -> String {
    at.to_string()[..10].replace('-', "/")
}

/// R2 key of a body too large for the queue: `bodies/{yyyy}/{mm}/{dd}/{event}-{digest}`. A retry
/// of the event can have another body, stamped anew: neither may replace the other, because each
/// message has the signature of its own.
pub fn oversize_body_key(event: EventId, body: &[u8], received_at: UnixMillis) -> String {
    let digest = EventId::from_digest(Sha256Digest::of(&[body])).to_string();
    let digest = digest.trim_start_matches("evt_");
    format!("bodies/{}/{event}-{digest}", day(received_at))
}

/// R2 key of a dead letter: `dead-letters/{yyyy}/{mm}/{dd}/{message}.json`, where `message` is
/// the queue's own id. The queue may deliver a dead letter twice; the key makes that one object.
pub fn dead_letter_key(message: &str, first_seen_at: UnixMillis) -> String {
    let name: String = message
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
        .take(64)
        .collect();
    format!("dead-letters/{}/{name}.json", day(first_seen_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pinned() {
        let at = UnixMillis::parse_rfc3339("2026-11-20T05:06:07Z").unwrap();
        let event = EventId::from_bytes([0; 16]);
        assert_eq!(
            oversize_body_key(event, b"{}", at),
            "bodies/2026/11/20/evt_00000000000000000000000000-242dnq6ldjcu512hld2rrugp4u"
        );
        let stamped_anew = oversize_body_key(event, b"{ }", at);
        assert_ne!(stamped_anew, oversize_body_key(event, b"{}", at));
        assert_eq!(dead_letter_key("ab/../c", at), "dead-letters/2026/11/20/ab----c.json");
    }
}
