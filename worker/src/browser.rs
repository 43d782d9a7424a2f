//! Browsers: cookies, and what shows that a request was meant.

use relay_schemas::{BrowserClaims, ErrorCode, Problem, SecretDigest, limits::BROWSER_SESSION_MS};
use worker::Response;

use crate::{call::Call, respond};

/// The cookie of a sign-in on its way through Linear. Each has one of its own, so that two tabs
/// don't end each other's.
pub(crate) fn sign_in_cookie(state: &SecretDigest) -> String {
    format!("edgerelay_sign_in_{}", &state.to_string()[..16])
}

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

/// With the prefix a browser takes the cookie from this host only, never from a neighbour's.
fn session_cookie(call: &Call) -> Result<&'static str, Problem> {
    Ok(if is_secure(call)? { "__Host-edgerelay" } else { "edgerelay" })
}

/// A cookie that the browser has sent.
pub(crate) fn cookie(call: &Call, name: &str) -> Option<String> {
    let header = call.header("Cookie")?;
    let mut pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// Sets a cookie for so long; an empty one that ends at once takes it away.
pub(crate) fn set_cookie(
    call: &Call,
    response: &Response,
    cookie: (&str, &str),
    path: &str,
    age_ms: u64,
) -> Result<(), Problem> {
    let (name, value) = cookie;
    let secure = if is_secure(call)? { "; Secure" } else { "" };
    let age_s = age_ms / 1000;
    let text =
        format!("{name}={value}; Path={path}; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}");
    response.headers().append("Set-Cookie", &text).map_err(|_| respond::unavailable())
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
    set_cookie(call, response, (session_cookie(call)?, &token), "/", BROWSER_SESSION_MS)
}

/// The session of the browser that asks.
pub(crate) fn session(call: &Call) -> Result<Session, Problem> {
    let required = || Problem::new(ErrorCode::SignInRequired, "sign in with Linear first");
    let token = cookie(call, session_cookie(call)?).ok_or_else(required)?;
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
