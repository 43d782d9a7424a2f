use std::collections::VecDeque;

use relay_schemas::{
    BridgeMessage, ByeCode, ClientMessage, Dialect,
    limits::{CREDIT_BYTES, CREDIT_BYTES_MAX},
};

/// Why a socket was closed, as its other end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Bye(ByeCode),
    /// The Worker is to read on in R2.
    History,
    /// The object is gone, without a word.
    Broken,
}

#[derive(Debug)]
pub(crate) enum Received {
    Text(String),
    Closed(Closed),
}

/// A hibernatable socket: what lies on the way in both directions, and what is kept with it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) attachment: Option<String>,
    pub(crate) to_object: VecDeque<String>,
    pub(crate) reader_is_gone: bool,
    to_reader: VecDeque<Received>,
    dialect: Dialect,
    /// What the object may still send.
    credit: i64,
}

impl Socket {
    pub(crate) fn new(dialect: Dialect, credit: Option<i64>) -> Self {
        Self {
            attachment: None,
            to_object: VecDeque::new(),
            reader_is_gone: false,
            to_reader: VecDeque::new(),
            dialect,
            credit: credit.unwrap_or(CREDIT_BYTES),
        }
    }

    /// Invariant 6: without credit nothing is sent, so what lies on the way is bounded.
    pub(crate) fn send(&mut self, text: String) {
        let is_webhook = |line: &&str| line.starts_with(r#"{"type":"webhook""#);
        let (lines, charged_bytes) = match self.dialect {
            Dialect::WebSocket => (text.as_str(), None),
            Dialect::Ndjson | Dialect::Sse => {
                let message = BridgeMessage::decode(&text).expect("a bridge message");
                (message.lines, Some(message.charged_bytes))
            }
        };
        let mut charged = 0;
        for line in lines.split('\n').filter(is_webhook) {
            assert!(self.credit > 0, "a frame without credit");
            self.credit -= line.len() as i64;
            charged += line.len() as u64;
        }
        assert!(charged_bytes.is_none_or(|bytes| bytes == charged), "charged for what was sent");
        self.to_reader.push_back(Received::Text(text));
    }

    pub(crate) fn grant(&mut self, text: &str) {
        if let Ok(ClientMessage::Credit { bytes }) = serde_json::from_str(text) {
            self.credit = (self.credit + bytes).min(CREDIT_BYTES_MAX);
        }
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.credit <= 0
    }

    pub(crate) fn close(&mut self, closed: Closed) {
        self.attachment = None;
        self.to_object.clear();
        self.to_reader.push_back(Received::Closed(closed));
    }

    /// The object is gone, and with it what it sent last.
    pub(crate) fn break_off(&mut self, messages_lost: usize) {
        if self.attachment.is_some() {
            let kept = self.to_reader.len().saturating_sub(messages_lost);
            self.to_reader.truncate(kept);
            self.close(Closed::Broken);
        }
    }

    pub(crate) fn receive(&mut self) -> Option<Received> {
        self.to_reader.pop_front()
    }
}
