use std::{future::pending, sync::Arc, time::Duration};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    faults::{Answer, FaultKind, drop_connection},
    shared::Shared,
    state::State,
};

/// A request to `/graphql` or `/oauth/token`. It holds no token, secret, code or verifier.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// When, in the fake's time.
    pub at_ms: u64,
    /// The grant type, or the document's root fields, with commas.
    pub operation: String,
    /// The operation's name, if it has one.
    pub name: Option<String>,
    /// The variables of a document; `Null` for a token request.
    pub variables: Value,
    /// The answer's status; none if there was no answer.
    pub status: Option<u16>,
    /// `errors[0].extensions.code`, or the `error` of a token request.
    pub error: Option<String>,
    /// The fault that was injected.
    pub fault: Option<FaultKind>,
    /// How long it took.
    pub took_ms: u64,
}

/// What is known of a request before it is served.
pub(super) struct Asked {
    pub(super) operation: String,
    pub(super) name: Option<String>,
    pub(super) variables: Value,
    /// The names that faults know it by.
    pub(super) targets: Vec<String>,
}

/// Serves a request with the latency and the faults that were asked for, and logs it.
pub(super) async fn serve(
    shared: Arc<Shared>,
    asked: Asked,
    run: impl FnOnce(&mut State) -> Answer,
) -> Response {
    let began = Instant::now();
    let latency_ms = shared.act(|state| state.faults.latency_ms);
    if latency_ms > 0 {
        sleep(Duration::from_millis(latency_ms)).await;
    }
    let (answer, fault) = shared.act(|state| {
        let fault = state.faults.take(&asked.targets);
        let answer = match fault {
            None => Some(run(state)),
            Some(FaultKind::DropAfter | FaultKind::HangAfter) => {
                run(state);
                None
            }
            Some(fault) => fault.answer(),
        };
        let record = RequestRecord {
            at_ms: state.clock.now_ms(),
            operation: asked.operation,
            name: asked.name,
            variables: asked.variables,
            status: answer.as_ref().map(|answer| answer.status.as_u16()),
            error: answer.as_ref().and_then(error_of),
            fault,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        state.requests.push(record);
        (answer, fault)
    });
    match answer {
        Some(answer) => answer.into_response(),
        None if fault == Some(FaultKind::HangAfter) => pending().await,
        None => drop_connection(),
    }
}

fn error_of(answer: &Answer) -> Option<String> {
    let code = &answer.body["errors"][0]["extensions"]["code"];
    let code = code.as_str().or_else(|| answer.body["error"].as_str());
    let code = code.map(str::to_owned);
    code.or_else(|| (answer.status != StatusCode::OK).then(|| answer.status.to_string()))
}
