//! The relay on this machine until somebody ends it.

use std::path::{Path, PathBuf, absolute};
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

use crate::build::{self, Profile};
use crate::dev_vars;
use crate::relay::Relay;
use crate::workspace::Workspace;

const EXIT_STATUS_INTERRUPTED: i32 = 130;

enum Event {
    /// Ctrl-C, `kill`, or the terminal has gone.
    EndAsked,
    RelayEnded,
}

pub(crate) fn run(workspace: &Workspace, port: u16, state: Option<PathBuf>) -> Result<()> {
    build::build_worker(workspace, Profile::Release)?;
    let secrets_are_new = dev_vars::ensure(&workspace.path(".dev.vars"))?;
    let state = absolute(state.unwrap_or_else(|| workspace.path(".edgerelay")))
        .context("the directory of --state can't be made absolute")?;

    let (sender, events) = mpsc::channel();
    watch_signals(sender.clone())?;
    let settings = json!({ "port": port, "state": state, "dev_vars": true });
    let relay = Relay::start(workspace, &settings, move || {
        // The receiver is gone once this function returns, and then nobody needs to know.
        let _ = sender.send(Event::RelayEnded);
    })?;
    relay.wait_until_healthy()?;
    print_use(relay.url(), &state, secrets_are_new);

    match events.recv().context("the watching threads ended")? {
        Event::EndAsked => Ok(()),
        Event::RelayEnded => bail!("the relay ended by itself; its log is above"),
    }
}

/// Blocked here, the signals are blocked in every thread started later, so only the one that waits
/// for them gets them. Children start with none blocked.
fn watch_signals(events: Sender<Event>) -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("signals can't be blocked")?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            let _ = events.send(Event::EndAsked);
        }
        // Asked twice: somebody is in a hurry, or the relay hangs while it starts. It ends itself
        // when its stdin closes.
        if signals.wait().is_ok() {
            std::process::exit(EXIT_STATUS_INTERRUPTED);
        }
    });
    Ok(())
}

fn print_use(url: &str, state: &Path, secrets_are_new: bool) {
    let origin = if secrets_are_new { "made just now" } else { "kept from before" };
    println!(
        r#"
state    {}
secrets  .dev.vars ({origin}); load them into a shell: set -a; . ./.dev.vars; set +a
enrol    curl -X POST {url}/admin/edges -H "Authorization: Bearer $ADMIN_TOKEN" \
           -H "Content-Type: application/json" \
           -d '{{"organization":"…","user":"…","name":"laptop"}}'
listen   PROXY_URL={url} EDGE_API_KEY=<credential> edgerelay listen
end      Ctrl-C
ready {url}"#,
        state.display()
    );
}
