//! Handlers: what becomes of an event on this machine.

mod exec;
mod forward;
mod last_line;
mod process;
#[cfg_attr(not(unix), path = "handler/no_progress.rs")]
mod progress;
mod run;
mod stdout;
mod tee;
mod variables;

use std::future::Future;

use tokio::sync::mpsc::UnboundedSender;

pub use self::{
    exec::{ExecHandler, ExecSettings},
    forward::{ForwardHandler, ForwardSettings},
    stdout::WriteHandler,
};
use relay_schemas::Activity;

use crate::{
    event::Event,
    session::{Input, Outcome, RunSummary, Ticket},
};

/// Takes events.
pub trait Handler: Send {
    /// Starts handling, without waiting; the completion says how it went.
    fn start(&mut self, event: Event, attempt: u32, completion: Completion);

    /// Ends one run before its time, without waiting; its completion says how it went.
    fn stop(&mut self, _ticket: Ticket) {}

    /// Stops what runs. What is not finished comes again.
    fn abandon(&mut self) -> impl Future<Output = ()> + Send;
}

/// To be finished when an event is handled, or not. Dropped, it is a failure.
#[derive(Debug)]
pub struct Completion {
    ticket: Ticket,
    /// To the client. A run's end once, and its progress as fast as its pace allows: so the bound
    /// is the concurrency and a few activities for each.
    inputs: UnboundedSender<Input>,
    is_finished: bool,
}

impl Completion {
    pub(crate) fn new(ticket: Ticket, inputs: UnboundedSender<Input>) -> Self {
        Self { ticket, inputs, is_finished: false }
    }

    /// Which run it is.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Shows something in the agent session of the event. Where there is none, only what ends the
    /// turn is of use: its text becomes that of the report.
    pub fn progress(&self, activity: Activity) {
        self.teller().tell(activity);
    }

    pub(crate) fn teller(&self) -> Teller {
        Teller { ticket: self.ticket, inputs: self.inputs.clone() }
    }

    /// Says how it went.
    pub fn finish(self, outcome: Outcome) {
        self.finish_with(outcome, RunSummary::default());
    }

    /// Says how it went, with what there is to tell about it.
    pub fn finish_with(mut self, outcome: Outcome, summary: RunSummary) {
        self.is_finished = true;
        self.send(outcome, summary);
    }

    fn send(&self, outcome: Outcome, summary: RunSummary) {
        // Nobody listens any more only when the client has ended.
        let _ = self.inputs.send(Input::Finished { ticket: self.ticket, outcome, summary });
    }
}

/// Says how a run gets on.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    ticket: Ticket,
    inputs: UnboundedSender<Input>,
}

impl Teller {
    /// The activity gets its id before it is stored, so that a repetition is known: here, unless it
    /// ends the turn, which the session counts.
    pub(crate) fn tell(&self, activity: Activity) {
        let activity = match activity.content.ends_turn() {
            true => activity,
            false => crate::activity::identified(activity),
        };
        let _ = self.inputs.send(Input::Progress { ticket: self.ticket, activity });
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.is_finished {
            self.send(Outcome::Failed("the handler vanished".into()), RunSummary::default());
        }
    }
}
