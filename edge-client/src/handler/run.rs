use std::{
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncWriteExt, stderr, stdout},
    process::Child,
    sync::{oneshot, watch},
    time::sleep,
};

use super::{
    Completion,
    exec::ExecSettings,
    process::{end, shell},
    progress::ProgressPipe,
    tee::Tee,
    variables::variables,
};
use crate::{
    event::Event,
    report_marker::{self, ReportMarker},
    session::{Outcome, RunSummary},
};

/// Between asking a command to end and ending it, when nobody waits for what it has to say.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// How long a pipe of a command that has ended is read, when something that it started in the
/// background still holds it open.
pub(super) const DRAIN: Duration = Duration::from_millis(500);

const CREDENTIAL_VARIABLE: &str = "EDGE_API_KEY";

pub(super) const PROGRESS_VARIABLE: &str = "EDGERELAY_PROGRESS_FD";

/// One run of the command for one event.
pub(super) struct Run {
    pub(super) settings: ExecSettings,
    pub(super) takes_progress: bool,
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
        let marker = ReportMarker::new();
        let (end, message) = match self.start(&marker) {
            Ok((mut child, pipes)) => {
                let end = self.wait(&mut child, stopped, abandoned).await;
                (end, pipes.close().await)
            }
            Err(error) => (End::Broken(error), None),
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
        let is_told = marker.is_set();
        self.completion
            .finish_with(outcome, RunSummary { message, exit_code, duration_ms, is_told });
    }

    fn start(&self, marker: &ReportMarker) -> Result<(Child, Pipes), String> {
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
        command.env(report_marker::VARIABLE, marker.path());
        // The credential is this client's, not that of an agent that it starts.
        command.env_remove(CREDENTIAL_VARIABLE).env_remove(PROGRESS_VARIABLE);
        let (event, completion) = (&self.event, &self.completion);
        let progress = match self.takes_progress {
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
    /// The last line. No progress comes after this: the run's end is next.
    async fn close(self) -> Option<String> {
        if let Some(progress) = self.progress {
            progress.close().await;
        }
        let (output, errors) = tokio::join!(last_line(self.output), last_line(self.errors));
        output.or(errors)
    }
}

async fn last_line(tee: Option<Tee>) -> Option<String> {
    tee?.close(DRAIN).await
}
