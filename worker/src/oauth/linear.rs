//! The calls to Linear that a sign-in needs. Everything later goes through the installation.

use relay_durable::{SignIn, oauth_failed};
use relay_schemas::{LinearTokens, Problem, VIEWER_QUERY, Viewer, write_form};
use serde::Deserialize;
use serde_json::json;
use worker::{AbortSignal, Fetch, Headers, Method, Request, RequestInit};

use super::{app, linear_settings};
use crate::{call::Call, log};

/// A person waits in front of a white page.
const ANSWER_MS_MAX: u32 = 10_000;

struct Answer {
    status: u16,
    text: String,
}

/// Exchanges a code for tokens.
pub(super) async fn exchange(
    call: &Call,
    sign_in: &SignIn,
    code: &str,
) -> Result<LinearTokens, Problem> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let app = app(call, Some(&sign_in.app))?;
    let form = write_form(&[
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &sign_in.redirect_uri),
        ("client_id", &app.client_id),
        ("client_secret", &app.client_secret),
        ("code_verifier", &sign_in.verifier),
    ]);
    let answer = post_form(call, "/oauth/token", form).await?;
    if answer.status != 200 {
        let refusal: Option<Refusal> = serde_json::from_str(&answer.text).ok();
        return Err(oauth_failed(&refusal.map(|refusal| refusal.error).unwrap_or_default()));
    }
    serde_json::from_str(&answer.text).map_err(|_| oauth_failed(""))
}

/// Asks whose token it is.
pub(super) async fn viewer(call: &Call, tokens: &LinearTokens) -> Result<Viewer, Problem> {
    let body = json!({ "query": VIEWER_QUERY }).to_string();
    let authorization = format!("Bearer {}", tokens.access_token);
    let headers = [("Content-Type", "application/json"), ("Authorization", &authorization)];
    let answer = post(call, "/graphql", &headers, body).await?;
    Viewer::read(&answer.text).ok_or_else(|| oauth_failed(""))
}

/// Gives a person's tokens back. If that fails they end by themselves within a day, and nobody
/// has them.
pub(super) async fn revoke(call: &Call, client_id: &str, tokens: &LinearTokens) {
    let Ok(app) = app(call, Some(client_id)) else { return };
    let refresh = tokens.refresh_token.as_deref().map(|token| (token, "refresh_token"));
    let access = (tokens.access_token.as_str(), "access_token");
    for (token, hint) in refresh.into_iter().chain([access]) {
        let form = write_form(&[
            ("token", token),
            ("token_type_hint", hint),
            ("client_id", &app.client_id),
            ("client_secret", &app.client_secret),
        ]);
        // Linear answers 400 for what is revoked already, as an access token is by its refresh
        // token.
        if let Ok(Answer { status: 500.., .. }) | Err(_) =
            post_form(call, "/oauth/revoke", form).await
        {
            let fields = json!({ "token": hint });
            log::line(log::Level::Warn, "token_not_revoked", &call.request_id, fields);
        }
    }
}

async fn post_form(call: &Call, path: &str, form: String) -> Result<Answer, Problem> {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    post(call, path, &headers, form).await
}

async fn post(
    call: &Call,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Answer, Problem> {
    let url = format!("{}{path}", linear_settings(call)?.api_url);
    let outcome = fetch(&url, headers, body).await;
    outcome.map_err(|error| {
        log::platform_error("linear_unavailable", &call.request_id, &error);
        oauth_failed("temporarily_unavailable")
    })
}

async fn fetch(url: &str, headers: &[(&str, &str)], body: String) -> worker::Result<Answer> {
    let mut init = RequestInit::new();
    let headers: Headers = headers.iter().copied().collect();
    init.with_method(Method::Post).with_headers(headers).with_body(Some(body.into()));
    let request = Request::new_with_init(url, &init)?;
    let signal = AbortSignal::from(worker::web_sys::AbortSignal::timeout_with_u32(ANSWER_MS_MAX));
    let mut answer = Fetch::Request(request).send_with_signal(&signal).await?;
    Ok(Answer { status: answer.status_code(), text: answer.text().await? })
}
