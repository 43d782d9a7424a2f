use serde::{Deserialize, Serialize};

use crate::limits::RATE_LIMIT_PERIOD_S;

macro_rules! error_codes {
    ($($(#[$documentation:meta])* $variant:ident = $code:literal, $status:literal, $retryable:literal;)*) => {
        /// What went wrong, as clients match it. Codes are stable; messages are for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$documentation])* #[serde(rename = $code)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, for tables in tests and documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code's text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status that it is answered with.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same request may succeed later.
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }
        }
    };
}

error_codes! {
    /// No route has this path.
    NotFound = "not_found", 404, false;
    /// The route exists with another method; `Allow` names it.
    MethodNotAllowed = "method_not_allowed", 405, false;
    /// The body must be `application/json`.
    ContentTypeUnsupported = "content_type_unsupported", 415, false;
    /// The body is longer than the route takes.
    BodyTooLarge = "body_too_large", 413, false;
    /// The body is empty.
    BodyEmpty = "body_empty", 400, false;
    /// The body is not JSON in UTF-8.
    BodyNotJson = "body_not_json", 400, false;
    /// The body is JSON, but not an object.
    BodyNotObject = "body_not_object", 400, false;
    /// The body nests deeper than `BODY_DEPTH_MAX`.
    BodyTooDeep = "body_too_deep", 400, false;
    /// A key that the relay reads stands twice in the body.
    BodyAmbiguous = "body_ambiguous", 400, false;
    /// `type` is missing or not a string.
    TypeInvalid = "type_invalid", 400, false;
    /// `organizationId` is missing.
    OrganizationMissing = "organization_missing", 400, false;
    /// `organizationId` is not an identifier.
    OrganizationInvalid = "organization_invalid", 400, false;
    /// `webhookTimestamp` is missing.
    TimestampMissing = "timestamp_missing", 400, false;
    /// `webhookTimestamp` is not a number of milliseconds.
    TimestampInvalid = "timestamp_invalid", 400, false;
    /// `webhookTimestamp` is too old.
    TimestampStale = "timestamp_stale", 400, false;
    /// `webhookTimestamp` is in the future.
    TimestampFuture = "timestamp_future", 400, false;
    /// No `Linear-Signature`.
    SignatureMissing = "signature_missing", 401, false;
    /// `Linear-Signature` has another form than Linear's.
    SignatureMalformed = "signature_malformed", 401, false;
    /// `Linear-Signature` fits no accepted secret.
    SignatureInvalid = "signature_invalid", 401, false;
    /// The queue did not take the event; nothing was stored.
    QueueUnavailable = "queue_unavailable", 503, true;
    /// An object or store did not answer; try again.
    Unavailable = "unavailable", 503, true;
    /// The relay failed; the request id finds the log line.
    Internal = "internal", 500, true;
    /// A setting of the relay is missing or wrong; the log says which.
    Misconfigured = "misconfigured", 500, false;

    /// No `Authorization: Bearer …`.
    CredentialMissing = "credential_missing", 401, false;
    /// Not a credential of this relay: garbled, another algorithm, an unknown key, a bad signature.
    CredentialInvalid = "credential_invalid", 401, false;
    /// The credential's `exp` has passed.
    CredentialExpired = "credential_expired", 401, false;
    /// The credential was revoked.
    CredentialRevoked = "credential_revoked", 401, false;
    /// The credential lacks the scope that the route needs.
    ScopeMissing = "scope_missing", 403, false;
    /// The credential may not read this channel.
    ChannelForbidden = "channel_forbidden", 403, false;
    /// Too many requests; `Retry-After` says when to come back.
    RateLimited = "rate_limited", 429, true;

    /// The relay has no `LINEAR_CLIENT_ID`: nobody can sign in with Linear.
    OauthNotConfigured = "oauth_not_configured", 501, false;
    /// The relay serves no app with this client id.
    AppUnknown = "app_unknown", 400, false;
    /// The sign-in was not begun in this browser, is over, or took too long; begin it again.
    OauthStateInvalid = "oauth_state_invalid", 400, false;
    /// Linear's user, or Linear, has refused the sign-in.
    OauthDenied = "oauth_denied", 403, false;
    /// Linear did not answer a sign-in as it should; begin it again.
    OauthFailed = "oauth_failed", 502, true;
    /// A person must sign in with Linear first.
    SignInRequired = "sign_in_required", 401, false;
    /// The app is not installed in this organization.
    OrganizationNotInstalled = "organization_not_installed", 409, false;
    /// Linear no longer accepts the app's tokens: an administrator must install it again.
    NeedsSignIn = "needs_sign_in", 409, false;
    /// The person is no longer active in Linear.
    PersonInactive = "person_inactive", 403, false;
    /// The refresh token was used before: somebody may have a copy. The machine is revoked.
    RefreshReused = "refresh_reused", 401, false;

    /// Another machine was given the event since; `assigned_to` names it.
    EventReassigned = "event_reassigned", 409, false;
    /// The event belongs to no agent session that the relay knows.
    SessionUnknown = "session_unknown", 404, false;
    /// The activity is not one that Linear takes; the message says why.
    ActivityInvalid = "activity_invalid", 400, false;

    /// `X-Edge-User-Id` or `X-Edge-Name` contradicts the credential.
    IdentityMismatch = "identity_mismatch", 403, false;

    /// A query parameter that the route does not know.
    ParameterUnknown = "parameter_unknown", 400, false;
    /// A query parameter or field with an impossible value.
    ParameterInvalid = "parameter_invalid", 400, false;
    /// The cursor is not a cursor.
    CursorInvalid = "cursor_invalid", 400, false;
    /// The cursor's position is no longer kept.
    CursorTrimmed = "cursor_trimmed", 410, false;
    /// The cursor belongs to another incarnation of the stream.
    CursorEpochChanged = "cursor_epoch_changed", 410, false;
    /// The cursor lies after the newest event.
    CursorFuture = "cursor_future", 416, false;
    /// No event with this id is in the caller's stream.
    EventUnknown = "event_unknown", 404, false;
    /// No segment with this name is in the caller's stream.
    SegmentUnknown = "segment_unknown", 404, false;
    /// The segment is gone or damaged in the store.
    SegmentLost = "segment_lost", 410, false;
    /// The `Range` lies outside of the segment.
    RangeUnsatisfiable = "range_unsatisfiable", 416, false;
    /// No dead letter with this id is kept.
    DeadLetterUnknown = "dead_letter_unknown", 404, false;
    /// The dead letter points to a stored body that is gone: putting it back can't help.
    DeadLetterBodyMissing = "dead_letter_body_missing", 409, false;
    /// A status other than processing, completed or failed.
    StatusUnknown = "status_unknown", 400, false;
    /// A text field is longer than its limit.
    FieldTooLong = "field_too_long", 400, false;
    /// The edge is not enrolled in this organization.
    EdgeUnknown = "edge_unknown", 404, false;
    /// The organization has as many edges as it may.
    EdgesTooMany = "edges_too_many", 429, true;
    /// The stream has as many connections as it may.
    ConnectionsTooMany = "connections_too_many", 429, true;
    /// The stream's hot tail is full, because sealing fails; the event waits in the queue.
    StreamFull = "stream_full", 503, true;
}

