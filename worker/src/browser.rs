//! Browsers: cookies, and what shows that a request was meant.

use relay_schemas::{
    BrowserClaims, ErrorCode, Problem, SecretDigest,
    limits::{BROWSER_SESSION_MS, SIGN_IN_MS},
};
use worker::Response;

use crate::{call::Call, respond};

/// Where the relay is in the outside world: no slash at the end.
pub(crate) fn base_url(call: &Call) -> Result<String, Problem> {
    if let Some(url) = &call.settings.public_url {
        return Ok(url.clone());
    }
    let url = call.request.url().map_err(|_| respond::unavailable())?;
    Ok(url.origin().ascii_serialization())
}

fn origin(call: &Call) -> Result<String, Problem> {
    let base: worker::Url = base_url(call)?.parse().map_err(|_| respond::unavailable())?;
    Ok(base.origin().ascii_serialization())
}

/// On plain HTTP, which is this machine alone, a browser would not keep a secure cookie.
fn is_secure(call: &Call) -> Result<bool, Problem> {
    let base = base_url(call)?;
    let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    Ok(!loopback.iter().any(|prefix| {
        base.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }))
}

/// With the prefix a browser takes a cookie from this host only, never from a neighbour's.
fn cookie_name(call: &Call, name: &str) -> Result<String, Problem> {
    Ok(if is_secure(call)? { format!("__Host-{name}") } else { name.to_owned() })
}

fn session_cookie(call: &Call) -> Result<String, Problem> {
    cookie_name(call, "edgerelay")
}

/// Each sign-in has one of its own, so that two tabs don't end each other's.
fn sign_in_cookie(call: &Call, state: &SecretDigest) -> Result<String, Problem> {
    cookie_name(call, &format!("edgerelay_sign_in_{}", &state.to_string()[..16]))
}

fn cookie(call: &Call, name: &str) -> Option<String> {
    let header = call.header("Cookie")?;
    let mut pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// Sets a cookie for so long; an empty one that ends at once takes it away.
fn set_cookie(
    call: &Call,
    response: &Response,
    (name, value): (&str, &str),
    age_ms: u64,
) -> Result<(), Problem> {
    let secure = if is_secure(call)? { "; Secure" } else { "" };
    let age_s = age_ms / 1000;
    // The prefix asks for this path.
    let text = format!("{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}");
    response.headers().append("Set-Cookie", &text).map_err(|_| respond::unavailable())
}

/// Gives a browser that goes to Linear what it must show when it comes back.
pub(crate) fn begin_sign_in(
    call: &Call,
    response: &Response,
    state: &SecretDigest,
    secret: &str,
) -> Result<(), Problem> {
    set_cookie(call, response, (&sign_in_cookie(call, state)?, secret), SIGN_IN_MS)
}

/// What a browser shows that comes back; empty when it shows nothing.
pub(crate) fn sign_in_secret(call: &Call, state: &SecretDigest) -> Result<String, Problem> {
    Ok(cookie(call, &sign_in_cookie(call, state)?).unwrap_or_default())
}

/// Takes it away again.
pub(crate) fn end_sign_in(
    call: &Call,
    response: &Response,
    state: &SecretDigest,
) -> Result<(), Problem> {
    set_cookie(call, response, (&sign_in_cookie(call, state)?, ""), 0)
}

/// Who has signed in in a browser.
pub(crate) struct Session {
    pub(crate) claims: BrowserClaims,
    /// What shows that a form was sent from a page of this session.
    pub(crate) csrf: String,
}

/// Begins a session.
pub(crate) fn begin_session(
    call: &Call,
    response: &Response,
    claims: &BrowserClaims,
) -> Result<(), Problem> {
    let token = call.settings.signing_keys.issue(claims);
    set_cookie(call, response, (&session_cookie(call)?, &token), BROWSER_SESSION_MS)
}

/// The session of the browser that asks.
pub(crate) fn session(call: &Call) -> Result<Session, Problem> {
    let required = || Problem::new(ErrorCode::SignInRequired, "sign in with Linear first");
    let token = cookie(call, &session_cookie(call)?).ok_or_else(required)?;
    let claims = call.settings.signing_keys.read(&token, call.now).map_err(|_| required())?;
    // Whoever can't read the cookie can't compute it, and pages of other sites can't.
    let csrf = SecretDigest::of(&format!("csrf {token}")).to_string();
    Ok(Session { claims, csrf })
}

impl Session {
    /// Refuses a form that wasn't sent from a page of this session.
    pub(crate) fn require_own_form(&self, call: &Call, csrf: &str) -> Result<(), Problem> {
        let is_same_origin = call.header("Origin") == Some(origin(call)?);
        if is_same_origin && SecretDigest::of(&self.csrf).is_of(csrf) {
            return Ok(());
        }
        let message = "the form was not sent from this page; open the page again";
        Err(Problem::new(ErrorCode::OauthStateInvalid, message))
    }
}
