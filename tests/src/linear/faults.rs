//! What goes wrong on request.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;

use super::refusal::Refusal;

/// What a request gets instead of its proper answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Status 500; nothing is done.
    ServerError,
    /// The connection ends without an answer; nothing is done.
    DropBefore,
    /// The connection ends without an answer, but what was asked for is done.
    DropAfter,
    /// What was asked for is done, and no answer ever comes: the connection stays open until the
    /// other side ends it.
    HangAfter,
    /// `RATELIMITED` with status 400; nothing is done.
    RateLimited,
    /// `INPUT_ERROR` with status 200; nothing is done.
    InputError,
    /// An internal error with status 200; nothing is done.
    InternalError,
    /// Status 401; nothing is done.
    Unauthorized,
}

/// The fault target of `/oauth/token`; those of `/graphql` are names of operations or root fields.
pub const TOKEN: &str = "token";
/// The fault target of every request to `/graphql`.
pub const GRAPHQL: &str = "graphql";

#[derive(Default)]
pub(super) struct Faults {
    pub(super) latency_ms: u64,
    pending: Vec<Pending>,
}

struct Pending {
    target: String,
    kind: FaultKind,
    left: u32,
}

impl Faults {
    pub(super) fn add(&mut self, target: &str, kind: FaultKind, count: u32) {
        self.pending.push(Pending { target: target.to_owned(), kind, left: count });
    }

    /// Nothing fails any more of what was to fail and hasn't yet.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    /// The fault for a request that goes by these names, which is used up with it.
    pub(super) fn take(&mut self, names: &[String]) -> Option<FaultKind> {
        let mut waiting = self.pending.iter_mut().filter(|row| row.left > 0);
        let pending = waiting.find(|row| names.contains(&row.target))?;
        pending.left -= 1;
        Some(pending.kind)
    }
}

/// An answer in the making.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(super) fn refused(status: StatusCode, refusal: &Refusal) -> Self {
        Self::new(status, refusal.answer())
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn with_all(mut self, headers: Vec<(&'static str, String)>) -> Self {
        self.headers.extend(headers);
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        for (name, value) in self.headers {
            let value = value.parse().expect("our header values are visible ASCII");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl FaultKind {
    /// The answer of a fault that lets nothing be done; `None` where none comes.
    pub(super) fn answer(self) -> Option<Answer> {
        let (status, refusal) = match self {
            Self::DropBefore | Self::DropAfter | Self::HangAfter => return None,
            Self::ServerError => (StatusCode::INTERNAL_SERVER_ERROR, Refusal::internal()),
            Self::RateLimited => {
                let answer = Answer::refused(StatusCode::BAD_REQUEST, &Refusal::rate_limited());
                return Some(answer.with("Retry-After", 1));
            }
            Self::InputError => (StatusCode::OK, Refusal::input("Argument Validation Error")),
            Self::InternalError => (StatusCode::OK, Refusal::internal()),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, Refusal::authentication()),
        };
        Some(Answer::refused(status, &refusal))
    }
}

/// Ends the connection that is being served without an answer: the server runs each in a task of
/// its own, which this ends. Not a panic: nothing is printed.
pub(super) fn drop_connection() -> ! {
    std::panic::resume_unwind(Box::new("a connection is dropped on request"))
}
