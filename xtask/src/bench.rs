//! Starts the bench of crate `relay-tests` with everything built for release.

use anyhow::Result;

use crate::build::{self, Profile};
use crate::process;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    build::build_worker(workspace)?;
    let client = build::build_client(workspace, Profile::Release)?;
    let mut command = workspace.cargo();
    command
        .args(["run", "--quiet", "--release", "--package", "relay-tests", "--bin", "bench", "--"])
        .args(arguments)
        .envs(build::test_environment(workspace, client));
    match process::become_command(&mut command)? {}
}
