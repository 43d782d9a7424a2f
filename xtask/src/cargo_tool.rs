//! A command-line tool from crates.io at one exact version.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::progress;
use crate::workspace::Workspace;

/// A pinned tool.
pub(crate) struct CargoTool {
    /// The package on crates.io.
    pub(crate) package: &'static str,
    /// The program it installs.
    pub(crate) program: &'static str,
    /// The only version that will do.
    pub(crate) version: String,
}

impl CargoTool {
    /// The tool's path, after installing it into `.tools` if no copy of that version is around.
    pub(crate) fn ensure(&self, workspace: &Workspace, step: &str) -> Result<PathBuf> {
        let title = format!("{step} {} {}", self.program, self.version);
        if let Some(path) = self.find(workspace) {
            progress::in_place(&title);
            return Ok(path);
        }
        self.install(workspace, &title)?;
        match self.find(workspace) {
            Some(path) => Ok(path),
            None => bail!(
                "{title}: installed, but `{} --version` doesn't say {}: delete .tools and run \
                 `cargo xtask setup`",
                self.program,
                self.version
            ),
        }
    }

    fn find(&self, workspace: &Workspace) -> Option<PathBuf> {
        let own = workspace.path(".tools/bin").join(self.program);
        [own, PathBuf::from(self.program)].into_iter().find(|path| self.is_pinned(path))
    }

    fn is_pinned(&self, path: &PathBuf) -> bool {
        let Ok(output) = Command::new(path).arg("--version").output() else { return false };
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success() && text.split_whitespace().any(|word| word == self.version)
    }

    /// The author's lock file first. It can name a version that is not to be had any more; then
    /// cargo chooses.
    fn install(&self, workspace: &Workspace, title: &str) -> Result<()> {
        let locked = progress::run(title, self.install_command(workspace).arg("--locked"));
        let Err(error) = locked else { return Ok(()) };
        eprintln!("{error:#}; once more with the dependencies that cargo chooses");
        progress::run(title, &mut self.install_command(workspace))
    }

    fn install_command(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo();
        command
            .args(["install", self.package, "--version"])
            .arg(format!("={}", self.version))
            .arg("--root")
            .arg(workspace.path(".tools"));
        command
    }
}
