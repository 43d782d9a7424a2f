//! Handlers: what becomes of an event on this machine.

mod exec;
mod forward;
mod stdout;

use std::future::Future;

use tokio::sync::mpsc::UnboundedSender;

pub use self::{
    exec::{ExecHandler, ExecSettings},
    forward::{ForwardHandler, ForwardSettings},
    stdout::WriteHandler,
};
use crate::{
    event::Event,
    session::{Outcome, Ticket},
};

/// Takes events.
pub trait Handler: Send {
    /// Starts handling, without waiting; the completion says how it went.
    fn start(&mut self, event: Event, attempt: u32, completion: Completion);

    /// Stops what runs. What is not finished comes again.
    fn abandon(&mut self) -> impl Future<Output = ()> + Send;
}

/// A run's end on its way to the client. At most one for each run, so the bound is the
/// concurrency.
pub(crate) type Finished = (Ticket, Outcome);

/// To be finished when an event is handled, or not. Dropped, it is a failure.
#[derive(Debug)]
pub struct Completion {
    ticket: Ticket,
    finished: UnboundedSender<Finished>,
    is_finished: bool,
}

impl Completion {
    pub(crate) fn new(ticket: Ticket, finished: UnboundedSender<Finished>) -> Self {
        Self { ticket, finished, is_finished: false }
    }

    /// Says how it went.
    pub fn finish(mut self, outcome: Outcome) {
        self.is_finished = true;
        // Nobody listens any more only when the client has ended.
        let _ = self.finished.send((self.ticket, outcome));
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.is_finished {
            let outcome = Outcome::Failed("the handler vanished".into());
            let _ = self.finished.send((self.ticket, outcome));
        }
    }
}
