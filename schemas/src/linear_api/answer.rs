use std::{collections::BTreeMap, fmt};

/// What Linear has answered to one request, as far as it is read. Its body is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LinearAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Headers that are read, in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl LinearAnswer {
    /// The headers that mean something here.
    pub const HEADERS: [&str; 11] = [
        "retry-after",
        "x-ratelimit-requests-limit",
        "x-ratelimit-requests-remaining",
        "x-ratelimit-requests-reset",
        "x-ratelimit-complexity-limit",
        "x-ratelimit-complexity-remaining",
        "x-ratelimit-complexity-reset",
        "x-ratelimit-endpoint-requests-limit",
        "x-ratelimit-endpoint-requests-remaining",
        "x-ratelimit-endpoint-requests-reset",
        "x-ratelimit-endpoint-name",
    ];

    /// An answer with a body and no headers of note.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: BTreeMap::new(), body: body.into() }
    }

    /// Adds a header; the name in lower case.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.insert(name.to_owned(), value.to_string());
        self
    }

    /// A header that is a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.trim().parse().ok()
    }

    /// How long Linear asks to wait; `Retry-After` is in seconds.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.number("retry-after").map(|seconds| seconds.saturating_mul(1000))
    }
}

impl fmt::Debug for LinearAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinearAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}
