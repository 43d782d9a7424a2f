use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use relay_durable::samples::sized_body;
use relay_tests::{SignedWebhook, now_ms};

/// Bytes of a body in every measurement.
pub(crate) const BODY_BYTES: usize = 2_000;

/// Where webhooks are posted, and for whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) organization: String,
    pub(crate) user: String,
}

impl Target {
    /// Posts one webhook and waits for its 200.
    pub(crate) async fn post(&self, index: u64) {
        let body = sized_body(&self.organization, &self.user, index, now_ms(), BODY_BYTES);
        let webhook = SignedWebhook::new(body, &format!("delivery-{index}"));
        let mut request = self.http.post(format!("{}/webhook", self.url)).body(webhook.body);
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.expect("the relay answers");
        assert_eq!(answer.status(), 200);
    }

    /// Posts from `senders` at once for so long, and answers how many were taken.
    pub(crate) async fn flood(&self, senders: usize, duration: Duration) -> u64 {
        let next = Arc::new(AtomicU64::new(1));
        let end = Instant::now() + duration;
        let tasks = (0..senders).map(|_| {
            let (target, next) = (self.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                while Instant::now() < end {
                    target.post(next.fetch_add(1, Ordering::Relaxed)).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("a sender ends well");
        }
        next.load(Ordering::Relaxed) - 1
    }
}
