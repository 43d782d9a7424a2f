use crate::limits::ACTIVITY_LINE_BYTES_MAX;

/// Cuts what a handler writes into lines. One that is too long is counted as bad, and the next is
/// read.
#[derive(Debug, Default)]
pub(super) struct ProgressLines {
    partial: Vec<u8>,
    is_too_long: bool,
}

impl ProgressLines {
    /// Gives each whole line to `take`; `None` stands for one that is too long.
    pub(super) fn push(&mut self, chunk: &[u8], mut take: impl FnMut(Option<&[u8]>)) {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match part {
                [text @ .., b'\n'] => (text, true),
                text => (text, false),
            };
            if self.partial.len() + text.len() > ACTIVITY_LINE_BYTES_MAX {
                self.is_too_long = true;
                self.partial.clear();
            }
            if !self.is_too_long {
                self.partial.extend_from_slice(text);
            }
            if is_whole {
                self.end(&mut take);
            }
        }
    }

    /// The last line needs no line break.
    pub(super) fn finish(&mut self, mut take: impl FnMut(Option<&[u8]>)) {
        self.end(&mut take);
    }

    fn end(&mut self, take: &mut impl FnMut(Option<&[u8]>)) {
        if self.is_too_long {
            take(None);
        } else if !self.partial.trim_ascii().is_empty() {
            take(Some(&self.partial));
        }
        self.is_too_long = false;
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Option<String>> {
        let mut lines = ProgressLines::default();
        let mut taken = Vec::new();
        let mut take =
            |line: Option<&[u8]>| taken.push(line.map(|line| String::from_utf8_lossy(line).into()));
        chunks.iter().for_each(|chunk| lines.push(chunk, &mut take));
        lines.finish(&mut take);
        taken
    }

    #[test]
    fn chunks_do_not_matter_and_a_long_line_costs_only_itself() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(lines(&[b"a\n\n b", b"c\nd"]), [some("a"), some(" bc"), some("d")]);
        let long = vec![b'x'; ACTIVITY_LINE_BYTES_MAX];
        assert_eq!(lines(&[&long, b"\nb"]).len(), 2);
        assert_eq!(lines(&[&long, b"x", b"xx\nb\n"]), [None, some("b")]);
    }

    proptest! {
        #[test]
        fn memory_is_bounded(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9_000), 0..9)) {
            let mut lines = ProgressLines::default();
            for chunk in chunks {
                lines.push(&chunk, |_| {});
                prop_assert!(lines.partial.len() <= ACTIVITY_LINE_BYTES_MAX);
            }
        }
    }
}
