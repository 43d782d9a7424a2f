//! A sign-in with Linear: begun in one browser, ended in the same, once.

mod pages;

use relay_schemas::{
    ErrorCode, Problem, SecretDigest, SignInPurpose, UnixMillis, Viewer, limits::SIGN_IN_MS,
};
use serde::{Deserialize, Serialize};

pub use self::pages::{
    ApprovalPage, HtmlPage, MachineRow, code_page, content_security_policy, decided_page,
    installed_page, machines_page, problem_page, sign_in_page,
};

/// What is kept of a sign-in between leaving for Linear and coming back. Its `state` is in the
/// name of the object that keeps it, as a digest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// What for.
    pub purpose: SignInPurpose,
    /// The app's client id.
    pub app: String,
    /// Where Linear was asked to send the browser back to, to the letter.
    pub redirect_uri: String,
    /// The secret of PKCE (RFC 7636).
    pub verifier: String,
    /// Of the secret in the browser's cookie.
    pub browser: SecretDigest,
    /// When it is too late.
    pub expires_at: UnixMillis,
}

impl SignIn {
    /// When a sign-in that begins now is over.
    pub fn expiry(now: UnixMillis) -> UnixMillis {
        now + SIGN_IN_MS
    }

    /// Takes a sign-in out of its place. It is good once: whoever comes again finds none. A
    /// browser that it was not begun in takes nothing.
    pub fn take(place: &mut Option<Self>, browser: &str, now: UnixMillis) -> Result<Self, Problem> {
        let refused = || {
            let message = "this sign-in was not begun in this browser, is over, or took too long";
            Problem::new(ErrorCode::OauthStateInvalid, message)
        };
        let is_own = |sign_in: &Self| sign_in.browser.is_of(browser) && now < sign_in.expires_at;
        if !place.as_ref().is_some_and(is_own) {
            return Err(refused());
        }
        place.take().ok_or_else(refused)
    }
}

/// Why Linear sent the browser back without a code.
pub fn denied(error: &str) -> Problem {
    if error == "access_denied" {
        return Problem::new(ErrorCode::OauthDenied, "the sign-in was refused at Linear");
    }
    oauth_failed(error)
}

/// Linear's refusal of a request. Only the words of RFC 6749 are repeated; anything else could be
/// anybody's text.
pub fn oauth_failed(error: &str) -> Problem {
    const KNOWN: [&str; 9] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
    ];
    let problem = Problem::new(ErrorCode::OauthFailed, "Linear did not complete the sign-in");
    match KNOWN.iter().find(|known| **known == error) {
        Some(known) => problem.with("reason", known),
        None => problem,
    }
}

/// Refuses a token that is not of the one whom the browser was sent for.
pub fn check_viewer(purpose: &SignInPurpose, viewer: &Viewer) -> Result<(), Problem> {
    match purpose {
        SignInPurpose::Install if !viewer.app => {
            let message = "Linear answered for a person, not for the app";
            Err(Problem::new(ErrorCode::OauthFailed, message))
        }
        SignInPurpose::Person { .. } if viewer.app => {
            let message = "Linear answered for an app, not for a person";
            Err(Problem::new(ErrorCode::OauthFailed, message))
        }
        SignInPurpose::Person { .. } if !viewer.active => {
            Err(Problem::new(ErrorCode::PersonInactive, "this person is not active in Linear"))
        }
        SignInPurpose::Install | SignInPurpose::Person { .. } => Ok(()),
    }
}