/// An error to be answered: a stable code and a message for the caller. Never holds a secret or a
/// payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Problem {
    /// What went wrong.
    pub code: ErrorCode,
    /// What the caller can read and do.
    pub message: String,
    /// Further members of the error object, such as `oldest` and `tail` of a cursor fault.
    pub details: Vec<(&'static str, String)>,
}

impl Problem {
    /// A problem without further members.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// Adds a member to the error object.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.push((name, value.to_string()));
        self
    }

    /// `Retry-After` in seconds, where waiting helps.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.code.is_retryable().then_some(match self.code {
            ErrorCode::EdgesTooMany | ErrorCode::ConnectionsTooMany => 30,
            ErrorCode::RateLimited => RATE_LIMIT_PERIOD_S,
            _ => 2,
        })
    }

    /// The body: `{"error":{"code","message","retryable",…}}`.
    pub fn to_json(&self) -> String {
        let mut error = serde_json::Map::new();
        error.insert("code".into(), self.code.as_str().into());
        error.insert("message".into(), self.message.as_str().into());
        error.insert("retryable".into(), self.code.is_retryable().into());
        for (name, value) in &self.details {
            error.insert((*name).into(), value.as_str().into());
        }
        serde_json::json!({ "error": error }).to_string()
    }
}

/// An error body as a client reads it. A code of a newer relay is kept as text.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorBody {
    /// The inner object.
    pub error: ErrorFields,
}

/// The members of an error body that clients rely on.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorFields {
    /// The stable code.
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whoever_is_to_come_back_is_told_when() {
        for code in ErrorCode::ALL {
            let seconds = Problem::new(*code, "m").retry_after_s();
            let must_wait = [429, 503].contains(&code.status());
            assert!(!must_wait || seconds.is_some_and(|seconds| seconds > 0), "{}", code.as_str());
        }
    }

    #[test]
    fn codes_are_distinct_and_read_back() {
        let texts: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            let body = Problem::new(*code, "m").with("tail", "t").to_json();
            let read: ErrorBody = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (read.error.code.as_str(), read.error.retryable),
                (code.as_str(), code.is_retryable())
            );
        }
    }
}
