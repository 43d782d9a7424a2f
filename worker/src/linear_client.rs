//! Requests to Linear. No token and no body is ever logged; what went wrong is told by its kind.

use std::{collections::BTreeMap, time::Duration};

use futures::{
    future::{Either, select},
    pin_mut,
};
use relay_durable::RefreshForm;
use relay_schemas::{SecretText, linear_api::LinearAnswer};
use serde_json::json;
use worker::{AbortController, Delay, Fetch, Headers, Method, Request, RequestInit, Result};

use crate::{
    log::{self, Level},
    settings::{LinearApp, LinearSettings},
};

/// How long a call may take. One that Linear takes all the same is recognised by its id when it is
/// repeated, so that a second attempt still fits into the ten seconds of a first activity.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a refresh may take; Linear repeats its answer if it is asked again.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks Linear's GraphQL endpoint. `None`: no answer came.
pub(crate) async fn call(
    linear: &LinearSettings,
    token: &SecretText,
    body: String,
) -> Option<LinearAnswer> {
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("Authorization", format!("Bearer {}", token.reveal())),
    ];
    let url = format!("{}/graphql", linear.api_url);
    noted("linear_call_failed", post(&url, &headers, body, CALL_TIMEOUT).await)
}

/// Asks Linear's token endpoint in the name of an app. `None`: no answer came.
pub(crate) async fn token(
    linear: &LinearSettings,
    app: &LinearApp,
    form: &RefreshForm,
) -> Option<LinearAnswer> {
    let mut fields = url_form::Form::default();
    match form {
        RefreshForm::RefreshToken(token) => {
            fields.add("grant_type", "refresh_token");
            fields.add("refresh_token", token.reveal());
        }
        RefreshForm::ClientCredentials { scope } => {
            fields.add("grant_type", "client_credentials");
            fields.add("scope", scope);
        }
    }
    fields.add("client_id", &app.client_id);
    fields.add("client_secret", &app.client_secret);
    let headers = [("Content-Type", "application/x-www-form-urlencoded".to_owned())];
    let url = format!("{}/oauth/token", linear.api_url);
    noted("linear_refresh_failed", post(&url, &headers, fields.0, TOKEN_TIMEOUT).await)
}

mod url_form {
    use std::fmt::Write;

    /// Fields as `application/x-www-form-urlencoded`.
    #[derive(Default)]
    pub(super) struct Form(pub(super) String);

    impl Form {
        pub(super) fn add(&mut self, name: &str, value: &str) {
            if !self.0.is_empty() {
                self.0.push('&');
            }
            self.0.push_str(name);
            self.0.push('=');
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                    self.0.push(char::from(byte));
                } else {
                    let _ = write!(self.0, "%{byte:02X}");
                }
            }
        }
    }
}

fn noted(event: &str, answer: Result<Option<LinearAnswer>>) -> Option<LinearAnswer> {
    match answer {
        Ok(Some(answer)) => Some(answer),
        Ok(None) => {
            log::line(Level::Warn, event, "", json!({ "reason": "timeout" }));
            None
        }
        // The platform's text names the address, not what was sent.
        Err(error) => {
            let text: String = error.to_string().chars().take(100).collect();
            log::line(Level::Warn, event, "", json!({ "reason": "unreachable", "error": text }));
            None
        }
    }
}

/// `None`: it took too long.
async fn post(
    url: &str,
    headers: &[(&str, String)],
    body: String,
    timeout: Duration,
) -> Result<Option<LinearAnswer>> {
    let sent = Headers::new();
    for (name, value) in headers {
        sent.set(name, value)?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_headers(sent).with_body(Some(body.into()));
    let request = Request::new_with_init(url, &init)?;
    let controller = AbortController::default();
    let signal = controller.signal();
    let asked = async {
        let mut response = Fetch::Request(request).send_with_signal(&signal).await?;
        let mut headers = BTreeMap::new();
        for name in LinearAnswer::HEADERS {
            if let Some(value) = response.headers().get(name)? {
                headers.insert(name.to_owned(), value);
            }
        }
        let status = response.status_code();
        Ok(LinearAnswer { status, headers, body: response.text().await? })
    };
    let timer = Delay::from(timeout);
    pin_mut!(asked, timer);
    match select(asked, timer).await {
        Either::Left((answer, _)) => answer.map(Some),
        Either::Right(_) => {
            controller.abort();
            Ok(None)
        }
    }
}
