//! Builds the Worker, and what is run beside it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::progress;
use crate::setup::{self, Tools};
use crate::workspace::Workspace;

/// How much the compiler optimizes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// Sets up and builds the Worker into `worker/build`.
///
/// Always the one that is deployed: without optimization `worker::Delay` panics in workerd.
pub(crate) fn build_worker(workspace: &Workspace) -> Result<()> {
    let tools = setup::set_up(workspace)?;
    progress::run("[build] Worker", &mut worker_build_command(workspace, &tools)?)?;
    let entry = workspace.path("worker/build/index.js");
    ensure!(entry.is_file(), "worker-build made no {}", entry.display());
    Ok(())
}

fn worker_build_command(workspace: &Workspace, tools: &Tools) -> Result<Command> {
    let mut command = Command::new(&tools.worker_build);
    command
        .args(["--profile", "worker"])
        .current_dir(workspace.path("worker"))
        .env("PATH", workspace.path_variable()?)
        // Otherwise worker-build downloads them at run time, in versions of its own.
        .env("WASM_BINDGEN_BIN", &tools.wasm_bindgen)
        .env("ESBUILD_BIN", workspace.npm_program("esbuild"))
        .env("WASM_OPT_BIN", workspace.npm_program("wasm-opt"));
    Ok(command)
}

/// The path of a freshly built `edgerelay`.
pub(crate) fn build_client(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let arguments: &[&str] = match profile {
        Profile::Debug => &[],
        Profile::Release => &["--release"],
    };
    build(workspace, ("edgerelay", "edgerelay"), arguments)
}

/// The path of another freshly built program.
pub(crate) fn build_program(workspace: &Workspace, package: &str, name: &str) -> Result<PathBuf> {
    build(workspace, (package, name), &[])
}

fn build(
    workspace: &Workspace,
    (package, name): (&str, &str),
    arguments: &[&str],
) -> Result<PathBuf> {
    let mut command = workspace.cargo();
    command
        .args(["build", "--package", package, "--bin", name])
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = command.output().context("cargo can't be started")?;
    ensure!(output.status.success(), "{name} doesn't build; the reasons are above");
    executable_in(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("cargo built {name} but didn't say where"))
}

fn executable_in(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// What the end-to-end tests, the demo and the bench are told about this checkout.
pub(crate) fn test_environment(
    workspace: &Workspace,
    client: PathBuf,
) -> [(&'static str, PathBuf); 3] {
    [
        ("EDGERELAY_ROOT", workspace.root().to_path_buf()),
        ("EDGERELAY_NODE", workspace.node()),
        ("EDGERELAY_BIN", client),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::executable_in;

    #[test]
    fn the_executable_is_the_one_artifact_that_has_a_path() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/target/edgerelay\"}\n",
            "{\"reason\":\"build-finished\"}\n",
        );
        assert_eq!(executable_in(messages), Some(PathBuf::from("/target/edgerelay")));
    }
}
