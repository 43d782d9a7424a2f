use std::{collections::VecDeque, str::Utf8Error, sync::Arc};

use super::Received;

/// Cuts a byte stream into lines, whatever its chunks are. What follows the last line break is
/// kept for the next chunk, and dropped with the splitter: a line without its end is no line.
#[derive(Debug)]
pub struct LineSplitter {
    partial: Vec<u8>,
    line_bytes_max: usize,
}

/// The bytes are not lines of text.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// More bytes than a line may have.
    #[error("a line has more than {0} bytes")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a line is not UTF-8: {0}")]
    NotText(#[from] Utf8Error),
}

impl LineSplitter {
    /// Refuses lines longer than `line_bytes_max`.
    pub fn new(line_bytes_max: usize) -> Self {
        Self { partial: Vec::new(), line_bytes_max }
    }

    /// Adds the lines that end in this chunk; an empty one is a sign of life.
    pub fn split(&mut self, chunk: &[u8], inbox: &mut VecDeque<Received>) -> Result<(), LineError> {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            self.check_length(line)?;
            if self.partial.is_empty() {
                inbox.push_back(received(line)?);
            } else {
                self.partial.extend_from_slice(line);
                inbox.push_back(received(&self.partial)?);
                // A single large line must not cost its memory for ever.
                self.partial = Vec::new();
            }
            rest = after;
        }
        self.check_length(rest)?;
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    fn check_length(&self, more: &[u8]) -> Result<(), LineError> {
        if self.partial.len() + more.len() > self.line_bytes_max {
            return Err(LineError::TooLong(self.line_bytes_max));
        }
        Ok(())
    }
}

fn received(line: &[u8]) -> Result<Received, LineError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Ok(Received::Alive);
    }
    Ok(Received::Line(Arc::from(std::str::from_utf8(line)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(inbox: VecDeque<Received>) -> Vec<String> {
        inbox
            .into_iter()
            .map(|received| match received {
                Received::Line(line) => line.to_string(),
                Received::Alive => String::new(),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            expected in prop::collection::vec("[^\r\n]{0,20}", 0..10),
            tail in "[^\r\n]{0,5}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut text: String = expected.iter().map(|line| format!("{line}\n")).collect();
            text.push_str(&tail);
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> =
                cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut splitter = LineSplitter::new(1_000);
            let mut inbox = VecDeque::new();
            for pair in cuts.windows(2) {
                splitter.split(&bytes[pair[0]..pair[1]], &mut inbox).unwrap();
            }
            prop_assert_eq!(lines(inbox), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_memory_is_bounded(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
        ) {
            let mut splitter = LineSplitter::new(64);
            for chunk in chunks {
                let _ = splitter.split(&chunk, &mut VecDeque::new());
                prop_assert!(splitter.partial.len() <= 64);
            }
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let mut inbox = VecDeque::new();
        let mut splitter = LineSplitter::new(4);
        splitter.split(b"abc", &mut inbox).unwrap();
        assert!(matches!(splitter.split(b"de", &mut inbox), Err(LineError::TooLong(4))));
        let mut splitter = LineSplitter::new(4);
        assert!(matches!(splitter.split(b"\xff\n", &mut inbox), Err(LineError::NotText(_))));
        let mut splitter = LineSplitter::new(4);
        splitter.split(b"ab\r\n\n", &mut inbox).unwrap();
        assert_eq!(lines(inbox), ["ab", ""]);
    }
}
