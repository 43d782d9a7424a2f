use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use relay_schemas::Webhook;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, stderr, stdout},
    process::Child,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Completion,
    exec::ExecSettings,
    last_line::LastLine,
    process::{end, shell},
    progress::ProgressPipe,
};
use crate::{
    event::Event,
    session::{Outcome, RunSummary},
};

/// Between asking a command to end and ending it, when nobody waits for what it has to say.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(2);

/// How long a pipe of a command that has ended is read, when something that it started in the
/// background still holds it open.
pub(super) const DRAIN: Duration = Duration::from_millis(500);

const OUTPUT_BYTES: usize = 8 * 1024;

const CREDENTIAL_VARIABLE: &str = "EDGE_API_KEY";

pub(super) const PROGRESS_VARIABLE: &str = "EDGERELAY_PROGRESS_FD";

/// One run of the command for one event.
pub(super) struct Run {
    pub(super) settings: ExecSettings,
    pub(super) shows_progress: bool,
    pub(super) event: Event,
    pub(super) attempt: u32,
    pub(super) completion: Completion,
}

/// How the command came to its end.
enum End {
    Exited(ExitStatus),
    Stopped(Option<ExitStatus>),
    Broken(String),
}

impl Run {
    pub(super) async fn perform(
        self,
        stopped: oneshot::Receiver<()>,
        abandoned: watch::Receiver<bool>,
    ) {
        let started = Instant::now();
        let (end, message, has_concluded) = match self.start() {
            Ok((mut child, pipes)) => {
                let end = self.wait(&mut child, stopped, abandoned).await;
                let (message, has_concluded) = pipes.close().await;
                (end, message, has_concluded)
            }
            Err(error) => (End::Broken(error), None, false),
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).ok();
        let exit_code = match &end {
            End::Exited(status) => status.code(),
            End::Stopped(status) => status.and_then(|status| status.code()),
            End::Broken(_) => None,
        };
        let (outcome, message) = match end {
            End::Exited(status) if status.success() => (Outcome::Succeeded, message),
            End::Exited(status) => {
                (Outcome::Failed(format!("the command ended with {status}")), message)
            }
            End::Stopped(_) => (Outcome::Succeeded, Some(crate::session::STOPPED.to_owned())),
            End::Broken(error) => (Outcome::Failed(error), message),
        };
        // A command that has answered itself needs no answer made of its last line.
        let message = message.filter(|_| !has_concluded);
        let summary = RunSummary { message, exit_code, duration_ms };
        self.completion.finish_with(outcome, summary);
    }

    fn start(&self) -> Result<(Child, Pipes), String> {
        let webhook = self.event.webhook();
        let mut command = shell(&self.settings.command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        for (name, value) in variables(&webhook, &self.event, self.attempt) {
            match value {
                Some(value) => command.env(name, value),
                // Of a client that runs within another's handler.
                None => command.env_remove(name),
            };
        }
        // The credential is this client's, not that of an agent that it starts.
        command.env_remove(CREDENTIAL_VARIABLE).env_remove(PROGRESS_VARIABLE);
        let (event, completion) = (&self.event, &self.completion);
        let progress = match self.shows_progress {
            true => Some(ProgressPipe::open(
                &mut command,
                self.settings.progress_fd,
                event,
                completion,
            )?),
            false => None,
        };
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| format!("can't start the command: {error}"))?;
        // Also what it holds of the progress' pipe: only the command's own end keeps it open.
        drop(command);
        let output = Tee::start(child.stdout.take(), stdout());
        let errors = Tee::start(child.stderr.take(), stderr());
        Ok((child, Pipes { output, errors, progress }))
    }

