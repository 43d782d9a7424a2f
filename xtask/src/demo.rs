//! Starts the demo of crate `relay-tests` with everything built.

use anyhow::Result;

use crate::build::{self, Profile};
use crate::process;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    build::build_worker(workspace)?;
    let client = build::build_client(workspace, Profile::Debug)?;
    let mut command = workspace.cargo();
    command
        .args(["run", "--quiet", "--package", "relay-tests", "--bin", "demo"])
        .envs(build::test_environment(workspace, client));
    match process::become_command(&mut command)? {}
}
