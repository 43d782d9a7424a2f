use std::{process::Stdio, time::Duration};

use relay_schemas::Webhook;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Completion, Handler};
use crate::{event::Event, session::Outcome};

/// Between asking a command to end and ending it.
const KILL_AFTER: Duration = Duration::from_secs(2);

const CREDENTIAL_VARIABLE: &str = "EDGE_API_KEY";

/// What is run for each event.
#[derive(Clone, Debug)]
pub struct ExecSettings {
    /// For the shell.
    pub command: String,
    /// How long one run may take; `None` for any time.
    pub timeout: Option<Duration>,
}

/// Runs a command for each event, with the body on its standard input and everything else in
/// environment variables. Exit status 0 is success.
#[derive(Debug)]
pub struct ExecHandler {
    settings: ExecSettings,
    runs: JoinSet<()>,
    abandoned: watch::Sender<bool>,
}

impl ExecHandler {
    /// Runs this.
    pub fn new(settings: ExecSettings) -> Self {
        Self { settings, runs: JoinSet::new(), abandoned: watch::Sender::new(false) }
    }
}

impl Handler for ExecHandler {
    fn start(&mut self, event: Event, attempt: u32, completion: Completion) {
        while self.runs.try_join_next().is_some() {}
        let settings = self.settings.clone();
        let abandoned = self.abandoned.subscribe();
        self.runs.spawn(async move {
            let outcome = match run(&settings, &event, attempt, abandoned).await {
                Ok(()) => Outcome::Succeeded,
                Err(message) => Outcome::Failed(message),
            };
            completion.finish(outcome);
        });
    }

    async fn abandon(&mut self) {
        self.abandoned.send_replace(true);
        while self.runs.join_next().await.is_some() {}
    }
}

async fn run(
    settings: &ExecSettings,
    event: &Event,
    attempt: u32,
    mut abandoned: watch::Receiver<bool>,
) -> Result<(), String> {
    let webhook = event.webhook();
    let body = webhook.body_bytes().ok_or("the event has no readable body")?;
    let mut command = shell(&settings.command);
    command.stdin(Stdio::piped()).kill_on_drop(true).envs(variables(&webhook, event, attempt));
    // The credential is this client's, not that of an agent that it starts.
    command.env_remove(CREDENTIAL_VARIABLE);
    let mut child = command.spawn().map_err(|error| format!("can't start the command: {error}"))?;
    let mut input = child.stdin.take();
    // A command need not read its input, and may leave it to a child that never does.
    let feed = async {
        if let Some(input) = &mut input {
            let _ = input.write_all(&body).await;
        }
        input.take();
        std::future::pending::<()>().await;
    };
    let limit = async {
        match settings.timeout {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let status = tokio::select! {
        status = child.wait() => Some(status),
        () = feed => None,
        () = limit => None,
        _ = abandoned.wait_for(|abandoned| *abandoned) => None,
    };
    match status {
        Some(Ok(status)) if status.success() => Ok(()),
        Some(Ok(status)) => Err(format!("the command ended with {status}")),
        Some(Err(error)) => Err(format!("can't wait for the command: {error}")),
        None => {
            end(&mut child).await;
            Err("the command took too long and was ended".into())
        }
    }
}

/// The variables are part of the interface: README.md lists them.
fn variables(webhook: &Webhook<'_>, event: &Event, attempt: u32) -> Vec<(&'static str, String)> {
    let headers = serde_json::to_string(&webhook.headers).unwrap_or_default();
    let mut variables = vec![
        ("EDGERELAY_EVENT_ID", event.id().to_string()),
        ("EDGERELAY_KIND", webhook.kind.to_string()),
        ("EDGERELAY_ORGANIZATION", webhook.organization.to_string()),
        ("EDGERELAY_CHANNEL", webhook.channel.to_string()),
        ("EDGERELAY_CURSOR", event.cursor().to_string()),
        ("EDGERELAY_TIMESTAMP", webhook.timestamp.to_string()),
        ("EDGERELAY_DELIVERY", webhook.delivery.as_deref().unwrap_or_default().to_owned()),
        ("EDGERELAY_SOURCE", webhook.source.to_string()),
        ("EDGERELAY_ATTEMPT", attempt.to_string()),
        ("EDGERELAY_HEADERS", headers),
    ];
    for (_, value) in &mut variables {
        // The one character that no variable can hold.
        value.retain(|character| character != '\0');
    }
    variables
}

#[cfg(unix)]
fn shell(text: &str) -> Command {
    let mut command = Command::new("sh");
    // A group of its own: what the command starts ends with it, and Ctrl-C reaches only us, so
    // that handlers get their grace.
    command.arg("-c").arg(text).process_group(0);
    command
}

#[cfg(windows)]
fn shell(text: &str) -> Command {
    let mut command = Command::new("cmd");
    command.arg("/C").raw_arg(text);
    command
}

#[cfg(unix)]
async fn end(child: &mut Child) {
    use nix::{
        sys::signal::{Signal, killpg},
        unistd::Pid,
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let Some(group) = group else { return };
    let _ = killpg(group, Signal::SIGTERM);
    let ended = timeout(KILL_AFTER, child.wait()).await.is_ok();
    // Also when the shell ended in time: one of its children may not have.
    let _ = killpg(group, Signal::SIGKILL);
    if !ended {
        let _ = child.wait().await;
    }
}

#[cfg(windows)]
async fn end(child: &mut Child) {
    let _ = child.start_kill();
    let _ = timeout(KILL_AFTER, child.wait()).await;
}
