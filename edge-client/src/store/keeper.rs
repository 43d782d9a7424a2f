use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{Store, StoreError, Waiting};
use crate::session::Batch;

/// A store on a thread of its own, because a commit waits for the disk. Clones speak to the same.
#[derive(Clone, Debug)]
pub struct Keeper {
    requests: Sender<Request>,
}

/// The thread, and its answers to commits.
#[derive(Debug)]
pub struct KeeperThread {
    /// One for each commit, in order. The session has one at a time under way.
    pub(crate) commits: UnboundedReceiver<Result<(), StoreError>>,
    requests: Sender<Request>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Request {
    Commit(Batch),
    Outbox(usize, oneshot::Sender<Result<Vec<Waiting>, StoreError>>),
    Forget(Vec<i64>, oneshot::Sender<Result<(), StoreError>>),
    Count(oneshot::Sender<Result<u64, StoreError>>),
    Close,
}

impl Keeper {
    /// Moves a store to its thread.
    pub fn start(store: Store) -> Result<(Self, KeeperThread), StoreError> {
        let (requests, waiting) = channel();
        let (committed, commits) = unbounded_channel();
        let thread = thread::Builder::new()
            .name("state".into())
            .spawn(move || serve(store, &waiting, &committed))?;
        let keeper = Self { requests: requests.clone() };
        Ok((keeper, KeeperThread { commits, requests, thread }))
    }

    /// Makes a batch durable; [`KeeperThread::commits`] tells when.
    pub(crate) fn commit(&self, batch: Batch) {
        let _ = self.requests.send(Request::Commit(batch));
    }

    /// The oldest that wait, in their order.
    pub async fn outbox(&self, count_max: usize) -> Result<Vec<Waiting>, StoreError> {
        self.ask(|answer| Request::Outbox(count_max, answer)).await
    }

    /// These were taken, or never will be.
    pub async fn forget_waiting(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        self.ask(|answer| Request::Forget(numbers, answer)).await
    }

    /// How many wait.
    pub async fn outbox_length(&self) -> Result<u64, StoreError> {
        self.ask(Request::Count).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send(request(answer));
        let gone = || StoreError::Foreign("the state's thread has ended".into());
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl KeeperThread {
    /// Closes the file, after everything that was asked for before. Keepers that are left get
    /// errors.
    pub fn join(self) {
        let _ = self.requests.send(Request::Close);
        let _ = self.thread.join();
    }
}

fn serve(
    mut store: Store,
    requests: &Receiver<Request>,
    committed: &UnboundedSender<Result<(), StoreError>>,
) {
    // Whoever asked and does not listen any more needs no answer.
    while let Ok(request) = requests.recv() {
        match request {
            Request::Commit(batch) => {
                let _ = committed.send(store.commit(&batch));
            }
            Request::Outbox(count_max, answer) => {
                let _ = answer.send(store.outbox(count_max));
            }
            Request::Forget(numbers, answer) => {
                let _ = answer.send(store.forget_waiting(&numbers));
            }
            Request::Count(answer) => {
                let _ = answer.send(store.outbox_length());
            }
            Request::Close => return,
        }
    }
}
