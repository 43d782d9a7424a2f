//! Runs every test. The runners' own summaries are the last thing printed.

use std::process::Command;

use anyhow::{Context, Result};

use crate::build::{self, Profile};
use crate::process;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, filters: &[String]) -> Result<()> {
    // The tests see what is deployed, not a debug build of it.
    build::build_worker(workspace)?;
    let client = build::build_client(workspace, Profile::Debug)?;
    let node = if filters.is_empty() { run_node_tests(workspace) } else { Ok(()) };
    let mut command = workspace.cargo();
    command
        // The Worker is wasm only; natively there is nothing in it to run.
        .args(["test", "--workspace", "--exclude", "relay-worker", "--no-fail-fast", "--"])
        .args(filters)
        .envs(build::test_environment(workspace, client));
    // Both run, whatever the first says.
    process::run(&mut command).and(node)
}

fn run_node_tests(workspace: &Workspace) -> Result<()> {
    let mut command = Command::new(workspace.node());
    command.args(["--test", "tests/relay/*.test.mjs"]).current_dir(workspace.root());
    process::run(&mut command).context("tests/relay")
}
