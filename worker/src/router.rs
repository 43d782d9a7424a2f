use relay_schemas::{Problem, Route};
use serde_json::json;
use worker::{Context, Env, Method, Request, Response};

use crate::{
    admin, call,
    call::Call,
    dead_letter_admin, events,
    log::{self, Level},
    operations, rate_limit, respond, segments,
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
    let outcome = match Settings::of(&env) {
        Ok(settings) => {
            let mut call = Call::new(request, env, context, settings);
            call.request_id.clone_from(&request_id);
            route(&mut call, &method, &path).await
        }
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

/// Finds the route in the table, refuses who may not use it, and only then runs its handler.
async fn route(call: &mut Call, method: &Method, path: &str) -> Result<Response, Problem> {
    if *method == Method::Options && path.starts_with("/events") {
        return respond::preflight().map_err(|_| respond::unavailable());
    }
    let (route, values) = Route::find(method.as_ref(), path)?;
    let outcome = match call.authorize(route.access()).await {
        Ok(()) => handle(call, route, &values).await,
        Err(problem) => Err(problem),
    };
    if outcome.as_ref().is_err_and(|problem| problem.code.status() == 401) {
        rate_limit::require_address_room(call).await?;
    }
    outcome
}

/// The table of contents of the HTTP surface.
async fn handle(call: &mut Call, route: Route, values: &[&str]) -> Result<Response, Problem> {
    match route {
        Route::Webhook => webhook::receive(call).await,

        Route::Stream => events::stream(call).await,
        Route::Report => events::report(call).await,
        Route::SegmentPlan => segments::plan(call).await,
        Route::Segment => segments::download(call, values[0], values[1]).await,
        Route::Page => events::page(call).await,
        Route::Event => events::one(call, values[0]).await,

        Route::State => operations::state(call).await,
        Route::StreamState => operations::stream_state(call, values[0], values[1]).await,
        Route::Metrics => operations::metrics(call).await,
        Route::Health => operations::health(call),
        Route::Info => operations::info(),

        Route::Edges => admin::list(call).await,
        Route::Enrol => admin::enrol(call).await,
        Route::Revoke => admin::revoke(call, values[0]).await,
        Route::DeadLetters => dead_letter_admin::list(call).await,
        Route::PutBack => dead_letter_admin::put_back(call, values[0]).await,
        Route::DeadLetter => dead_letter_admin::show(call, values[0]).await,
        Route::Discard => dead_letter_admin::discard(call, values[0]).await,
        Route::Rebuild => operations::rebuild(call, values[0], values[1]).await,
        Route::Sweep => operations::sweep(call).await,
    }
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
