use crate::limits::LAST_LINE_BYTES_MAX;

/// The last line of an output that says something, however long the output is.
#[derive(Debug, Default)]
pub(super) struct LastLine {
    line: Vec<u8>,
    last: Vec<u8>,
}

impl LastLine {
    /// More came.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        for part in chunk.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, is_whole) = match part {
                [text @ .., b'\n' | b'\r'] => (text, true),
                text => (text, false),
            };
            let room = LAST_LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if is_whole {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        if !self.line.trim_ascii().is_empty() {
            self.last.clone_from(&self.line);
        }
        self.line.clear();
    }

    /// The line, as text; `None` when nothing was said.
    pub(super) fn text(&self) -> Option<String> {
        let line = if self.line.trim_ascii().is_empty() { &self.last } else { &self.line };
        let text = String::from_utf8_lossy(line);
        let mut text: String = text.chars().filter(|character| !character.is_control()).collect();
        text.truncate(text.floor_char_boundary(LAST_LINE_BYTES_MAX));
        // What is left of a character that the bound has cut.
        let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER).trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(chunks: &[&[u8]], expected: Option<&str>) {
        let mut last = LastLine::default();
        chunks.iter().for_each(|chunk| last.push(chunk));
        assert_eq!(last.text().as_deref(), expected, "{chunks:?}");
    }

    #[test]
    fn the_last_line_with_something_in_it_counts() {
        check(&[], None);
        check(&[b"\n \t\n"], None);
        check(&[b"one\ntwo\n"], Some("two"));
        check(&[b"one\ntw", b"o\n\n  \n"], Some("two"));
        check(&[b"one\nwithout an end"], Some("without an end"));
        check(&[b"one\r\ntwo\r\n"], Some("two"));
        check(&[b"10 %\r20 %\rdone"], Some("done"));
        check(&[b"a\x07b\n"], Some("ab"));
        check(&[b"\xff\xfe\n"], None);
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let long = "é".repeat(LAST_LINE_BYTES_MAX);
        let mut last = LastLine::default();
        last.push(b"x");
        last.push(long.as_bytes());
        last.push(b"\n");
        let text = last.text().unwrap();
        assert!(text.len() <= LAST_LINE_BYTES_MAX && text.len() > LAST_LINE_BYTES_MAX - 4);
        assert!(text.chars().skip(1).all(|character| character == 'é'));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_stay_within_the_bound(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..5),
        ) {
            let mut last = LastLine::default();
            chunks.iter().for_each(|chunk| last.push(chunk));
            prop_assert!(last.line.len() <= LAST_LINE_BYTES_MAX);
            prop_assert!(last.text().is_none_or(|text| text.len() <= LAST_LINE_BYTES_MAX));
        }
    }
}
