use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{
    shared::Shared,
    webhook::{Attempt, Outcome},
    world::Id,
};

/// Sends deliveries: the first attempts one after another, so that what happened first arrives
/// first, and retries when they are due by the fake's clock.
pub(super) async fn send_all(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Id>) {
    while let Some(delivery) = queue.recv().await {
        let pause_ms = attempt(&shared, &delivery).await;
        if let Some(pause_ms) = pause_ms {
            tokio::spawn(retry(Arc::clone(&shared), delivery, pause_ms));
        }
    }
}

async fn retry(shared: Arc<Shared>, delivery: Id, pause_ms: u64) {
    let mut pause_ms = Some(pause_ms);
    while let Some(pause) = pause_ms {
        shared.pass(pause).await;
        pause_ms = attempt(&shared, &delivery).await;
    }
}

/// One request; gives back the pause before the next, if there is one.
async fn attempt(shared: &Shared, delivery: &str) -> Option<u64> {
    let outgoing = shared.act(|state| state.outgoing(delivery));
    let Some(outgoing) = outgoing else {
        shared.changed();
        return None;
    };
    let at_ms = shared.act(|state| state.clock.now_ms());
    let mut request = shared.http.post(&outgoing.url).body(outgoing.body);
    for (name, value) in outgoing.headers {
        request = request.header(name, value);
    }
    let answer = request.timeout(Duration::from_millis(outgoing.timeout_ms)).send().await;
    let status = answer.ok().map(|answer| answer.status().as_u16());
    let pause_ms = shared.act(|state| state.webhooks.note(delivery, Attempt { at_ms, status }));
    shared.changed();
    pause_ms
}

impl Shared {
    /// Waits until so much of the fake's time has passed, by itself or by `advance`.
    async fn pass(&self, milliseconds: u64) {
        let mut moves = self.moves.subscribe();
        let due_ms = self.act(|state| state.clock.now_ms()) + milliseconds;
        loop {
            let now_ms = self.act(|state| state.clock.now_ms());
            if now_ms >= due_ms {
                return;
            }
            tokio::select! {
                () = sleep(Duration::from_millis(due_ms - now_ms)) => {}
                moved = moves.changed() => if moved.is_err() { return },
            }
        }
    }

    /// Waits until every delivery has come to an end, or waits for a retry.
    pub(super) async fn settled(&self) {
        let mut moves = self.moves.subscribe();
        while self
            .act(|state| state.webhooks.deliveries.iter().any(|row| row.outcome == Outcome::Queued))
        {
            if moves.changed().await.is_err() {
                return;
            }
        }
    }
}
