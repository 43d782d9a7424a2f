//! Breaks the cores on purpose (the log and its replay, assigning, routing, installations, sign-in),
//! one fault at a time, and tells which the tests notice. The faults are in `tests/mutants.json`: a
//! file, a text that stands there once, and what takes its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::workspace::Workspace;

/// What is copied: everything that the native tests are built from.
const COPIED: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "docs",
    "durable",
    "edge-client",
    "schemas",
    "tests",
    "worker",
    "wrangler.toml",
    "xtask",
];

#[derive(Deserialize)]
struct Mutant {
    file: String,
    old: String,
    new: String,
    why: String,
}

/// Runs the faults whose reason contains `filter`, and fails if one isn't noticed.
pub(crate) fn run(workspace: &Workspace, filter: &str) -> Result<()> {
    let text = fs::read_to_string(workspace.path("tests/mutants.json"))
        .context("tests/mutants.json can't be read")?;
    let mutants: Vec<Mutant> = serde_json::from_str(&text).context("tests/mutants.json")?;
    let directory = workspace.path("target/mutants");
    let source = directory.join("source");
    copy_source(workspace, &source)?;
    ensure!(passes(&source, &directory)?, "the tests fail already without a fault");
    let mut survivors = Vec::new();
    let chosen: Vec<&Mutant> = mutants.iter().filter(|one| one.why.contains(filter)).collect();
    for (index, mutant) in chosen.iter().enumerate() {
        let is_noticed = try_mutant(mutant, &source, &directory)?;
        let verdict = if is_noticed { "killed  " } else { "SURVIVED" };
        println!("{:3}/{} {verdict} {}: {}", index + 1, chosen.len(), mutant.file, mutant.why);
        if !is_noticed {
            survivors.push(mutant.why.as_str());
        }
    }
    println!("{} of {} faults killed", chosen.len() - survivors.len(), chosen.len());
    if !survivors.is_empty() {
        bail!("not noticed: {}", survivors.join("; "));
    }
    Ok(())
}

fn try_mutant(mutant: &Mutant, source: &Path, directory: &Path) -> Result<bool> {
    let path = source.join(&mutant.file);
    let original = fs::read_to_string(&path).with_context(|| mutant.file.clone())?;
    ensure!(
        original.matches(&mutant.old).count() == 1,
        "{}: what is to be replaced for \"{}\" does not stand there once",
        mutant.file,
        mutant.why
    );
    fs::write(&path, original.replacen(&mutant.old, &mutant.new, 1))?;
    let outcome = passes(source, directory);
    fs::write(&path, original)?;
    Ok(!outcome?)
}

/// Whether the native tests of the cores pass. A fault that doesn't compile proves nothing.
fn passes(source: &Path, directory: &Path) -> Result<bool> {
    let built = cargo(source, directory, &["build", "--package", "relay-durable"])?;
    ensure!(built, "a fault doesn't compile");
    for tests in [
        &["test", "--package", "relay-durable"][..],
        &["test", "--package", "relay-tests", "--test", "simulation"][..],
    ] {
        if !cargo(source, directory, tests)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn cargo(source: &Path, directory: &Path, arguments: &[&str]) -> Result<bool> {
    let log = fs::File::create(directory.join("last.log"))?;
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .current_dir(source)
        .env("CARGO_TARGET_DIR", directory.join("target"))
        .env("EDGERELAY_SIMULATION_S", "5")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .context("cargo can't be started")?;
    Ok(status.success())
}

fn copy_source(workspace: &Workspace, source: &Path) -> Result<()> {
    if source.exists() {
        fs::remove_dir_all(source)?;
    }
    fs::create_dir_all(source)?;
    for name in COPIED {
        copy(&workspace.path(name), &source.join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to).with_context(|| from.display().to_string())?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != "build" {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
