use std::{
    process::ExitStatus,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How often the end of a group of processes is looked for, which nobody tells.
const GROUP_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a text as a person would type it.
pub(in crate::handler) fn shell(text: &str) -> Command {
    let mut command = Command::new("sh");
    // A group of its own: what the command starts ends with it, and Ctrl-C reaches only us, so
    // that handlers get their grace.
    command.arg("-c").arg(text).process_group(0);
    command
}

/// Asks the command to end, and ends it when it takes too long.
pub(in crate::handler) async fn end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)?;
    let begun_at = Instant::now();
    let _ = killpg(group, Signal::SIGTERM);
    let ended = timeout(patience, child.wait()).await;
    // Some shells end at once, before what they have started has said its last word.
    while ended.is_ok() && killpg(group, None).is_ok() && begun_at.elapsed() < patience {
        sleep(GROUP_LOOK_INTERVAL).await;
    }
    let _ = killpg(group, Signal::SIGKILL);
    match ended {
        Ok(status) => status.ok(),
        Err(_) => child.wait().await.ok(),
    }
}
