use std::{fmt, sync::Arc};

use relay_schemas::{Cursor, EventId, Frame, FrameError, Webhook};

/// An event as it was received: its line, verbatim, and what the client itself needs of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    id: EventId,
    cursor: Cursor,
    line: Arc<str>,
}

impl Event {
    /// Keeps a webhook frame's line.
    pub(crate) fn new(webhook: &Webhook<'_>, line: Arc<str>) -> Self {
        Self { id: webhook.id, cursor: webhook.cursor, line }
    }

    /// Reads a line; `None` when it is a frame of another type.
    pub fn parse(line: Arc<str>) -> Result<Option<Self>, FrameError> {
        let Frame::Webhook(webhook) = Frame::parse(&line)? else { return Ok(None) };
        let (id, cursor) = (webhook.id, webhook.cursor);
        drop(webhook);
        Ok(Some(Self { id, cursor, line }))
    }

    /// What happened, once: the key for idempotence.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The position after this event.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The frame as the relay sent it, without a line break.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The line, shared.
    pub fn shared_line(&self) -> Arc<str> {
        Arc::clone(&self.line)
    }

    /// Everything about the event.
    pub fn webhook(&self) -> Webhook<'_> {
        match Frame::parse(&self.line) {
            Ok(Frame::Webhook(webhook)) => *webhook,
            _ => unreachable!("an event is only made of a line that is a webhook frame"),
        }
    }
}

/// Without the line: payloads are in no log.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("id", &self.id).field("cursor", &self.cursor).finish()
    }
}
