//! Where things are in a checkout.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, iter};

use anyhow::{Context, Result};

/// A checkout of the repository.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout that this program was started from.
    pub(crate) fn locate() -> Result<Self> {
        // What cargo says now wins over what it said at build time: a target directory can be
        // shared between checkouts.
        let manifest_directory = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_directory
            .parent()
            .context("the xtask directory has no parent: run `cargo xtask` in a checkout")?;
        Ok(Self { root: root.to_path_buf() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The pinned Node.js; the one on the machine is only good enough to run npm.
    pub(crate) fn node(&self) -> PathBuf {
        self.path("node_modules/node/bin/node")
    }

    /// A program that an npm package brings.
    pub(crate) fn npm_program(&self, name: &str) -> PathBuf {
        self.path("node_modules/.bin").join(name)
    }

    /// `cargo`, of the toolchain that runs this program, started in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// `PATH` with the npm packages' programs first, so that their scripts find the pinned Node.js.
    pub(crate) fn path_variable(&self) -> Result<OsString> {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let directories =
            iter::once(self.path("node_modules/.bin")).chain(env::split_paths(&inherited));
        env::join_paths(directories).context(
            "the path of this checkout can't stand in PATH: move it to one without a colon",
        )
    }
}
