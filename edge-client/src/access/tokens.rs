use std::time::Duration;

use relay_schemas::ErrorBody;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    connection::{Answer, describe},
    credential::{Secret, SignIn},
    fault::{Fault, Refusal, RefusalKind},
    relay::Relay,
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What `POST /device/token` gives.
#[derive(Debug, Deserialize)]
pub(crate) struct Grant {
    access_token: Secret,
    refresh_token: Secret,
    /// The machine, as the relay describes it.
    #[serde(default)]
    pub(crate) edge: Value,
    #[serde(default)]
    pub(crate) scope: Option<String>,
}

impl Grant {
    pub(crate) fn sign_in(&self) -> SignIn {
        SignIn {
            access_token: self.access_token.clone(),
            refresh_token: self.refresh_token.clone(),
        }
    }
}

/// An answer of `POST /device/token`, spelled as RFC 6749 and RFC 8628 do.
#[derive(Debug)]
pub(crate) enum TokenAnswer {
    Granted(Box<Grant>),
    /// The RFC's error, and the relay's code behind it.
    Refused {
        error: String,
        code: Option<String>,
    },
    Failed(Fault),
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
    #[serde(default)]
    code: Option<String>,
}

/// Asks for tokens.
pub(crate) async fn ask_for_tokens(
    client: &Client,
    relay: &Relay,
    form: &[(&str, &str)],
) -> TokenAnswer {
    let request = client.post(relay.route("/device/token")).timeout(ANSWER_TIMEOUT).form(form);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return TokenAnswer::Failed(Fault::passing(describe(&error))),
    };
    if response.status().is_success() {
        // The words of a parser could quote a token.
        return match response.json().await {
            Ok(grant) => TokenAnswer::Granted(Box::new(grant)),
            Err(_) => TokenAnswer::Failed(Fault::passing("the answer is not a relay's")),
        };
    }
    let answer = Answer::read(response).await;
    match serde_json::from_slice::<TokenError>(answer.body()) {
        Ok(TokenError { error, code }) if answer.is_client_error() => {
            TokenAnswer::Refused { error, code }
        }
        _ => TokenAnswer::Failed(old_relay(&answer).unwrap_or_else(|| answer.fault())),
    }
}

/// A relay that has no such route yet will not get one while somebody waits.
fn old_relay(answer: &Answer) -> Option<Fault> {
    let body: ErrorBody = serde_json::from_slice(answer.body()).ok()?;
    (body.error.code == "not_found").then(|| {
        Fault::Terminal(Refusal {
            kind: RefusalKind::Request,
            code: body.error.code,
            message: "this relay knows no sign-in by edgerelay login".into(),
        })
    })
}

/// Why a refresh token is not taken, and what to do.
pub(crate) fn refused_words(error: String, code: Option<String>) -> Refusal {
    let code = code.unwrap_or(error);
    let (kind, message) = match code.as_str() {
        "refresh_reused" => (
            RefusalKind::Credential,
            "this machine's sign-in was used elsewhere, too, so the relay has ended it: somebody \
             may have copied it",
        ),
        "person_inactive" => {
            (RefusalKind::Credential, "the person it belongs to is no longer active in Linear")
        }
        "invalid_grant" => (
            RefusalKind::Credential,
            "this machine's sign-in has ended: it was revoked, or not used for too long",
        ),
        _ => (RefusalKind::Request, "the relay does not understand this client: update it"),
    };
    Refusal { kind, code, message: message.into() }
}
