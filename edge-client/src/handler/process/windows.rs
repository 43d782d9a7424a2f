use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long Windows may take to end processes.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a text as a person would type it.
pub(in crate::handler) fn shell(text: &str) -> Command {
    let mut command = Command::new("cmd");
    command.arg("/C").raw_arg(text);
    command
}

/// Ends the command at once, with what it has started: a console program can't be asked.
pub(in crate::handler) async fn end(child: &mut Child, _patience: Duration) -> Option<ExitStatus> {
    if let Some(id) = child.id() {
        let mut ending = Command::new("taskkill");
        ending.args(["/T", "/F", "/PID", &id.to_string()]);
        ending.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = timeout(END_TIMEOUT, ending.status()).await;
    }
    let _ = child.start_kill();
    timeout(END_TIMEOUT, child.wait()).await.ok()?.ok()
}
