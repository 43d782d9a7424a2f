//! Runs a child while showing, on one line, what it is doing and for how long.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

/// How many lines of a failed child are shown: enough for a few compiler errors.
const KEPT_LINES_MAX: usize = 100;
const TERMINAL_REFRESH: Duration = Duration::from_millis(200);
const PLAIN_REFRESH: Duration = Duration::from_secs(10);
const LINE_WIDTH: usize = 79;

/// Says that there was nothing to do.
pub(crate) fn in_place(title: &str) {
    say(&format!("{title}: in place"));
}

/// One write for a whole line: stderr isn't buffered, and whoever reads our pipe could otherwise
/// show a line in pieces.
fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Runs `command` to its end. Its output is shown only if it fails.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    let display = Display::start(title);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{title}: {} can't be started", process::name_of(command)))?;
    let (sender, lines) = mpsc::channel();
    forward_lines(child.stdout.take(), sender.clone());
    forward_lines(child.stderr.take(), sender);
    let kept = display.follow(&lines);
    let status = child.wait().with_context(|| format!("{title}: waiting failed"))?;
    if !status.success() {
        display.fail();
        for line in kept {
            say(&format!("    {line}"));
        }
        bail!("{title}: {} ended with {status}; its output is above", process::name_of(command));
    }
    display.finish();
    Ok(())
}

fn forward_lines(stream: Option<impl Read + Send + 'static>, sender: mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            // A closed channel means that nobody shows the lines any more; reading on all the same
            // keeps the child from blocking on a full pipe.
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
}

struct Display {
    title: String,
    started: Instant,
    is_terminal: bool,
}

impl Display {
    fn start(title: &str) -> Self {
        let is_terminal = io::stderr().is_terminal();
        if !is_terminal {
            say(&format!("{title} …"));
        }
        Self { title: title.to_owned(), started: Instant::now(), is_terminal }
    }

    /// Shows the lines until the last of their senders is gone, and gives back the newest.
    fn follow(&self, lines: &mpsc::Receiver<String>) -> VecDeque<String> {
        let mut kept = VecDeque::new();
        let refresh = if self.is_terminal { TERMINAL_REFRESH } else { PLAIN_REFRESH };
        let mut shown = Instant::now();
        loop {
            match lines.recv_timeout(refresh.saturating_sub(shown.elapsed())) {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => keep(&mut kept, line),
                Err(RecvTimeoutError::Timeout) => {
                    self.show(kept.back());
                    shown = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => return kept,
            }
        }
    }

    fn show(&self, newest: Option<&String>) {
        let newest = newest.map_or("", |line| line.trim());
        let text = format!("{} · {} s · {newest}", self.title, self.started.elapsed().as_secs());
        if self.is_terminal {
            let text: String = text.chars().take(LINE_WIDTH).collect();
            self.rewrite(&text);
        } else {
            say(&text);
        }
    }

    fn finish(&self) {
        let text = format!("{}: done in {} s", self.title, self.started.elapsed().as_secs());
        if self.is_terminal {
            self.rewrite("");
        }
        say(&text);
    }

    fn fail(&self) {
        if self.is_terminal {
            self.rewrite("");
        }
        say(&format!("{}: failed after {} s", self.title, self.started.elapsed().as_secs()));
    }

    fn rewrite(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // A terminal that has gone away takes the progress with it, nothing else.
        let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
    }
}

fn keep(kept: &mut VecDeque<String>, line: String) {
    if kept.len() == KEPT_LINES_MAX {
        kept.pop_front();
    }
    kept.push_back(line);
}
