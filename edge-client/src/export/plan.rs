use relay_schemas::{Cursor, Epoch, Gap, Seq, Sha256Digest};
use serde::Deserialize;

use crate::limits::EXPORT_SEGMENT_BYTES_MAX;

/// What every segment's path begins with. A path of another form could lead the credential
/// elsewhere.
const SEGMENT_PATH: &str = "/events/segments/";

/// One answer of `GET /events/segments`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Plan {
    pub(super) epoch: Epoch,
    /// Everything up to here is not asked for.
    pub(super) from: Cursor,
    pub(super) segments: Vec<Segment>,
    /// The position after the last segment.
    pub(super) rest: Cursor,
    pub(super) tail: Cursor,
    pub(super) has_more: bool,
    #[serde(default)]
    pub(super) gap: Option<Gap>,
}

/// A sealed segment, as a plan names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Segment {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) count: u64,
    /// Bytes as they lie, compressed.
    pub(super) bytes: u64,
    pub(super) uncompressed_bytes: u64,
    pub(super) sha256: Sha256Digest,
    pub(super) url: String,
}

impl Plan {
    /// Whether the answer fits together; the fault is a sentence's end, after "the plan".
    pub(super) fn check(&self) -> Result<(), String> {
        if [self.from, self.rest, self.tail].iter().any(|cursor| cursor.epoch != self.epoch) {
            return Err("mixes incarnations of the stream".into());
        }
        let mut reached = self.from.seq;
        for (index, segment) in self.segments.iter().enumerate() {
            segment.check()?;
            let is_next = segment.first.get() == reached.get() + 1;
            let reaches_over = index == 0 && segment.first <= reached && segment.last > reached;
            if !is_next && !reaches_over {
                return Err(format!("has a hole or an overlap before {}", segment.url));
            }
            reached = segment.last;
        }
        if self.rest.seq != reached || self.rest > self.tail {
            return Err(format!("goes on at {}, which is not after its segments", self.rest));
        }
        if self.has_more && self.segments.is_empty() {
            return Err("says that there is more, and names nothing".into());
        }
        Ok(())
    }
}

impl Segment {
    fn check(&self) -> Result<(), String> {
        let Self { first, last, url, .. } = self;
        if *first == Seq::ZERO || first > last || *last > Seq::MAX {
            return Err(format!("names {url} with impossible positions"));
        }
        if self.count != last.distance_from(*first) + 1 {
            return Err(format!("counts {} events in {url}", self.count));
        }
        if self.bytes > EXPORT_SEGMENT_BYTES_MAX {
            return Err(format!("says that {url} has {} bytes, too many", self.bytes));
        }
        if !url.starts_with(SEGMENT_PATH) {
            return Err(format!("leads away from the relay: {url}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: &str = "d1uumj1lktsi";

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: EPOCH.parse().unwrap(), seq: Seq::new(seq) }
    }

    fn segment(first: u64, last: u64) -> Segment {
        Segment {
            first: Seq::new(first),
            last: Seq::new(last),
            count: last + 1 - first,
            bytes: 10,
            uncompressed_bytes: 20,
            sha256: Sha256Digest::of(&[]),
            url: format!("/events/segments/{EPOCH}/{first:016}-{last:016}"),
        }
    }

    fn plan() -> Plan {
        Plan {
            epoch: cursor(0).epoch,
            from: cursor(2),
            segments: vec![segment(1, 4), segment(5, 9)],
            rest: cursor(9),
            tail: cursor(12),
            has_more: false,
            gap: None,
        }
    }

    fn check(change: impl FnOnce(&mut Plan), expected: &str) {
        let mut plan = plan();
        change(&mut plan);
        let fault = plan.check().unwrap_err();
        assert!(fault.contains(expected), "{fault}");
    }

    #[test]
    fn the_answer_of_the_documentation_is_read() {
        let text = r#"{"stream":"org-1/user:u-1","epoch":"d1uumj1lktsi",
            "from":"d1uumj1lktsi00000000000","segments":[{"first":1,"last":250,"count":250,
            "first_received_at":"2026-11-20T05:06:07.000Z",
            "last_received_at":"2026-11-20T06:01:00.000Z","bytes":91234,
            "uncompressed_bytes":1049100,"sha256":"SHA",
            "url":"/events/segments/d1uumj1lktsi/0000000000000001-0000000000000250"}],
            "rest":"d1uumj1lktsi0000000007q","oldest":"d1uumj1lktsi00000000000",
            "tail":"d1uumj1lktsi00000000081","has_more":false}"#;
        let text = text.replace("SHA", &"2d71".repeat(16));
        let plan: Plan = serde_json::from_str(&text).unwrap();
        plan.check().unwrap();
        assert_eq!((plan.segments[0].count, plan.tail.seq.get()), (250, 257));
    }

    #[test]
    fn a_plan_that_fits_together_passes() {
        plan().check().unwrap();
    }

    #[test]
    fn a_plan_that_contradicts_itself_does_not() {
        let other = "d1uumj1lktsj00000000009";
        check(|plan| plan.rest = other.parse().unwrap(), "mixes incarnations");
        check(|plan| plan.segments[1] = segment(6, 9), "a hole or an overlap");
        check(|plan| plan.segments[1] = segment(4, 9), "a hole or an overlap");
        check(|plan| plan.segments[0] = segment(4, 4), "a hole or an overlap");
        check(|plan| plan.from = cursor(4), "a hole or an overlap");
        check(|plan| plan.rest = cursor(8), "not after its segments");
        check(|plan| plan.tail = cursor(8), "not after its segments");
        check(|plan| plan.segments[0].count = 3, "counts 3 events");
        check(|plan| plan.segments[0].bytes = EXPORT_SEGMENT_BYTES_MAX + 1, "too many");
        check(|plan| plan.segments[0].first = Seq::ZERO, "impossible positions");
        check(|plan| plan.segments[0].url = "@example.com/".into(), "leads away");
        let empty = |plan: &mut Plan| {
            *plan = Plan { segments: vec![], rest: plan.from, has_more: true, ..plan.clone() };
        };
        check(empty, "names nothing");
    }
}
