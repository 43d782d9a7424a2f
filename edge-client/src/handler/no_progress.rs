//! A command is handed no descriptor on this system: it tells by `edgerelay activity`.

use tokio::process::Command;

use super::Completion;
use crate::event::Event;

/// Nothing to read.
pub(super) struct ProgressPipe;

impl ProgressPipe {
    /// The command gets none.
    pub(super) fn open(
        _command: &mut Command,
        _child_fd: i32,
        _event: &Event,
        _completion: &Completion,
    ) -> Result<Self, String> {
        Ok(Self)
    }

    /// There was none.
    pub(super) async fn close(self) {}
}
