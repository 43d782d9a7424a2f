//! The relay on this machine until somebody ends it.

use std::net::TcpListener;
use std::path::{Path, PathBuf, absolute};
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};

use crate::build;
use crate::dev_vars;
use crate::linear::{self, Linear};
use crate::relay::Relay;
use crate::workspace::Workspace;

const EXIT_STATUS_INTERRUPTED: i32 = 130;

enum Event {
    /// Ctrl-C, `kill`, or the terminal has gone.
    EndAsked,
    RelayEnded,
}

pub(crate) fn run(
    workspace: &Workspace,
    port: u16,
    state: Option<PathBuf>,
    without_linear: bool,
) -> Result<()> {
    build::build_worker(workspace)?;
    let secrets_path = workspace.path(".dev.vars");
    let secrets_are_new = dev_vars::ensure(&secrets_path)?;
    let state = absolute(state.unwrap_or_else(|| workspace.path(".edgerelay")))
        .context("the directory of --state can't be made absolute")?;

    let (sender, events) = mpsc::channel();
    watch_signals(sender.clone())?;
    let port = if port == 0 { free_port()? } else { port };
    let linear = match dev_vars::value(&secrets_path, "LINEAR_CLIENT_ID")? {
        // The real one is answered then.
        Some(_) => None,
        None if without_linear => None,
        None => Some(start_linear(workspace, &secrets_path, port)?),
    };
    let settings =
        json!({ "port": port, "state": state, "dev_vars": true, "vars": vars(linear.as_ref()) });
    let relay = Relay::start(workspace, &settings, move || {
        // The receiver is gone once this function returns, and then nobody needs to know.
        let _ = sender.send(Event::RelayEnded);
    })?;
    relay.wait_until_healthy()?;
    print_use(relay.url(), &state, secrets_are_new, linear.as_ref());

    match events.recv().context("the watching threads ended")? {
        Event::EndAsked => Ok(()),
        Event::RelayEnded => bail!("the relay ended by itself; its log is above"),
    }
}

/// The local Linear must know where the relay will be.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("there is no free port")?;
    Ok(listener.local_addr()?.port())
}

fn start_linear(workspace: &Workspace, secrets: &Path, port: u16) -> Result<Linear> {
    let webhook_secrets = dev_vars::value(secrets, "LINEAR_WEBHOOK_SECRET")?
        .context(".dev.vars has no LINEAR_WEBHOOK_SECRET: delete the file")?;
    let current = webhook_secrets.split(',').next().unwrap_or_default().trim();
    Linear::start(workspace, &format!("http://127.0.0.1:{port}"), current)
}

fn vars(linear: Option<&Linear>) -> Value {
    let Some(linear) = linear else { return json!({}) };
    json!({
        "LINEAR_CLIENT_ID": linear::CLIENT_ID,
        "LINEAR_CLIENT_SECRET": linear::CLIENT_SECRET,
        "LINEAR_URL": linear.url(),
        "LINEAR_API_URL": linear.url(),
    })
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

fn print_use(url: &str, state: &Path, secrets_are_new: bool, linear: Option<&Linear>) {
    let origin = if secrets_are_new { "made just now" } else { "kept from before" };
    println!("\nstate    {}", state.display());
    println!(
        "secrets  .dev.vars ({origin}); load them into a shell: set -a; . ./.dev.vars; set +a"
    );
    match linear {
        Some(linear) => println!(
            r"linear   {0} plays Linear; POST {0}/fake/do lets its people act
install  open {url}/oauth/authorize and let Ada Admin install the app
sign in  PROXY_URL={url} edgerelay login
listen   PROXY_URL={url} edgerelay listen --exec ./handler",
            linear.url()
        ),
        None => println!(
            r#"enrol    curl -X POST {url}/admin/edges -H "Authorization: Bearer $ADMIN_TOKEN" \
           -H "Content-Type: application/json" \
           -d '{{"organization":"…","user":"…","name":"laptop"}}'
listen   PROXY_URL={url} EDGE_API_KEY=<credential> edgerelay listen"#
        ),
    }
    println!("end      Ctrl-C\nready {url}");
}
