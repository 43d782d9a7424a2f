use std::{
    fmt,
    io::{self, IsTerminal, Write},
    path::Path,
    pin::pin,
    time::Instant,
};

use futures::{Stream, StreamExt};
use tokio::{task::JoinSet, time::sleep_until};

use super::{
    destination::Destination,
    ending::Ending,
    failure::Failure,
    output::Output,
    progress_bar::ProgressBar,
    report::ExportReport,
    requests::Requests,
    transfer::{Command, Input, Tally, Transfer},
};
use crate::{
    access::Access,
    clock::Clock,
    config::{ExportSettings, Settings},
    relay::{self, Relay},
};

/// A clock is looked at once in this time, also when nothing is waited for.
const TICK_MS: u64 = 1_000;

/// Writes a stream's history as NDJSON to where `export` says. The first item of `shutdown` ends
/// it after the line that is being written, the second at once.
pub async fn export(
    settings: &Settings,
    export: &ExportSettings,
    shutdown: impl Stream<Item = ()>,
) -> ExportReport {
    match &export.output.value {
        Some(path) => export_to_file(settings, export, path, shutdown).await,
        None => {
            let bar = ProgressBar::new(io::stdout().is_terminal());
            run(settings, export, io::stdout(), bar, shutdown).await
        }
    }
}

/// Like [`export`], with an output of one's own and no bar.
pub async fn export_to(
    settings: &Settings,
    export: &ExportSettings,
    output: impl Write + Send + 'static,
    shutdown: impl Stream<Item = ()>,
) -> ExportReport {
    run(settings, export, output, ProgressBar::hidden(), shutdown).await
}

async fn export_to_file(
    settings: &Settings,
    export: &ExportSettings,
    path: &Path,
    shutdown: impl Stream<Item = ()>,
) -> ExportReport {
    let (destination, output) = match Destination::create(path) {
        Ok(created) => created,
        Err(failure) => return ExportReport::of_failure(failure),
    };
    let report = run(settings, export, output, ProgressBar::new(false), shutdown).await;
    if report.ending != Ending::Complete {
        return ExportReport { part: destination.abandon(), ..report };
    }
    match destination.finish() {
        Ok(()) => report,
        Err(error) => {
            let ending = Ending::Failed(Failure::Output(error.to_string()));
            ExportReport { ending, ..report }
        }
    }
}

async fn run(
    settings: &Settings,
    export: &ExportSettings,
    output: impl Write + Send + 'static,
    bar: ProgressBar,
    shutdown: impl Stream<Item = ()>,
) -> ExportReport {
    let started = Instant::now();
    let access = match Access::open(settings).await {
        Ok(access) => access,
        Err(error) => return ExportReport::of_failure(Failure::SignedOut(error.to_string())),
    };
    let mut shell = match Shell::new(settings, &access, export, output, bar) {
        Ok(shell) => shell,
        Err(failure) => return ExportReport::of_failure(failure),
    };
    let ending = shell.run(shutdown).await;
    access.settled().await;
    let Tally { cursor, events, bytes, .. } = shell.transfer.tally();
    ExportReport { ending, cursor, events, bytes, elapsed: started.elapsed(), part: None }
}

struct Shell {
    transfer: Transfer,
    requests: Requests,
    /// Requests under way; they end with the shell.
    running: JoinSet<Input>,
    output: Output,
    bar: ProgressBar,
    clock: Clock,
}

impl Shell {
    fn new(
        settings: &Settings,
        access: &Access,
        export: &ExportSettings,
        output: impl Write + Send + 'static,
        bar: ProgressBar,
    ) -> Result<Self, Failure> {
        let setup = |error: &dyn fmt::Display| Failure::Setup(error.to_string());
        let http = relay::http(settings, access).map_err(|error| setup(&error))?;
        let (relay, channel) = (Relay::new(&settings.relay.value), settings.channel_named());
        Ok(Self {
            transfer: Transfer::new(export, settings.fail_on_gap.value, fastrand::u64(..)),
            requests: Requests { http, relay, channel },
            running: JoinSet::new(),
            output: Output::start(output).map_err(|error| setup(&error))?,
            bar,
            clock: Clock::start(),
        })
    }

    async fn run(&mut self, shutdown: impl Stream<Item = ()>) -> Ending {
        let mut shutdown = pin!(shutdown);
        let mut input = Input::Start;
        loop {
            self.transfer.handle(input, self.clock.now());
            while let Some(command) = self.transfer.next_command() {
                if let Some(ending) = self.perform(command) {
                    return ending;
                }
            }
            self.bar.show(&self.transfer.tally());
            let wake_at = self.clock.now() + TICK_MS;
            let wake_at = self.transfer.poll_timeout().map_or(wake_at, |at| at.min(wake_at));
            // In the order of what must not wait: 1 ending, 2 what frees memory, 3 what needs it,
            // 4 time.
            input = tokio::select! {
                biased;
                Some(()) = shutdown.next() => Input::Stop,
                written = self.output.next() => written,
                Some(ended) = self.running.join_next() => match ended {
                    Ok(input) => input,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = sleep_until(self.clock.instant(wake_at)) => Input::Tick,
            };
        }
    }

    fn perform(&mut self, command: Command) -> Option<Ending> {
        let requests = self.requests.clone();
        match command {
            Command::ReadPlan(from) => drop(self.running.spawn(requests.plan(from))),
            Command::Fetch(download) => drop(self.running.spawn(requests.fetch(download))),
            Command::ReadPage(after) => drop(self.running.spawn(requests.page(after))),
            Command::Write(batch) => self.output.write(batch),
            Command::Interrupt => self.output.interrupt(),
            Command::Tell(notice) => self.bar.tell(&notice),
            Command::End(ending) => return Some(ending),
        }
        None
    }
}
