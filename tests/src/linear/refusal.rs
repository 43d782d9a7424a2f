use std::fmt;

use serde_json::{Value, json};

/// Why Linear doesn't do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `extensions.type`.
    pub kind: &'static str,
    /// `extensions.code`.
    pub code: &'static str,
    /// `extensions.statusCode`, which is seldom the answer's own status.
    pub status: u16,
    /// The text.
    pub message: String,
}

impl Refusal {
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self::new(("invalid input", "INPUT_ERROR", 400), message)
    }

    pub(super) fn not_found(entity: &str) -> Self {
        Self::input(format!("Entity not found: {entity}"))
    }

    pub(super) fn document(message: impl Into<String>) -> Self {
        Self::new(("graphql error", "GRAPHQL_VALIDATION_FAILED", 400), message)
    }

    pub(super) fn authentication() -> Self {
        let message = "Authentication required, not authenticated";
        Self::new(("authentication error", "AUTHENTICATION_ERROR", 401), message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(("forbidden", "FORBIDDEN", 403), message)
    }

    pub(super) fn rate_limited() -> Self {
        Self::new(("ratelimited", "RATELIMITED", 429), "Rate limit exceeded")
    }

    pub(super) fn internal() -> Self {
        Self::new(("internal error", "INTERNAL_SERVER_ERROR", 500), "Internal server error")
    }

    fn new(
        (kind, code, status): (&'static str, &'static str, u16),
        text: impl Into<String>,
    ) -> Self {
        Self { kind, code, status, message: text.into() }
    }

    /// `errors[].extensions`.
    pub(super) fn extensions(&self) -> Value {
        json!({
            "type": self.kind, "code": self.code, "statusCode": self.status,
            "userError": self.status < 500, "userPresentableMessage": self.message,
        })
    }

    /// A whole answer without data.
    pub(super) fn answer(&self) -> Value {
        json!({"errors": [{"message": self.message, "extensions": self.extensions()}], "data": null})
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
