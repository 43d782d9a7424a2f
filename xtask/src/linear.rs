//! The Linear of crate `relay-tests` as a child process, so that the local relay has one to answer.
//!
//! Its stdin is a pipe from here: should this process die in whatever way, the pipe closes and the
//! child ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::build;
use crate::process;
use crate::workspace::Workspace;

/// What the app is called by at this Linear.
pub(crate) const CLIENT_ID: &str = "local-client-id";
/// What it proves that with. No secret: this Linear exists for as long as the command runs.
pub(crate) const CLIENT_SECRET: &str = "local-client-secret";

/// A started Linear. It ends when this value is dropped.
pub(crate) struct Linear {
    child: Child,
    _stdin: Option<ChildStdin>,
    url: String,
}

impl Linear {
    /// Starts it for the relay at `relay_url`.
    pub(crate) fn start(
        workspace: &Workspace,
        relay_url: &str,
        webhook_secret: &str,
    ) -> Result<Self> {
        let program = build::build_program(workspace, "relay-tests", "linear")?;
        let mut child = Command::new(program)
            .args(["--webhook-url", &format!("{relay_url}/webhook")])
            .args(["--redirect-uri", &format!("{relay_url}/oauth/callback")])
            .args(["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET])
            .arg("--end-with-stdin")
            // Not an argument: those can be seen by everybody on the machine.
            .env("LINEAR_WEBHOOK_SECRET", webhook_secret)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the local Linear can't be started")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut linear = Self { child, _stdin: stdin, url: String::new() };
        let mut line = String::new();
        BufReader::new(stdout.context("the local Linear's stdout is piped")?)
            .read_line(&mut line)
            .context("the local Linear's first line can't be read")?;
        let ready: Value = serde_json::from_str(&line)
            .context("the local Linear ended before it was ready; its log is above")?;
        linear.url = ready["url"].as_str().ok_or_else(|| anyhow!("no url in {line}"))?.to_owned();
        Ok(linear)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        if let Err(error) = process::kill_group(&mut self.child) {
            eprintln!("error: {error:#}");
        }
    }
}
