use std::{
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use relay_schemas::{Activity, Webhook};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, stderr, stdout},
    process::{Child, Command},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Completion, exec::ExecSettings, last_line::LastLine};
use crate::{
    event::Event,
    session::{Outcome, RunSummary},
};

/// Between asking a command to end and ending it, when nobody waits for what it has to say.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// How often the end of a group of processes is looked for, which nobody tells.
const GROUP_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a pipe of a command that has ended is read, when something that it started in the
/// background still holds it open.
const DRAIN: Duration = Duration::from_millis(500);

const OUTPUT_BYTES: usize = 8 * 1024;

const CREDENTIAL_VARIABLE: &str = "EDGE_API_KEY";

const PROGRESS_VARIABLE: &str = "EDGERELAY_PROGRESS_FD";

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
        #[cfg(unix)]
        let progress = match self.shows_progress {
            true => Some(self.open_progress(&mut command)?),
            false => None,
        };
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| format!("can't start the command: {error}"))?;
        // Also what it holds of the progress' pipe: only the command's own end keeps it open.
        drop(command);
        let output = Tee::start(child.stdout.take(), stdout());
        let errors = Tee::start(child.stderr.take(), stderr());
        #[cfg(unix)]
        let pipes = Pipes { output, errors, progress };
        #[cfg(not(unix))]
        let pipes = Pipes { output, errors };
        Ok((child, pipes))
    }

    #[cfg(unix)]
    fn open_progress(&self, command: &mut Command) -> Result<Progress, String> {
        use command_fds::{CommandFdExt, FdMapping};
        let failed = |error: std::io::Error| format!("can't make a pipe for progress: {error}");
        let (sender, receiver) = tokio::net::unix::pipe::pipe().map_err(failed)?;
        let parent_fd = sender.into_blocking_fd().map_err(failed)?;
        let child_fd = self.settings.progress_fd;
        command
            .fd_mappings(vec![FdMapping { parent_fd, child_fd }])
            .map_err(|_| "the descriptor for progress is taken".to_owned())?
            .env(PROGRESS_VARIABLE, child_fd.to_string());
        Ok(Progress::start(receiver, &self.event, &self.completion))
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
    #[cfg(unix)]
    progress: Option<Progress>,
}

impl Pipes {
    /// The last line, and whether the command has answered itself.
    async fn close(self) -> (Option<String>, bool) {
        #[cfg(unix)]
        let has_concluded = match self.progress {
            Some(progress) => progress.close().await,
            None => false,
        };
        #[cfg(not(unix))]
        let has_concluded = false;
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

/// Reads the command's progress.
#[cfg(unix)]
struct Progress {
    has_ended: oneshot::Sender<()>,
    has_concluded: Arc<AtomicBool>,
    reading: JoinHandle<()>,
}

#[cfg(unix)]
impl Progress {
    fn start(
        receiver: tokio::net::unix::pipe::Receiver,
        event: &Event,
        completion: &Completion,
    ) -> Self {
        let (has_ended, ended) = oneshot::channel();
        let has_concluded = Arc::new(AtomicBool::new(false));
        let (teller, concluded) = (completion.teller(), Arc::clone(&has_concluded));
        let tell = move |activity: Activity| {
            if activity.content.ends_turn() {
                concluded.store(true, Ordering::Relaxed);
            }
            teller.tell(activity);
        };
        let reading = tokio::spawn(super::progress::read(receiver, event.id(), tell, ended));
        Self { has_ended, has_concluded, reading }
    }

    /// Whether a last word was among it. Nothing comes after this: the report is next.
    async fn close(mut self) -> bool {
        let _ = self.has_ended.send(());
        if timeout(DRAIN, &mut self.reading).await.is_err() {
            self.reading.abort();
            let _ = self.reading.await;
        }
        self.has_concluded.load(Ordering::Relaxed)
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

/// Asks the command to end, and ends it when it takes too long.
#[cfg(unix)]
async fn end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    use nix::{
        sys::signal::{Signal, killpg},
        unistd::Pid,
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)?;
    let begun_at = Instant::now();
    let _ = killpg(group, Signal::SIGTERM);
    let ended = timeout(patience, child.wait()).await;
    // Some shells end at once, before what they have started has said its last word.
    while ended.is_ok() && killpg(group, None).is_ok() && begun_at.elapsed() < patience {
        sleep(GROUP_LOOK_INTERVAL).await;
    }
    let _ = killpg(group, Signal::SIGKILL);
    match ended {
        Ok(status) => status.ok(),
        Err(_) => child.wait().await.ok(),
    }
}

#[cfg(windows)]
async fn end(child: &mut Child, _patience: Duration) -> Option<ExitStatus> {
    let _ = child.start_kill();
    timeout(KILL_AFTER, child.wait()).await.ok()?.ok()
}
