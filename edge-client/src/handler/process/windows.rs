use std::{process::ExitStatus, time::Duration};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::handler::run::KILL_AFTER;

/// Runs a text as a person would type it.
pub(in crate::handler) fn shell(text: &str) -> Command {
    let mut command = Command::new("cmd");
    command.arg("/C").raw_arg(text);
    command
}

/// Ends the command at once: there is nothing by which it could be asked.
pub(in crate::handler) async fn end(child: &mut Child, _patience: Duration) -> Option<ExitStatus> {
    let _ = child.start_kill();
    timeout(KILL_AFTER, child.wait()).await.ok()?.ok()
}
