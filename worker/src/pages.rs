//! Answers to browsers.

use relay_durable::{HtmlPage, content_security_policy, problem_page};
use relay_schemas::{Problem, Route};
use worker::Response;

use crate::{call::Call, respond};

/// A page. Nothing of it is kept, framed, or run.
pub(crate) fn html(status: u16, page: HtmlPage) -> Result<Response, Problem> {
    let response = respond::text_of(status, "text/html; charset=utf-8", page.html())?;
    let headers = response.headers();
    let set = |name: &str, value: &str| headers.set(name, value);
    set("Content-Security-Policy", &content_security_policy())
        .and_then(|()| set("X-Frame-Options", "DENY"))
        // With "no-referrer" a browser would hide from us that our own form was sent by our page.
        .and_then(|()| set("Referrer-Policy", "same-origin"))
        .map_err(|_| respond::unavailable())?;
    Ok(response)
}

/// Sends a browser elsewhere.
pub(crate) fn redirect(address: &str) -> Result<Response, Problem> {
    let response = respond::text_of(302, "text/plain", String::new())?;
    let headers = response.headers();
    headers
        .set("Location", address)
        .and_then(|()| headers.set("Referrer-Policy", "no-referrer"))
        .map_err(|_| respond::unavailable())?;
    Ok(response)
}

/// Shows a page anew after its form was sent: the browser is to fetch it, and not send the form
/// again.
pub(crate) fn redirect_after_form(path: &str) -> Result<Response, Problem> {
    Ok(redirect(path)?.with_status(303))
}

/// Whether whoever asks would rather read a page than JSON.
pub(crate) fn wants_html(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A page, or the same as JSON for whoever doesn't read pages.
pub(crate) fn html_or_json(
    call: &Call,
    page: HtmlPage,
    json: &serde_json::Value,
) -> Result<Response, Problem> {
    if wants_html(call.header("Accept").as_deref()) {
        return html(200, page);
    }
    respond::json(200, json)
}

/// Whether people come to a route with a browser.
pub(crate) fn is_page(method: &str, path: &str) -> bool {
    let route = Route::find(method, path).map(|(route, _)| route);
    matches!(
        route,
        Ok(Route::Install
            | Route::SignIn
            | Route::Callback
            | Route::InstallationState
            | Route::ApprovalPage
            | Route::Approval
            | Route::MachinesPage
            | Route::MachinesForm)
    )
}

/// A problem as a page, with what [`respond::problem`] says in its headers.
pub(crate) fn problem(problem: &Problem, request_id: &str) -> worker::Result<Response> {
    let plain = respond::problem(problem)?;
    let Ok(page) = html(problem.code.status(), problem_page(problem, request_id)) else {
        return Ok(plain);
    };
    if let Some(seconds) = plain.headers().get("Retry-After")? {
        page.headers().set("Retry-After", &seconds)?;
    }
    Ok(page)
}
