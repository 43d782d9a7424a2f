//! A stream of events for tests, and the segments, pages and plans that hold it.

use std::io::Write;

use relay_schemas::{
    Cursor, Epoch, EventId, Record, RecordParts, Seq, Sha256Digest, Subject, UnixMillis,
    write_webhook_frame,
};

use crate::export::{
    page::Page,
    plan::{Plan, Segment},
};

pub(in crate::export) fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: Epoch::new(UnixMillis::new(1_790_000_000_000), 7), seq: Seq::new(seq) }
}

pub(in crate::export) fn record(seq: u64) -> String {
    Record::new(&RecordParts {
        id: EventId::from_bytes(u128::from(seq).to_be_bytes()),
        received_at: UnixMillis::new(1_790_000_000_000 + seq),
        kind: "Issue.update",
        organization: &"org-1".parse().unwrap(),
        channel: &"user:u-1".parse().unwrap(),
        delivery: Some("delivery-1"),
        headers: &[],
        subject: Subject::default(),
        own: false,
        body: r#"{"id":"x","cursor":"y"}"#,
    })
    .into_string()
}

/// What an export of these events writes.
pub(in crate::export) fn lines(first: u64, last: u64) -> String {
    let mut text = String::new();
    for (seq, n) in (first..=last).zip(1..) {
        write_webhook_frame(cursor(seq), n, &record(seq), &mut text);
        text.push('\n');
    }
    text
}

pub(in crate::export) fn compress(text: &[u8]) -> Vec<u8> {
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
    writer.write_all(text).unwrap();
    writer.into_inner()
}

pub(in crate::export) fn segment(first: u64, last: u64) -> (Segment, Vec<u8>) {
    let text: String = (first..=last).map(|seq| record(seq) + "\n").collect();
    let bytes = compress(text.as_bytes());
    let segment = Segment {
        first: Seq::new(first),
        last: Seq::new(last),
        count: last + 1 - first,
        bytes: bytes.len() as u64,
        uncompressed_bytes: text.len() as u64,
        sha256: Sha256Digest::of(&[&bytes]),
        url: format!("/events/segments/{}/{first:016}-{last:016}", cursor(0).epoch),
    };
    (segment, bytes)
}

/// A plan whose segments end at `ends`; the first begins after `begin`.
pub(in crate::export) fn plan(from: u64, begin: u64, ends: &[u64], tail: u64) -> Plan {
    let mut first = begin + 1;
    let mut segments = Vec::new();
    for end in ends {
        segments.push(segment(first, *end).0);
        first = end + 1;
    }
    let rest = ends.last().copied().unwrap_or(from);
    Plan {
        epoch: cursor(0).epoch,
        from: cursor(from),
        segments,
        rest: cursor(rest),
        tail: cursor(tail),
        has_more: false,
        gap: None,
    }
}

pub(in crate::export) fn page(first: u64, last: u64, has_more: bool) -> Page {
    let frames: Vec<String> = (first..=last)
        .map(|seq| {
            let mut frame = String::new();
            write_webhook_frame(cursor(seq), seq, &record(seq), &mut frame);
            frame
        })
        .collect();
    let (frames, at) = (frames.join(","), cursor(last));
    let body = format!(r#"{{"events":[{frames}],"cursor":"{at}","has_more":{has_more}}}"#);
    Page::parse(body.as_bytes()).unwrap()
}
