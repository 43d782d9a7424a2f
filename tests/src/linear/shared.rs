use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::{mpsc, watch};

use super::{state::State, world::Id};

/// What the server, the sender and the owner of a fake have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) http: reqwest::Client,
    pub(super) queue: mpsc::UnboundedSender<Id>,
    /// Changes whenever the clock was moved or a delivery has gone on.
    pub(super) moves: watch::Sender<()>,
    pub(super) url: OnceLock<String>,
}

impl Shared {
    pub(super) fn new(state: State, queue: mpsc::UnboundedSender<Id>) -> Self {
        // TLS is not used on loopback, but a client can't be made without a provider for it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        Self {
            state: Mutex::new(state),
            http: http.expect("a client without settings of its own can be made"),
            queue,
            moves: watch::Sender::new(()),
            url: OnceLock::new(),
        }
    }

    /// Does something in one stretch, then sends what came of it.
    pub(super) fn act<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = action(&mut state);
        for delivery in state.queue_deliveries() {
            // The sender ends with the fake; then nobody waits for webhooks any more.
            let _ = self.queue.send(delivery);
        }
        result
    }

    pub(super) fn changed(&self) {
        self.moves.send_replace(());
    }

    /// Where the fake listens.
    pub(super) fn url(&self) -> &str {
        self.url.get().map_or("", String::as_str)
    }
}
