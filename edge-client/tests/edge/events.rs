//! The fake relay's stream: position, id and record of its events.

use relay_schemas::{Cursor, Epoch, EventId, Record, RecordParts, Seq, Subject, UnixMillis, sign};

/// What Linear signs with.
pub(crate) const SECRET: &[u8] = b"linear-secret";

/// The channel of the person whose credential the tests have.
pub(crate) const PERSONAL: &str = "user:u-1";

pub(crate) fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: Epoch::new(UnixMillis::new(1_790_000_000_000), 7), seq: Seq::new(seq) }
}

pub(crate) fn event_id(seq: u64) -> EventId {
    EventId::from_bytes(u128::from(seq).to_be_bytes())
}

pub(crate) fn record(seq: u64, body: &str) -> String {
    record_in(PERSONAL, seq, body)
}

/// One of this channel's stream.
pub(crate) fn record_in(channel: &str, seq: u64, body: &str) -> String {
    record_of(channel, seq, body, Subject::default(), false)
}

/// One of which the relay knows more.
pub(crate) fn record_about(seq: u64, body: &str, subject: Subject<'_>, own: bool) -> String {
    record_of(PERSONAL, seq, body, subject, own)
}

fn record_of(channel: &str, seq: u64, body: &str, subject: Subject<'_>, own: bool) -> String {
    Record::new(&RecordParts {
        id: event_id(seq),
        received_at: UnixMillis::new(1_790_000_000_000 + seq),
        kind: "AgentSessionEvent.created",
        organization: &"org-1".parse().unwrap(),
        channel: &channel.parse().unwrap(),
        delivery: Some("delivery-1"),
        headers: &[
            ("Linear-Signature".into(), sign(SECRET, body.as_bytes())),
            ("Linear-Event".into(), "AgentSessionEvent".into()),
            ("Content-Type".into(), "application/json; charset=utf-8".into()),
        ],
        subject,
        own,
        body,
    })
    .into_string()
}
