use std::time::{SystemTime, UNIX_EPOCH};

use relay_schemas::sign;

use crate::relay::SECRET_CURRENT;

/// Now, in milliseconds since the epoch.
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A webhook as Linear would send it.
#[derive(Clone, Debug)]
pub struct SignedWebhook {
    /// The exact body.
    pub body: Vec<u8>,
    /// Its headers, in Linear's spelling.
    pub headers: Vec<(String, String)>,
}

impl SignedWebhook {
    /// Signs a body with the current secret. `delivery` is Linear's id of this attempt.
    pub fn new(body: impl Into<Vec<u8>>, delivery: &str) -> Self {
        Self::signed_with(SECRET_CURRENT, body, delivery)
    }

    /// Signs a body with a given secret.
    pub fn signed_with(secret: &str, body: impl Into<Vec<u8>>, delivery: &str) -> Self {
        let body = body.into();
        let headers = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("User-Agent", "Linear-Webhook"),
            ("Linear-Delivery", delivery),
            ("Linear-Signature", &sign(secret.as_bytes(), &body)),
            ("Linear-Timestamp", &now_ms().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        Self { body, headers }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Replaces a header, or removes it.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }
}
