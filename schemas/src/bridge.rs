use std::fmt::Write;

use crate::cursor::Cursor;

/// The close code with which the object sends a bridged reader back to history: its position was
/// sealed while it had no credit. The Worker reads on in R2; the reader sees nothing of it.
pub const HISTORY_CLOSE_CODE: u16 = 4100;

/// Where a connection stands after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The position reached.
    pub cursor: Cursor,
    /// The newest position of the stream.
    pub tail: Cursor,
    /// Webhooks sent so far.
    pub n: u64,
}

/// What the object sends to the Worker that holds an HTTP reader: a line with the position, so
/// that heartbeats need no parsing, then whole NDJSON lines, ready to be handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeMessage<'a> {
    /// Where the reader stands after these lines.
    pub position: Position,
    /// What the lines cost of the reader's credit: the webhooks' lengths. So much is granted
    /// again when the reader has taken them.
    pub charged_bytes: u64,
    /// Lines, each with its line break; may be none.
    pub lines: &'a str,
}

impl<'a> BridgeMessage<'a> {
    /// The message's text.
    pub fn encode(&self) -> String {
        let Position { cursor, tail, n } = self.position;
        let mut text = String::with_capacity(self.lines.len() + 80);
        let _ = write!(text, "{cursor} {tail} {n} {}\n{}", self.charged_bytes, self.lines);
        text
    }

    /// Reads a message's text.
    pub fn decode(text: &'a str) -> Option<Self> {
        let (head, lines) = text.split_once('\n')?;
        let mut words = head.split(' ');
        let position = Position {
            cursor: words.next()?.parse().ok()?,
            tail: words.next()?.parse().ok()?,
            n: words.next()?.parse().ok()?,
        };
        let charged_bytes = words.next()?.parse().ok()?;
        Some(Self { position, charged_bytes, lines })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_survive(lines in any::<String>(), n in any::<u64>(), charged_bytes in any::<u64>()) {
            let cursor: Cursor = "0123456789ab0000000000v".parse().unwrap();
            let message = BridgeMessage { position: Position { cursor, tail: cursor, n }, charged_bytes, lines: &lines };
            let text = message.encode();
            prop_assert_eq!(BridgeMessage::decode(&text), Some(message));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = BridgeMessage::decode(&text);
        }
    }
}
