use std::time::{Duration, Instant};

/// How long anything may take that is about to happen. Generous, because machines are shared; a
/// test that runs into it has failed.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer, within [`WAIT_LIMIT`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < WAIT_LIMIT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
