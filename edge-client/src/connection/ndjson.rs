use std::collections::VecDeque;

use reqwest::Response;

use super::{LineSplitter, Received};
use crate::{fault::Fault, limits::LINE_BYTES_MAX};

/// One JSON line a frame, as the body of an HTTP answer. Not reading it is what slows the relay.
#[derive(Debug)]
pub struct NdjsonConnection {
    response: Response,
    splitter: LineSplitter,
}

impl NdjsonConnection {
    /// Reads the body of this answer.
    pub(super) fn new(response: Response) -> Self {
        Self { response, splitter: LineSplitter::new(LINE_BYTES_MAX) }
    }

    /// See [`super::Connection::receive`].
    pub(super) async fn receive(&mut self, inbox: &mut VecDeque<Received>) -> Result<(), Fault> {
        match self.response.chunk().await {
            Ok(Some(chunk)) => {
                // Part of a long line is a sign of life, too.
                inbox.push_back(Received::Alive);
                self.splitter.split(&chunk, inbox).map_err(Fault::passing)
            }
            Ok(None) => Err(Fault::passing("the relay ended the stream")),
            Err(error) => Err(Fault::passing(super::dialer::describe(&error))),
        }
    }
}
