//! Checks licences, sources and bans of every dependency. Unlike the advisories, they need nothing
//! from the network but the crates themselves.

use anyhow::{Result, bail};

use crate::process;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if process::output(workspace.cargo().args(["deny", "--version"])).is_err() {
        bail!("cargo-deny is not installed: run `cargo install cargo-deny --locked`");
    }
    let mut command = workspace.cargo();
    command.args(["deny", "--locked", "check", "licenses", "bans", "sources"]);
    match process::become_command(&mut command)? {}
}
