use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use relay_durable::samples::sized_body;
use relay_schemas::{Envelope, Frame};
use relay_tests::{SignedWebhook, now_ms};

/// Bytes of a body in every measurement.
pub(crate) const BODY_BYTES: usize = 2_000;

/// Where webhooks are posted, and for whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) path: &'static str,
    pub(crate) organization: String,
    pub(crate) user: String,
    pub(crate) posted_at: PostTimes,
}

/// When each event was posted, by its id.
#[derive(Clone, Default)]
pub(crate) struct PostTimes(Arc<Mutex<HashMap<String, Instant>>>);

impl PostTimes {
    /// How long ago the event of this message was posted: a frame of the relay, or a bare body of
    /// the floor. `None` for anything else.
    pub(crate) fn latency(&self, message: &str) -> Option<Duration> {
        let now = Instant::now();
        let id = match Frame::parse(message) {
            Ok(Frame::Webhook(webhook)) => webhook.id,
            _ => Envelope::parse(message.as_bytes()).ok()?.event_id(),
        };
        let posted_at = self.0.lock().ok()?.get(&id.to_string()).copied()?;
        Some(now - posted_at)
    }
}

impl Target {
    /// Posts one webhook and waits for its 200.
    pub(crate) async fn post(&self, index: u64) {
        self.send(self.body(index), index).await;
    }

    /// The same, and notes when.
    pub(crate) async fn post_timed(&self, index: u64) {
        let body = self.body(index);
        let id = Envelope::parse(body.as_bytes()).expect("a sample").event_id().to_string();
        if let Ok(mut times) = self.posted_at.0.lock() {
            times.insert(id, Instant::now());
        }
        self.send(body, index).await;
    }

    fn body(&self, index: u64) -> String {
        sized_body(&self.organization, &self.user, index, now_ms(), BODY_BYTES)
    }

    async fn send(&self, body: String, index: u64) {
        let webhook = SignedWebhook::new(body, &format!("delivery-{index}"));
        let mut request = self.http.post(format!("{}{}", self.url, self.path)).body(webhook.body);
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

    /// Posts at a steady pace, each without waiting for the one before.
    pub(crate) async fn pace(&self, per_second: u64, count: u64) {
        let mut ticks = tokio::time::interval(Duration::from_millis(1_000 / per_second));
        let mut posts = Vec::new();
        for index in 1..=count {
            ticks.tick().await;
            let target = self.clone();
            posts.push(tokio::spawn(async move { target.post_timed(index).await }));
        }
        for post in posts {
            post.await.expect("a post ends well");
        }
    }
}
