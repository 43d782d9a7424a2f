//! Commands to objects that answer with a value or a problem.

use relay_schemas::{ErrorBody, ErrorCode, Problem};
use serde::{Serialize, de::DeserializeOwned};
use worker::Env;

use crate::{call::Call, log, respond, stream_client::post};

/// Posts a command for a request. A problem comes back as the object put it.
pub(crate) async fn command<T: DeserializeOwned>(
    call: &Call,
    binding: &str,
    name: &str,
    path: &str,
    body: &impl Serialize,
) -> Result<T, Problem> {
    command_for(&call.env, &call.request_id, (binding, name), path, body).await
}

/// The same for whoever has no request, with an empty id, or has it no more.
pub(crate) async fn command_for<T: DeserializeOwned>(
    env: &Env,
    request_id: &str,
    (binding, name): (&str, &str),
    path: &str,
    body: &impl Serialize,
) -> Result<T, Problem> {
    let unavailable = |error: worker::Error| {
        log::platform_error("object_unavailable", request_id, &error);
        respond::unavailable()
    };
    let body = serde_json::to_string(body).map_err(|_| respond::unavailable())?;
    let answer = post(env, binding, name, path, body.into()).await;
    let mut answer = answer.map_err(unavailable)?;
    if answer.status_code() == 200 {
        return answer.json().await.map_err(unavailable);
    }
    let text = answer.text().await.map_err(unavailable)?;
    Err(read_problem(&text).unwrap_or_else(|| {
        let status = answer.status_code();
        unavailable(worker::Error::RustError(format!("{binding}{path} answered {status}")))
    }))
}

fn read_problem(text: &str) -> Option<Problem> {
    let body: ErrorBody = serde_json::from_str(text).ok()?;
    let code: ErrorCode = serde_json::from_value(body.error.code.into()).ok()?;
    Some(Problem::new(code, body.error.message))
}
