//! Child processes: asking one for its output, becoming one, and ending one with its descendants.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What to call a command in a message: its program without the directories.
pub(crate) fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

/// What a short-lived command prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let output = command.output().with_context(|| format!("{name} can't be started"))?;
    ensure!(
        output.status.success(),
        "{name} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no UTF-8"))
}

/// Runs `command` on this terminal and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = name_of(command);
    let status = command.status().with_context(|| format!("{name} can't be started"))?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

/// Turns this process into `command`. A signal meant for this process then reaches the one that
/// does the work, and no parent is left to be killed on its own.
pub(crate) fn become_command(command: &mut Command) -> Result<Infallible> {
    let name = name_of(command);
    Err(anyhow!(command.exec()).context(format!("{name} can't be started")))
}

/// Kills every process in the group that `leader` leads, and reaps `leader`.
///
/// The caller must not have waited for `leader`: until then its id, and so the group's, can't
/// belong to anyone else.
pub(crate) fn kill_group(leader: &mut Child) -> Result<()> {
    let group = Pid::from_raw(i32::try_from(leader.id()).context("a process id is an i32")?);
    match killpg(group, Signal::SIGKILL) {
        // Nobody left, or on macOS only a process that waits to be reaped.
        Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
        Err(error) => return Err(error).context(format!("process group {group} can't be killed")),
    }
    leader.wait().context("the relay's process can't be reaped")?;
    Ok(())
}
