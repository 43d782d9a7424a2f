use relay_schemas::{ErrorCode, Problem};
use serde_json::json;
use worker::{Context, Env, Method, Request, Response};

use crate::{
    admin, call,
    call::Call,
    dead_letter_admin, events, host,
    log::{self, Level},
    operations, respond, segments,
    settings::Settings,
    webhook,
};

/// Answers one request. Never fails: whatever goes wrong has a code and a request id.
pub(crate) async fn answer(
    request: Request,
    env: Env,
    context: Context,
) -> worker::Result<Response> {
    let request_id = call::request_id_of(&request);
    let (method, path) = (request.method(), request.path());
    let outcome = match prepare(request, env, context, request_id.clone()) {
        Ok(mut call) => route(&mut call, &method, &path).await,
        Err(problem) => Err(problem),
    };
    let response = match outcome {
        Ok(response) => response,
        Err(problem) => {
            log_problem(&method, &path, &problem, &request_id);
            respond::problem(&problem)?
        }
    };
    respond::finish(response.headers(), &path, &request_id)?;
    Ok(response)
}

fn prepare(
    request: Request,
    env: Env,
    context: Context,
    request_id: String,
) -> Result<Call, Problem> {
    let settings = Settings::of(&env)?;
    Ok(Call { request, env, context, settings, request_id, now: host::now() })
}

/// The table of contents of the HTTP surface.
async fn route(call: &mut Call, method: &Method, path: &str) -> Result<Response, Problem> {
    use Method::{Delete, Get, Options, Post};
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (method, segments.as_slice()) {
        (Options, ["events", ..]) => respond::preflight().map_err(|_| respond::unavailable()),

        (Post, ["webhook"]) => webhook::receive(call).await,

        (Get, ["events", "stream"]) => events::stream(call).await,
        (Get, ["events"]) => events::page(call).await,
        (Post, ["events", "status"]) => events::report(call).await,
        (Get, ["events", "segments"]) => segments::plan(call).await,
        (Get, ["events", "segments", epoch, name]) => segments::download(call, epoch, name).await,
        (Get, ["events", id]) if *id != "status" => events::one(call, id).await,

        (Get, ["state"]) => operations::state(call).await,
        (Get, ["state", organization, channel]) => {
            operations::stream_state(call, organization, channel).await
        }
        (Get, ["metrics"]) => operations::metrics(call).await,
        (Get, ["health"]) => operations::health(call),
        (Get, [""]) => operations::info(),

        (Post, ["admin", "edges"]) => admin::enrol(call).await,
        (Get, ["admin", "edges"]) => admin::list(call).await,
        (Delete, ["admin", "edges", id]) => admin::revoke(call, id).await,

        (Get, ["admin", "dead-letters"]) => dead_letter_admin::list(call).await,
        (Get, ["admin", "dead-letters", id]) => dead_letter_admin::show(call, id).await,
        (Delete, ["admin", "dead-letters", id]) => dead_letter_admin::discard(call, id).await,
        (Post, ["admin", "dead-letters", id, "put-back"]) => {
            dead_letter_admin::put_back(call, id).await
        }

        (Post, ["admin", "streams", organization, channel, "rebuild"]) => {
            operations::rebuild(call, organization, channel).await
        }
        (Post, ["admin", "sweep"]) => operations::sweep(call).await,

        (_, segments) => Err(no_route(segments)),
    }
}

fn no_route(segments: &[&str]) -> Problem {
    let allow = match segments {
        ["webhook"] | ["events", "status"] => "POST",
        ["events" | "state" | "metrics" | "health" | ""]
        | ["events", _]
        | ["events", "segments", _, _]
        | ["state", _, _] => "GET",
        ["admin", "dead-letters"] => "GET",
        ["admin", "dead-letters", _] => "GET, DELETE",
        ["admin", "dead-letters", _, "put-back"] => "POST",
        ["admin", "streams", _, _, "rebuild"] | ["admin", "sweep"] => "POST",
        ["admin", "edges"] => "GET, POST",
        ["admin", "edges", _] => "DELETE",
        _ => return Problem::new(ErrorCode::NotFound, "no such route; GET / lists them"),
    };
    Problem::new(ErrorCode::MethodNotAllowed, format!("this route takes {allow}"))
        .with("allow", allow)
}

fn log_problem(method: &Method, path: &str, problem: &Problem, request_id: &str) {
    let level = if problem.code.status() >= 500 { Level::Error } else { Level::Warn };
    log::line(
        level,
        "request_refused",
        request_id,
        json!({
            "method": method.to_string(),
            "path": path.chars().take(100).collect::<String>(),
            "code": problem.code.as_str(),
            "setting": problem.details.iter().find(|(name, _)| *name == "setting").map(|(_, value)| value),
            "status": problem.code.status(),
        }),
    );
}
