use command_fds::{CommandFdExt, FdMapping};
use tokio::{net::unix::pipe::pipe, process::Command, sync::oneshot, task::JoinHandle};

use super::read;
use crate::{
    event::Event,
    handler::{
        Completion,
        run::{DRAIN, PROGRESS_VARIABLE},
    },
};

/// Reads the command's progress.
pub(in crate::handler) struct ProgressPipe {
    has_ended: oneshot::Sender<()>,
    reading: JoinHandle<()>,
}

impl ProgressPipe {
    /// Gives a command that is about to start its end of it.
    pub(in crate::handler) fn open(
        command: &mut Command,
        child_fd: i32,
        event: &Event,
        completion: &Completion,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("can't make a pipe for progress: {error}");
        let (sender, receiver) = pipe().map_err(failed)?;
        let parent_fd = sender.into_blocking_fd().map_err(failed)?;
        command
            .fd_mappings(vec![FdMapping { parent_fd, child_fd }])
            .map_err(|_| "the descriptor for progress is taken".to_owned())?
            .env(PROGRESS_VARIABLE, child_fd.to_string());
        let (has_ended, ended) = oneshot::channel();
        let teller = completion.teller();
        let tell = move |activity| teller.tell(activity);
        let reading = tokio::spawn(read(receiver, event.id(), tell, ended, DRAIN));
        Ok(Self { has_ended, reading })
    }

    /// Nothing comes after this: the run's end is next.
    pub(in crate::handler) async fn close(self) {
        let _ = self.has_ended.send(());
        let _ = self.reading.await;
    }
}
