use relay_schemas::{ErrorCode, Problem, Route};
use serde_json::json;
use worker::{Context, Env, Request, Response};

use crate::{
    admin, call,
    call::Call,
    dead_letter_admin, device, events,
    log::{self, Level},
    machines, oauth, operations, operator_pages, pages, rate_limit, reports, reroute, respond,
    routing, segments,
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
    // The binding's own type takes every method that it doesn't know for GET.
    let (method, path) = (request.inner().method(), request.path());
    let accept = request.headers().get("Accept").ok().flatten();
    let wants_page = pages::wants_html(accept.as_deref()) && pages::is_page(&method, &path);
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
            match wants_page {
                true => pages::problem(&problem, &request_id)?,
                false => respond::problem(&problem)?,
            }
        }
    };
    respond::finish(response.headers(), &path, &request_id)?;
    Ok(response)
}

/// Finds the route in the table, refuses who may not use it, and only then runs its handler.
async fn route(call: &mut Call, method: &str, path: &str) -> Result<Response, Problem> {
    let (route, values) = match Route::find(method, path) {
        Err(problem) if is_preflight(method, path, &problem) => {
            return respond::preflight().map_err(|_| respond::unavailable());
        }
        found => found?,
    };
    let outcome = match call.authorize(route.access()).await {
        Ok(()) => {
            machines::note_use(call, route.access());
            handle(call, route, &values).await
        }
        Err(problem) => Err(problem),
    };
    if outcome.as_ref().is_err_and(|problem| problem.code.status() == 401) {
        rate_limit::require_address_room(call).await?;
    }
    outcome
}

/// A browser asks for a listed path before it reads there.
fn is_preflight(method: &str, path: &str, problem: &Problem) -> bool {
    let is_listed = problem.code == ErrorCode::MethodNotAllowed;
    method == "OPTIONS" && path.starts_with("/events") && is_listed
}

/// The table of contents of the HTTP surface.
async fn handle(call: &mut Call, route: Route, values: &[&str]) -> Result<Response, Problem> {
    match route {
        Route::Webhook => webhook::receive(call).await,

        Route::Stream => events::stream(call).await,
        Route::Report => reports::report(call).await,
        Route::Activity => reports::activity(call).await,
        Route::SegmentPlan => segments::plan(call).await,
        Route::Segment => segments::download(call, values[0], values[1]).await,
        Route::Page => events::page(call).await,
        Route::Event => events::one(call, values[0]).await,

        Route::State => operations::state(call).await,
        Route::StreamState => operations::stream_state(call, values[0], values[1]).await,
        Route::Metrics => operations::metrics(call).await,
        Route::Health => operations::health(call),
        Route::Info => operations::info(),

        Route::Install => oauth::install(call).await,
        Route::SignIn => oauth::sign_in(call).await,
        Route::Callback => oauth::callback(call).await,
        Route::InstallationState => oauth::status(call).await,
        Route::DeviceCode => device::code(call).await,
        Route::DeviceToken => device::token(call).await,
        Route::DeviceRevoke => device::revoke(call).await,
        Route::ApprovalPage => device::page(call).await,
        Route::Approval => device::decide(call).await,
        Route::MachinesPage => machines::page(call).await,
        Route::MachinesForm => machines::revoke_on_page(call, values[0]).await,
        Route::Myself => machines::myself(call).await,
        Route::Machines => machines::list(call).await,
        Route::RevokeOwn => machines::revoke_own(call, values[0]).await,

        Route::Edges => admin::list(call).await,
        Route::Enrol => admin::enrol(call).await,
        Route::Rename => admin::rename(call, values[0]).await,
        Route::Revoke => admin::revoke(call, values[0]).await,
        Route::Outbox => admin::outbox(call).await,
        Route::DeadLetters => dead_letter_admin::list(call).await,
        Route::PutBack => dead_letter_admin::put_back(call, values[0]).await,
        Route::DeadLetter => dead_letter_admin::show(call, values[0]).await,
        Route::Discard => dead_letter_admin::discard(call, values[0]).await,
        Route::Rebuild => operations::rebuild(call, values[0], values[1]).await,
        Route::Reroute => reroute::reroute(call, values[0]).await,
        Route::StreamPage => operator_pages::page(call, values[0], values[1]).await,
        Route::Routing => routing::show(call).await,
        Route::SetRouting => routing::set(call).await,
        Route::Audit => routing::audit(call).await,
        Route::Sweep => operations::sweep(call).await,
    }
}

fn log_problem(method: &str, path: &str, problem: &Problem, request_id: &str) {
    let level = if problem.code.status() >= 500 { Level::Error } else { Level::Warn };
    log::line(
        level,
        "request_refused",
        request_id,
        json!({
            "method": method.chars().take(20).collect::<String>(),
            "path": path.chars().take(100).collect::<String>(),
            "code": problem.code.as_str(),
            "setting": problem.details.iter().find(|(name, _)| *name == "setting").map(|(_, value)| value),
            "status": problem.code.status(),
        }),
    );
}
