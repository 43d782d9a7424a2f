use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use command_fds::{CommandFdExt, FdMapping};
use relay_schemas::Activity;
use tokio::{
    net::unix::pipe::pipe, process::Command, sync::oneshot, task::JoinHandle, time::timeout,
};

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
    has_concluded: Arc<AtomicBool>,
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
        let has_concluded = Arc::new(AtomicBool::new(false));
        let (teller, concluded) = (completion.teller(), Arc::clone(&has_concluded));
        let tell = move |activity: Activity| {
            if activity.content.ends_turn() {
                concluded.store(true, Ordering::Relaxed);
            }
            teller.tell(activity);
        };
        let reading = tokio::spawn(read(receiver, event.id(), tell, ended));
        Ok(Self { has_ended, has_concluded, reading })
    }

    /// Whether a last word was among it. Nothing comes after this: the report is next.
    pub(in crate::handler) async fn close(mut self) -> bool {
        let _ = self.has_ended.send(());
        if timeout(DRAIN, &mut self.reading).await.is_err() {
            self.reading.abort();
            let _ = self.reading.await;
        }
        self.has_concluded.load(Ordering::Relaxed)
    }
}
