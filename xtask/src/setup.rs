//! Installs what the build and the local relay need. Every step looks first, so running it again
//! costs about a second.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::{env, path::Path};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::cargo_tool::CargoTool;
use crate::process;
use crate::progress;
use crate::workspace::Workspace;

const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// Goes with the `worker` crate in Cargo.toml: raise both together.
const WORKER_BUILD_VERSION: &str = "0.8.7";
const NODE_MAJOR_MIN: u32 = 20;
/// Written after `npm ci`, so that an interrupted one is repeated.
const LOCK_HASH_FILE: &str = "node_modules/.edgerelay-lock-hash";

/// The pinned tools that a build of the Worker calls.
pub(crate) struct Tools {
    pub(crate) worker_build: PathBuf,
    pub(crate) wasm_bindgen: PathBuf,
}

/// Makes sure that everything is there.
pub(crate) fn set_up(workspace: &Workspace) -> Result<Tools> {
    ensure_wasm_target(workspace, "[1/5]")?;
    let worker_build = CargoTool {
        package: "worker-build",
        program: "worker-build",
        version: WORKER_BUILD_VERSION.to_owned(),
    };
    let worker_build = worker_build.ensure(workspace, "[2/5]")?;
    let wasm_bindgen = CargoTool {
        package: "wasm-bindgen-cli",
        program: "wasm-bindgen",
        version: locked_version(workspace, "wasm-bindgen")?,
    };
    let wasm_bindgen = wasm_bindgen.ensure(workspace, "[3/5]")?;
    require_node("[4/5] Node.js and npm")?;
    ensure_npm_packages(workspace, "[5/5] npm packages")?;
    Ok(Tools { worker_build, wasm_bindgen })
}

fn ensure_wasm_target(workspace: &Workspace, step: &str) -> Result<()> {
    let title = format!("{step} {WASM_TARGET} target");
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    // Asking the compiler and not rustup: a Rust without rustup can have the target, too.
    if Path::new(sysroot.trim()).join("lib/rustlib").join(WASM_TARGET).join("lib").is_dir() {
        progress::in_place(&title);
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add", WASM_TARGET]).current_dir(workspace.root());
    progress::run(&title, &mut command)
        .with_context(|| format!("install rustup, or the {WASM_TARGET} target of your Rust"))
}

/// The version of a package in Cargo.lock. wasm-bindgen's program and library must agree exactly.
fn locked_version(workspace: &Workspace, package: &str) -> Result<String> {
    let text = fs::read_to_string(workspace.path("Cargo.lock"))
        .context("Cargo.lock can't be read: run `cargo generate-lockfile`")?;
    version_in_lock(&text, package)
        .with_context(|| format!("Cargo.lock doesn't name {package}: run `cargo update`"))
}

fn version_in_lock(lock: &str, package: &str) -> Option<String> {
    let name_line = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name_line).skip(1);
    let version = lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?;
    Some(version.to_owned())
}

fn require_node(title: &str) -> Result<()> {
    let advice = format!("install Node.js {NODE_MAJOR_MIN} or newer, with npm");
    let node =
        process::output(Command::new("node").arg("--version")).with_context(|| advice.clone())?;
    let major = node.trim().trim_start_matches('v').split('.').next().unwrap_or_default();
    let is_new_enough = major.parse::<u32>().is_ok_and(|major| major >= NODE_MAJOR_MIN);
    ensure!(is_new_enough, "this machine's Node.js is {}: {advice}", node.trim());
    process::output(Command::new("npm").arg("--version")).with_context(|| advice)?;
    progress::in_place(title);
    Ok(())
}

fn ensure_npm_packages(workspace: &Workspace, title: &str) -> Result<()> {
    let hash = lock_hash(workspace)?;
    let hash_file = workspace.path(LOCK_HASH_FILE);
    let is_installed = fs::read_to_string(&hash_file).is_ok_and(|recorded| recorded == hash);
    // `wrangler deploy` calls `cargo xtask build`: replacing the packages would pull wrangler from
    // under its own feet.
    let runs_under_wrangler = env::var_os("WRANGLER_COMMAND").is_some();
    if is_installed || runs_under_wrangler {
        progress::in_place(title);
    } else {
        let mut command = Command::new("npm");
        command
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(workspace.root());
        progress::run(title, &mut command)?;
    }
    require_pinned_node(workspace)?;
    fs::write(&hash_file, hash).with_context(|| format!("{} can't be written", hash_file.display()))
}

/// The `node` package fetches its program in an install script, which npm can be told to skip.
fn require_pinned_node(workspace: &Workspace) -> Result<()> {
    let node = workspace.node();
    if process::output(Command::new(&node).arg("--version")).is_ok() {
        return Ok(());
    }
    bail!(
        "{} doesn't run: let npm run install scripts (`npm config set ignore-scripts false`), \
         delete node_modules, and run `cargo xtask setup`",
        node.display()
    )
}

fn lock_hash(workspace: &Workspace) -> Result<String> {
    let lock = fs::read(workspace.path("package-lock.json"))
        .context("package-lock.json can't be read: is this a whole checkout?")?;
    Ok(Sha256::digest(&lock).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::version_in_lock;

    const LOCK: &str = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"0.2.1\"\n\n\
                        [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";

    #[test]
    fn a_locked_version_is_found_by_the_whole_name() {
        assert_eq!(version_in_lock(LOCK, "wasm-bindgen").as_deref(), Some("0.2.130"));
    }

    #[test]
    fn a_package_that_is_not_locked_has_no_version() {
        assert_eq!(version_in_lock(LOCK, "wasm"), None);
    }
}
