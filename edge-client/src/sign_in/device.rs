use fastrand::Rng;
use relay_schemas::UnixMillis;
use serde::Deserialize;

use crate::{
    access::{Grant, TokenAnswer, refused_words},
    fault::Fault,
    limits::{DEVICE_INTERVAL_MAX_S, DEVICE_SLOW_DOWN_S, DIAL_BACKOFF_CAP_MS},
    session::Backoff,
};

/// What `POST /device/code` gives.
#[derive(Debug, Deserialize)]
pub(super) struct DeviceCode {
    pub(super) device_code: String,
    pub(super) user_code: String,
    pub(super) verification_uri: String,
    #[serde(default)]
    pub(super) verification_uri_complete: Option<String>,
    pub(super) expires_in: u64,
    #[serde(default = "default_interval")]
    pub(super) interval: u64,
}

/// RFC 8628: what holds when the relay names none.
fn default_interval() -> u64 {
    5
}

/// Asking again and again whether somebody has approved, as a value.
#[derive(Debug)]
pub(super) struct Polling {
    interval_s: u64,
    expires_at: UnixMillis,
    backoff: Backoff,
    random: Rng,
}

/// What follows an answer.
#[derive(Debug)]
pub(super) enum Next {
    AskIn(u64),
    Granted(Box<Grant>),
    /// The code is no longer good.
    Expired,
    Denied,
    Failed(Fault),
}

impl Polling {
    pub(super) fn new(code: &DeviceCode, now: UnixMillis, seed: u64) -> Self {
        let interval_s = code.interval.clamp(1, DEVICE_INTERVAL_MAX_S);
        Self {
            interval_s,
            expires_at: now + code.expires_in.saturating_mul(1_000),
            backoff: Backoff::new(interval_s * 1_000, DIAL_BACKOFF_CAP_MS),
            random: Rng::with_seed(seed),
        }
    }

    /// How long to wait before the first question.
    pub(super) fn first_ms(&self) -> u64 {
        self.interval_s * 1_000
    }

    pub(super) fn handle(&mut self, answer: TokenAnswer, now: UnixMillis) -> Next {
        let wait_ms = match answer {
            TokenAnswer::Granted(grant) => return Next::Granted(grant),
            TokenAnswer::Refused { error, code } => match error.as_str() {
                "authorization_pending" => self.answered(0),
                "slow_down" => self.answered(DEVICE_SLOW_DOWN_S),
                "access_denied" => return Next::Denied,
                "expired_token" => return Next::Expired,
                _ => return Next::Failed(Fault::Terminal(refused_words(error, code))),
            },
            TokenAnswer::Failed(Fault::Passing { retry_after_ms, .. }) => {
                // Never sooner than the relay wants to be asked at all.
                self.backoff.next_ms(&mut self.random, retry_after_ms).max(self.first_ms())
            }
            TokenAnswer::Failed(fault) => return Next::Failed(fault),
        };
        if now + wait_ms > self.expires_at { Next::Expired } else { Next::AskIn(wait_ms) }
    }

    fn answered(&mut self, slower_s: u64) -> u64 {
        self.backoff.reset();
        self.interval_s = (self.interval_s + slower_s).min(DEVICE_INTERVAL_MAX_S);
        self.first_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_000_000);

    fn polling() -> Polling {
        let code = r#"{"device_code":"d","user_code":"u","verification_uri":"v","expires_in":600,
                       "interval":5}"#;
        Polling::new(&serde_json::from_str(code).unwrap(), NOW, 7)
    }

    fn refused(error: &str) -> TokenAnswer {
        TokenAnswer::Refused { error: error.into(), code: None }
    }

    fn wait_ms(next: Next) -> u64 {
        match next {
            Next::AskIn(wait_ms) => wait_ms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_interval_holds_and_slow_down_adds_five_seconds_for_good() {
        let mut polling = polling();
        assert_eq!(polling.first_ms(), 5_000);
        assert_eq!(wait_ms(polling.handle(refused("authorization_pending"), NOW)), 5_000);
        assert_eq!(wait_ms(polling.handle(refused("slow_down"), NOW)), 10_000);
        assert_eq!(wait_ms(polling.handle(refused("slow_down"), NOW)), 15_000);
        assert_eq!(wait_ms(polling.handle(refused("authorization_pending"), NOW)), 15_000);
    }

    #[test]
    fn a_relay_that_is_away_is_asked_ever_less_often_and_never_sooner_than_wanted() {
        let mut polling = polling();
        let waits: Vec<u64> = (0..20)
            .map(|_| wait_ms(polling.handle(TokenAnswer::Failed(Fault::passing("away")), NOW)))
            .collect();
        assert!(waits.iter().all(|wait_ms| (5_000..=60_000).contains(wait_ms)), "{waits:?}");
        assert!(waits[4..].iter().any(|wait_ms| *wait_ms > 20_000), "{waits:?}");
        let asked = Fault::Passing { message: String::new(), retry_after_ms: Some(70_000) };
        assert_eq!(wait_ms(polling.handle(TokenAnswer::Failed(asked), NOW)), 70_000);
        assert_eq!(wait_ms(polling.handle(refused("authorization_pending"), NOW)), 5_000);
    }

    #[test]
    fn it_ends_when_the_relay_says_so_or_the_code_is_old() {
        let handle = |answer, later_ms| polling().handle(answer, NOW + later_ms);
        assert!(matches!(handle(refused("access_denied"), 0), Next::Denied));
        assert!(matches!(handle(refused("expired_token"), 0), Next::Expired));
        assert!(matches!(handle(refused("invalid_grant"), 0), Next::Failed(Fault::Terminal(_))));
        assert!(matches!(handle(refused("authorization_pending"), 595_000), Next::AskIn(_)));
        assert!(matches!(handle(refused("authorization_pending"), 595_001), Next::Expired));
        let away = || TokenAnswer::Failed(Fault::passing("away"));
        assert!(matches!(handle(away(), 599_000), Next::Expired));
    }
}
