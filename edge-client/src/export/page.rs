use relay_schemas::{Cursor, Epoch, Gap, Seq};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One answer of `GET /events`: records, as they would stand in a segment.
pub(super) struct Page {
    pub(super) records: Vec<(Seq, String)>,
    /// The position reached.
    pub(super) cursor: Cursor,
    pub(super) has_more: bool,
    pub(super) gap: Option<Gap>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    cursor: Cursor,
    has_more: bool,
    #[serde(default)]
    gap: Option<Gap>,
}

#[derive(Deserialize)]
struct Placed {
    cursor: Cursor,
}

impl Page {
    /// Reads an answer's body; `None` when it is not a page.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
        let epoch = answer.cursor.epoch;
        let records = answer.events.into_iter().map(|frame| record(frame.get(), epoch));
        Some(Self {
            records: records.collect::<Option<_>>()?,
            cursor: answer.cursor,
            has_more: answer.has_more,
            gap: answer.gap,
        })
    }

    /// Whether the answer follows `after` without a hole, but for the one that its gap names; the
    /// fault is a sentence's end, after "the page".
    pub(super) fn check(&self, after: Cursor) -> Result<(), String> {
        let gap = self.gap.as_ref().map(|gap| gap.resumed_from);
        if gap.unwrap_or(after).epoch != after.epoch || self.cursor.epoch != after.epoch {
            return Err(format!("after {after} is of another incarnation"));
        }
        let mut gap = gap.map(|gap| gap.seq);
        let mut reached = after.seq;
        // The position before each event, and the one at the end.
        let befores = self.records.iter().map(|(seq, _)| seq.get().saturating_sub(1));
        for before in befores.chain([self.cursor.seq.get()]).map(Seq::new) {
            if before != reached && (before < reached || gap.take() != Some(before)) {
                return Err(format!("after {after} has a hole or an overlap at {}", before.get()));
            }
            reached = Seq::new(before.get() + 1);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({} events)", self.records.len())
    }
}

/// The frame's record: the same line without its first three fields. They hold no text from
/// outside, so the first such key is the record's.
fn record(frame: &str, epoch: Epoch) -> Option<(Seq, String)> {
    let Placed { cursor } = serde_json::from_str(frame).ok()?;
    let (head, rest) = frame.split_once(r#","id":"#)?;
    let is_frame = head.starts_with(r#"{"type":"webhook","cursor":""#) && cursor.epoch == epoch;
    (is_frame && !rest.contains('\n')).then(|| (cursor.seq, format!(r#"{{"id":{rest}"#)))
}

#[cfg(test)]
mod tests {
    use relay_schemas::write_webhook_frame;

    use super::{super::transfer::samples, *};

    fn body(seqs: &[u64], end: u64, gap: &str) -> String {
        let frames: Vec<String> = seqs
            .iter()
            .map(|seq| {
                let mut frame = String::new();
                write_webhook_frame(samples::cursor(*seq), 9, &samples::record(*seq), &mut frame);
                frame
            })
            .collect();
        let cursor = samples::cursor(end);
        let frames = frames.join(",");
        format!(r#"{{"events":[{frames}],"cursor":"{cursor}","has_more":false{gap}}}"#)
    }

    fn gap(to: u64) -> String {
        let to = samples::cursor(to);
        format!(
            r#","gap":{{"requested":"x","resumed_from":"{to}","oldest":"{to}","reason":"lost"}}"#
        )
    }

    /// Whether this page, which ends there, may follow position 4.
    fn is_next(seqs: &[u64], end: u64, gap: &str) -> bool {
        Page::parse(body(seqs, end, gap).as_bytes()).unwrap().check(samples::cursor(4)).is_ok()
    }

    #[test]
    fn records_come_back_byte_for_byte() {
        let page = Page::parse(body(&[5, 6], 6, "").as_bytes()).unwrap();
        let expected = [5, 6].map(|seq| (Seq::new(seq), samples::record(seq)));
        assert_eq!(page.records, expected);
    }

    #[test]
    fn a_page_must_follow_what_is_there() {
        assert!(is_next(&[], 4, ""));
        assert!(is_next(&[5, 6], 6, ""));
        for (seqs, end) in [(&[6][..], 6), (&[5, 7], 7), (&[4, 5], 5), (&[5, 6], 7), (&[5, 6], 5)] {
            assert!(!is_next(seqs, end, ""), "{seqs:?}");
        }
    }

    #[test]
    fn a_gap_may_stand_anywhere_in_a_page() {
        assert!(is_next(&[8, 9], 9, &gap(7)));
        assert!(is_next(&[5, 6, 9, 10], 10, &gap(8)));
        assert!(is_next(&[5, 6], 9, &gap(9)));
        assert!(is_next(&[], 9, &gap(9)));
        assert!(!is_next(&[8, 9], 9, &gap(6)));
        assert!(!is_next(&[3, 4], 4, &gap(2)));
        assert!(!is_next(&[6, 8, 9], 9, &gap(7)));
    }

    #[test]
    fn another_answer_is_no_page() {
        for body in ["", "{}", "<html>", r#"{"events":[{}],"cursor":"x","has_more":false}"#] {
            assert!(Page::parse(body.as_bytes()).is_none(), "{body}");
        }
        let pretty = body(&[5], 5, "").replace("\"delivery\"", "\n\"delivery\"");
        assert!(Page::parse(pretty.as_bytes()).is_none(), "a frame is one line");
    }
}