    async fn wait(
        &self,
        child: &mut Child,
        stopped: oneshot::Receiver<()>,
        mut abandoned: watch::Receiver<bool>,
    ) -> End {
        let mut input = child.stdin.take();
        let webhook = self.event.webhook();
        let Some(body) = webhook.body_bytes() else {
            end(child, Duration::ZERO).await;
            return End::Broken("the event has no readable body".into());
        };
        // A command need not read its input, and may leave it to a child that never does.
        let feed = async {
            if let Some(input) = &mut input {
                let _ = input.write_all(&body).await;
            }
            input.take();
            std::future::pending::<()>().await;
        };
        let limit = async {
            match self.settings.timeout {
                Some(duration) => sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        let is_stopped = tokio::select! {
            status = child.wait() => return match status {
                Ok(status) => End::Exited(status),
                Err(error) => End::Broken(format!("can't wait for the command: {error}")),
            },
            Ok(()) = stopped => true,
            () = feed => false,
            () = limit => false,
            _ = abandoned.wait_for(|abandoned| *abandoned) => false,
        };
        if is_stopped {
            return End::Stopped(end(child, self.settings.grace).await);
        }
        end(child, KILL_AFTER).await;
        End::Broken("the command took too long and was ended".into())
    }
}

/// What the command says, while it runs.
struct Pipes {
    output: Option<Tee>,
    errors: Option<Tee>,
    progress: Option<ProgressPipe>,
}

impl Pipes {
    /// The last line, and whether the command has answered itself.
    async fn close(self) -> (Option<String>, bool) {
        let has_concluded = match self.progress {
            Some(progress) => progress.close().await,
            None => false,
        };
        let (output, errors) = tokio::join!(last_line(self.output), last_line(self.errors));
        (output.or(errors), has_concluded)
    }
}

async fn last_line(tee: Option<Tee>) -> Option<String> {
    tee?.close().await
}

/// Copies what a command prints to where it would have gone, and keeps the last line.
struct Tee {
    last: Arc<Mutex<LastLine>>,
    copying: JoinHandle<()>,
}

impl Tee {
    fn start(
        source: Option<impl AsyncRead + Unpin + Send + 'static>,
        target: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Option<Self> {
        let last = Arc::new(Mutex::new(LastLine::default()));
        let copying = tokio::spawn(copy(source?, target, Arc::clone(&last)));
        Some(Self { last, copying })
    }

    /// What the command's children print later is still copied.
    async fn close(self) -> Option<String> {
        let _ = timeout(DRAIN, self.copying).await;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

async fn copy(
    mut source: impl AsyncRead + Unpin,
    mut target: impl AsyncWrite + Unpin,
    last: Arc<Mutex<LastLine>>,
) {
    let mut chunk = vec![0; OUTPUT_BYTES];
    while let Ok(length) = source.read(&mut chunk).await
        && length > 0
    {
        let chunk = &chunk[..length];
        last.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        // Nobody reads our output any more: then the command is told so by its own pipe.
        if target.write_all(chunk).await.is_err() || target.flush().await.is_err() {
            return;
        }
    }
}

/// The variables are part of the interface: README.md lists them.
fn variables(
    webhook: &Webhook<'_>,
    event: &Event,
    attempt: u32,
) -> Vec<(&'static str, Option<String>)> {
    let headers = serde_json::to_string(&webhook.headers).unwrap_or_default();
    let assigned = (webhook.attempt > 1).then(|| webhook.attempt.to_string());
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
    let mut variables = vec![
        ("EDGERELAY_EVENT_ID", Some(event.id().to_string())),
        ("EDGERELAY_KIND", Some(webhook.kind.to_string())),
        ("EDGERELAY_ORGANIZATION", Some(webhook.organization.to_string())),
        ("EDGERELAY_CHANNEL", Some(webhook.channel.to_string())),
        ("EDGERELAY_CURSOR", Some(event.cursor().to_string())),
        ("EDGERELAY_TIMESTAMP", Some(webhook.timestamp.to_string())),
        ("EDGERELAY_DELIVERY", Some(webhook.delivery.as_deref().unwrap_or_default().to_owned())),
        ("EDGERELAY_SOURCE", Some(webhook.source.to_string())),
        ("EDGERELAY_ATTEMPT", Some(attempt.to_string())),
        ("EDGERELAY_HEADERS", Some(headers)),
        ("EDGERELAY_SESSION", text(&webhook.session)),
        ("EDGERELAY_ISSUE", text(&webhook.issue)),
        ("EDGERELAY_APP", text(&webhook.app)),
        ("EDGERELAY_OWN", webhook.own.then(|| "true".to_owned())),
        ("EDGERELAY_ROUTED_BY", text(&webhook.routed_by)),
        ("EDGERELAY_ASSIGNED_ATTEMPT", assigned),
    ];
    for value in variables.iter_mut().filter_map(|(_, value)| value.as_mut()) {
        // The one character that no variable can hold.
        value.retain(|character| character != '\0');
    }
    variables
}
