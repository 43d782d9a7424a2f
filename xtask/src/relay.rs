//! A local relay as a child process: Node.js with Miniflare, which starts workerd.
//!
//! The child leads a process group of its own, so all of it can be killed by one id. Its stdin is
//! a pipe from here: should this process die in whatever way, the pipe closes and the child ends
//! itself and workerd.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// A clean end takes about 0.1 s; then the group is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const HEALTH_LIMIT: Duration = Duration::from_secs(30);
const HEALTH_INTERVAL: Duration = Duration::from_millis(50);
const HEALTH_RESPONSE_LENGTH_MAX: u64 = 4096;

/// The relay's process has closed its stdout: it has ended, or is about to.
pub(crate) struct Ended;

/// A started relay. It ends when this value is dropped.
pub(crate) struct Relay {
    child: Child,
    stdin: Option<ChildStdin>,
    url: String,
    ended: Receiver<Ended>,
}

impl Relay {
    /// Starts the built Worker with the settings that `tests/relay/serve.mjs` describes, and calls
    /// `on_end` when its process ends.
    pub(crate) fn start(
        workspace: &Workspace,
        settings: &Value,
        on_end: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let mut child = Command::new(workspace.node())
            .arg(workspace.path("tests/relay/serve.mjs"))
            .arg(settings.to_string())
            .current_dir(workspace.root())
            .env("WRANGLER_SEND_METRICS", "false")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the pinned Node.js can't be started: run `cargo xtask setup`")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the relay's stdout is piped")?;
        let (sender, ended) = mpsc::channel();
        let mut relay = Self { child, stdin, url: String::new(), ended };
        relay.url = read_ready_line(stdout, sender, on_end)?;
        Ok(relay)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns when `GET /health` is answered with 200.
    pub(crate) fn wait_until_healthy(&self) -> Result<()> {
        let address: SocketAddr = self
            .url
            .trim_start_matches("http://")
            .parse()
            .with_context(|| format!("the relay's address {} can't be read", self.url))?;
        let deadline = Instant::now() + HEALTH_LIMIT;
        loop {
            match health_status(address) {
                Ok(status) if status.ends_with(" 200 OK") => return Ok(()),
                answer if Instant::now() > deadline => {
                    let answer = answer.unwrap_or_else(|error| error.to_string());
                    bail!(
                        "GET {}/health isn't answered with 200 but with: {answer}; \
                         the relay's log is above",
                        self.url
                    );
                }
                _ => thread::sleep(HEALTH_INTERVAL),
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The end of stdin asks for a clean end.
        drop(self.stdin.take());
        let _ = self.ended.recv_timeout(STOP_LIMIT);
        if let Err(error) = process::kill_group(&mut self.child) {
            eprintln!("error: {error:#}");
        }
    }
}

fn read_ready_line(
    stdout: ChildStdout,
    ended: Sender<Ended>,
    on_end: impl FnOnce() + Send + 'static,
) -> Result<String> {
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    lines.read_line(&mut line).context("the relay's first line can't be read")?;
    ensure!(!line.is_empty(), "the relay ended before it was ready; its log is above");
    let ready: Value = serde_json::from_str(&line)
        .with_context(|| format!("the relay's first line isn't JSON: {line}"))?;
    if ready["ready"] != true {
        bail!("the relay doesn't start: {}", ready["error"].as_str().unwrap_or(&line));
    }
    thread::spawn(move || {
        // Nothing is asked here, so nothing but the end can come.
        let _ = lines.read_to_end(&mut Vec::new());
        let _ = ended.send(Ended);
        on_end();
    });
    let url = ready["url"].as_str().ok_or_else(|| anyhow!("the relay's first line has no url"))?;
    Ok(url.to_owned())
}

/// The status line of `GET /health`. An HTTP client for one line would be the largest dependency
/// of this crate.
fn health_status(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_LIMIT)?;
    stream.set_read_timeout(Some(HEALTH_LIMIT))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream.take(HEALTH_RESPONSE_LENGTH_MAX)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
