use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use super::{Completion, Handler, run::Run};
use crate::{event::Event, session::Ticket};

/// What is run for each event.
#[derive(Clone, Debug)]
pub struct ExecSettings {
    /// For the shell.
    pub command: String,
    /// How long one run may take; `None` for any time.
    pub timeout: Option<Duration>,
    /// How long a run that is stopped may take to end.
    pub grace: Duration,
    /// The descriptor on which it may write its progress.
    pub progress_fd: i32,
}

/// Runs a command for each event, with the body on its standard input and everything else in
/// environment variables. Exit status 0 is success.
#[derive(Debug)]
pub struct ExecHandler {
    settings: ExecSettings,
    takes_progress: bool,
    runs: JoinSet<Ticket>,
    stops: BTreeMap<Ticket, oneshot::Sender<()>>,
    abandoned: watch::Sender<bool>,
}

impl ExecHandler {
    /// Runs this. `takes_progress`: a command finds its descriptor open, except on Windows.
    pub fn new(settings: ExecSettings, takes_progress: bool) -> Self {
        Self {
            settings,
            takes_progress,
            runs: JoinSet::new(),
            stops: BTreeMap::new(),
            abandoned: watch::Sender::new(false),
        }
    }
}

impl Handler for ExecHandler {
    fn start(&mut self, event: Event, attempt: u32, completion: Completion) {
        while self.runs.try_join_next().is_some() {}
        self.stops.retain(|_, stop| !stop.is_closed());
        let ticket = completion.ticket();
        let (stop, stopped) = oneshot::channel();
        self.stops.insert(ticket, stop);
        let run = Run {
            settings: self.settings.clone(),
            takes_progress: self.takes_progress,
            event,
            attempt,
            completion,
        };
        let abandoned = self.abandoned.subscribe();
        self.runs.spawn(async move {
            run.perform(stopped, abandoned).await;
            ticket
        });
    }

    fn stop(&mut self, ticket: Ticket) {
        if let Some(stop) = self.stops.remove(&ticket) {
            let _ = stop.send(());
        }
    }

    async fn abandon(&mut self) {
        self.abandoned.send_replace(true);
        while self.runs.join_next().await.is_some() {}
    }
}
