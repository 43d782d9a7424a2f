//! `cargo xtask`: everything a person or a CI machine does with this repository.
//!
//! In scope: installing the pinned tools, building the Worker, running it locally, starting the
//! tests, the demo and the bench with what they need. Out of scope: what the tests, the demo and
//! the bench do (crate `relay-tests`), and deploying (`wrangler deploy`, which calls
//! `cargo xtask build`).

mod bench;
mod build;
mod cargo_tool;
mod demo;
mod deny;
mod dev;
mod dev_vars;
mod lifecycle;
mod linear;
mod mutants;
mod process;
mod progress;
mod relay;
mod setup;
mod test;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Sets up, builds, runs, tests and measures EdgeRelay.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what the other tasks need; they all begin with it, and nothing is installed twice
    Setup,
    /// Builds the Worker into worker/build, as `wrangler deploy` uploads it
    Build,
    /// Starts the relay on this machine and stays until Ctrl-C
    Dev {
        /// Port on 127.0.0.1
        #[arg(long, default_value_t = 8787)]
        port: u16,
        /// Directory that keeps the relay's state [default: .edgerelay in the checkout]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Without a Linear of its own: only what you post reaches the relay, and nothing is answered
        #[arg(long)]
        without_linear: bool,
    },
    /// Shows the whole path: sign-in, a delegated issue, a handler that works, what Linear's user sees
    Demo,
    /// Runs every test, native and end-to-end
    Test {
        /// Only tests whose name contains one of these
        filters: Vec<String>,
    },
    /// Measures the relay against a floor
    Bench {
        /// Handed to the bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Sets how long an environment's bucket keeps what, from its retention in wrangler.toml
    Lifecycle {
        /// develop or production
        #[arg(long)]
        env: String,
        /// Prints the rules and changes nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Breaks the log on purpose, one fault at a time, and tells which the tests notice
    Mutants {
        /// Only faults whose description contains this
        #[arg(default_value = "")]
        filter: String,
    },
    /// Checks licences, sources and duplicate dependencies with cargo-deny
    Deny,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Setup => setup::set_up(&workspace).map(|_| ()),
        Task::Build => build::build_worker(&workspace),
        Task::Dev { port, state, without_linear } => {
            dev::run(&workspace, port, state, without_linear)
        }
        Task::Demo => demo::run(&workspace),
        Task::Test { filters } => test::run(&workspace, &filters),
        Task::Bench { arguments } => bench::run(&workspace, &arguments),
        Task::Lifecycle { env, dry_run } => {
            setup::set_up(&workspace)?;
            lifecycle::run(&workspace, &env, dry_run)
        }
        Task::Mutants { filter } => mutants::run(&workspace, &filter),
        Task::Deny => deny::run(&workspace),
    }
}
