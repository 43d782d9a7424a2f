use relay_schemas::{ErrorCode, Problem};
use serde::Serialize;
use worker::{Headers, Response, ResponseBuilder};

/// Headers that a browser's script may read.
const EXPOSED: &str = "Relay-Resumed-From, Retry-After, X-Request-Id, ETag, Content-Range";

/// A JSON answer.
pub(crate) fn json(status: u16, body: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_string(body).map_err(|_| internal())?;
    text_of(status, "application/json", text)
}

/// An answer with a text body.
pub(crate) fn text_of(status: u16, content_type: &str, body: String) -> Result<Response, Problem> {
    build(status, content_type, body).map_err(|_| internal())
}

/// The same, failing as the platform does.
pub(crate) fn build(status: u16, content_type: &str, body: String) -> worker::Result<Response> {
    Ok(ResponseBuilder::new()
        .with_status(status)
        .with_header("Content-Type", content_type)?
        .with_header("Cache-Control", "no-store")?
        .fixed(body.into_bytes()))
}

/// The answer to a request that can't be served.
pub(crate) fn problem(problem: &Problem) -> worker::Result<Response> {
    let response = build(problem.code.status(), "application/json", problem.to_json())?;
    let headers = response.headers();
    if let Some(seconds) = problem.retry_after_s() {
        headers.set("Retry-After", &seconds.to_string())?;
    }
    if problem.code.status() == 401 {
        headers.set("WWW-Authenticate", "Bearer")?;
    }
    if let Some((_, methods)) = problem.details.iter().find(|(name, _)| *name == "allow") {
        headers.set("Allow", methods)?;
    }
    Ok(response)
}

/// What every answer carries. A browser's page may read events from any origin: the credential
/// travels in a header that a foreign page can't add by itself.
pub(crate) fn finish(headers: &Headers, path: &str, request_id: &str) -> worker::Result<()> {
    headers.set("X-Request-Id", request_id)?;
    headers.set("X-Content-Type-Options", "nosniff")?;
    if !path.starts_with("/events") {
        return Ok(());
    }
    headers.set("Access-Control-Allow-Origin", "*")?;
    headers.set("Access-Control-Expose-Headers", EXPOSED)
}

/// The answer to a browser that asks before it reads.
pub(crate) fn preflight() -> worker::Result<Response> {
    Ok(ResponseBuilder::new()
        .with_status(204)
        .with_header("Access-Control-Allow-Methods", "GET, POST")?
        .with_header(
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, Last-Event-ID, X-Request-Id, Range, If-Range, If-None-Match",
        )?
        .with_header("Access-Control-Max-Age", "86400")?
        .empty())
}

/// An object or a store did not answer as it should.
pub(crate) fn unavailable() -> Problem {
    Problem::new(ErrorCode::Unavailable, "the relay could not do this now; try again")
}

fn internal() -> Problem {
    Problem::new(ErrorCode::Internal, "the relay failed; the request id finds the log line")
}
