use serde::Deserialize;

use super::LinearAnswer;
use crate::time::UnixMillis;

/// Characters of a text of Linear's that are kept.
const MESSAGE_LENGTH_MAX: usize = 200;

/// How long a rate limit lasts that doesn't say.
const RATE_LIMIT_MS: u64 = 60_000;

/// What an answer means for the call that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Accepted,
    /// Linear has what this call makes, by the id that the relay chose: an earlier attempt's
    /// answer was lost.
    AlreadyThere,
    /// It never will succeed.
    Permanent {
        /// Linear's code, or the relay's word for a fault without one.
        code: String,
        /// What Linear says to people; empty where it says nothing to them. Its other texts quote
        /// what was sent.
        message: String,
    },
    /// The token is no longer good.
    Unauthorized,
    /// Nothing is taken until then.
    RateLimited {
        /// When to come back.
        until: UnixMillis,
    },
    /// It may succeed later.
    Passing {
        /// How long Linear asks to wait.
        retry_after_ms: Option<u64>,
    },
}

/// What an answer means for each of several calls in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// The same for all.
    Whole(Outcome),
    /// Refused because of how they were put together: each is to be tried alone.
    Split,
    /// One for each; `None` where the answer doesn't tell, because an error elsewhere has hidden
    /// it. Such a call is to be tried alone.
    Each(Vec<Option<Outcome>>),
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    data: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
}

#[derive(Deserialize)]
struct GraphqlError {
    #[serde(default)]
    message: String,
    #[serde(default)]
    path: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extensions {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    status_code: Option<u16>,
    #[serde(default)]
    user_error: bool,
    #[serde(default)]
    user_presentable_message: Option<String>,
}

impl Outcome {
    /// Reads the answer to a request with one call.
    pub fn of(answer: &LinearAnswer, now: UnixMillis) -> Self {
        let Ok(body) = serde_json::from_str::<Body>(&answer.body) else {
            return Self::of_status(answer, now);
        };
        match body.errors.first() {
            Some(_) => Self::of_errors(&body.errors, answer, now),
            None if answer.status != 200 => Self::of_status(answer, now),
            None if body.data.as_ref().is_some_and(is_success) => Self::Accepted,
            None => Self::Permanent { code: "not_successful".into(), message: String::new() },
        }
    }

    /// The whole request's fate comes first: without a token or a budget no error of a field
    /// means anything.
    fn of_errors(errors: &[GraphqlError], answer: &LinearAnswer, now: UnixMillis) -> Self {
        let outcomes: Vec<Self> =
            errors.iter().map(|error| Self::of_error(error, answer, now)).collect();
        let whole = outcomes.iter().find(|outcome| outcome.is_of_the_whole_request());
        whole.or_else(|| outcomes.first()).cloned().unwrap_or(Self::Accepted)
    }

    fn of_error(error: &GraphqlError, answer: &LinearAnswer, now: UnixMillis) -> Self {
        let extensions = &error.extensions;
        let kind = extensions.kind.as_deref().unwrap_or_default();
        let code = extensions.code.as_deref().unwrap_or_default();
        let status = extensions.status_code.unwrap_or(0);
        if code == "RATELIMITED" || kind == "ratelimited" || status == 429 {
            return Self::rate_limited(answer, now);
        }
        if code == "AUTHENTICATION_ERROR" || kind == "authentication error" || status == 401 {
            return Self::Unauthorized;
        }
        let is_passing = matches!(
            kind,
            "internal error" | "lock timeout" | "network error" | "bootstrap error" | "unknown"
        );
        if is_passing || (status >= 500 && !extensions.user_error) {
            return Self::Passing { retry_after_ms: answer.retry_after_ms() };
        }
        let is_told = extensions.user_error
            || matches!(code, "INPUT_ERROR" | "FORBIDDEN" | "GRAPHQL_VALIDATION_FAILED")
            || matches!(
                kind,
                "invalid input"
                    | "user error"
                    | "forbidden"
                    | "feature not accessible"
                    | "graphql error"
                    | "usage limit exceeded"
            );
        if is_told && says_already_there(error) {
            return Self::AlreadyThere;
        }
        if is_told || (400..500).contains(&status) || answer.status == 400 {
            return Self::permanent(error);
        }
        // An error without any mark is Linear's own fault, as far as anybody knows.
        Self::Passing { retry_after_ms: answer.retry_after_ms() }
    }

    fn permanent(error: &GraphqlError) -> Self {
        let code = error.extensions.code.as_deref().or(error.extensions.kind.as_deref());
        let message = error.extensions.user_presentable_message.as_deref().unwrap_or_default();
        Self::Permanent { code: cut(code.unwrap_or("unknown")), message: cut(message) }
    }

    fn of_status(answer: &LinearAnswer, now: UnixMillis) -> Self {
        match answer.status {
            401 => Self::Unauthorized,
            429 => Self::rate_limited(answer, now),
            // A 200 without JSON is a proxy's page, and a status below 400 somebody else's.
            0..=399 | 408 | 425 | 500.. => {
                Self::Passing { retry_after_ms: answer.retry_after_ms() }
            }
            status => Self::Permanent { code: format!("http_{status}"), message: String::new() },
        }
    }

    fn rate_limited(answer: &LinearAnswer, now: UnixMillis) -> Self {
        let mut budget = super::RateBudget::default();
        // What is the endpoint's own, its budget tells.
        budget.update("endpoint", answer, now);
        let until = answer
            .retry_after_ms()
            .map(|wait_ms| now + wait_ms)
            .or_else(|| budget.spent_until("all", now))
            .unwrap_or(now + RATE_LIMIT_MS);
        Self::RateLimited { until }
    }

    /// Whether this says nothing about the one call, but about the token, the budget or Linear.
    fn is_of_the_whole_request(&self) -> bool {
        match self {
            Self::Unauthorized | Self::RateLimited { .. } => true,
            Self::Accepted | Self::AlreadyThere | Self::Permanent { .. } | Self::Passing { .. } => {
                false
            }
        }
    }
}

impl BatchOutcome {
    /// Reads the answer to a request whose fields are `a0`, `a1` and so on.
    pub fn of(answer: &LinearAnswer, count: usize, now: UnixMillis) -> Self {
        let Ok(body) = serde_json::from_str::<Body>(&answer.body) else {
            return match Outcome::of_status(answer, now) {
                Outcome::Permanent { .. } => Self::Split,
                whole => Self::Whole(whole),
            };
        };
        if body.errors.is_empty() && answer.status != 200 {
            return Self::Whole(Outcome::of_status(answer, now));
        }
        let places: Vec<Option<usize>> = body.errors.iter().map(place_of).collect();
        for (error, place) in body.errors.iter().zip(&places) {
            let outcome = Outcome::of_error(error, answer, now);
            match (outcome, place) {
                (Outcome::Permanent { .. } | Outcome::AlreadyThere, None) => return Self::Split,
                (whole, _) if whole.is_of_the_whole_request() => return Self::Whole(whole),
                (whole, None) => return Self::Whole(whole),
                (_, Some(_)) => {}
            }
        }
        let data = body.data.unwrap_or_default();
        let outcome_at = |index: usize| {
            let error = places.iter().position(|place| *place == Some(index));
            if let Some(error) = error {
                return Some(Outcome::of_error(&body.errors[error], answer, now));
            }
            let payload = data.get(&format!("a{index}"))?;
            (payload["success"] == true).then_some(Outcome::Accepted)
        };
        Self::Each((0..count).map(outcome_at).collect())
    }
}

fn place_of(error: &GraphqlError) -> Option<usize> {
    error.path.as_ref()?.first()?.as_str()?.strip_prefix('a')?.parse().ok()
}

/// Every field of the mutation says `success`, and no field is missing.
fn is_success(data: &serde_json::Map<String, serde_json::Value>) -> bool {
    !data.is_empty() && data.values().all(|payload| payload["success"] == true)
}

/// Linear has no code of its own for this.
fn says_already_there(error: &GraphqlError) -> bool {
    let presentable = error.extensions.user_presentable_message.as_deref().unwrap_or_default();
    [error.message.as_str(), presentable].iter().any(|text| {
        let text = text.to_ascii_lowercase();
        ["already exists", "already in use", "already used", "duplicate id", "must be unique"]
            .iter()
            .any(|words| text.contains(words))
    })
}

fn cut(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MESSAGE_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    fn error(fields: &str) -> String {
        format!(r#"{{"errors":[{{"message":"m",{fields}}}],"data":null}}"#)
    }

    fn extensions(kind: &str, code: &str, status: u16, is_user_error: bool) -> String {
        error(&format!(
            r#""extensions":{{"type":"{kind}","code":"{code}","statusCode":{status},"userError":{is_user_error},"userPresentableMessage":"for people"}}"#
        ))
    }

    fn permanent(code: &str) -> Outcome {
        Outcome::Permanent { code: code.into(), message: "for people".into() }
    }

    #[track_caller]
    fn check(status: u16, body: &str, expected: &Outcome) {
        assert_eq!(&Outcome::of(&LinearAnswer::new(status, body), NOW), expected, "{body}");
    }

    #[test]
    fn the_body_decides_and_then_the_status() {
        let passing = Outcome::Passing { retry_after_ms: None };
        let limited = Outcome::RateLimited { until: NOW + RATE_LIMIT_MS };
        check(200, r#"{"data":{"agentActivityCreate":{"success":true}}}"#, &Outcome::Accepted);
        let unsuccessful = Outcome::Permanent { code: "not_successful".into(), message: "".into() };
        check(200, r#"{"data":{"agentActivityCreate":{"success":false}}}"#, &unsuccessful);
        check(
            200,
            &extensions("invalid input", "INPUT_ERROR", 400, true),
            &permanent("INPUT_ERROR"),
        );
        check(
            400,
            &extensions("graphql error", "GRAPHQL_VALIDATION_FAILED", 400, true),
            &permanent("GRAPHQL_VALIDATION_FAILED"),
        );
        check(200, &extensions("forbidden", "FORBIDDEN", 403, true), &permanent("FORBIDDEN"));
        check(400, &extensions("ratelimited", "RATELIMITED", 429, true), &limited);
        check(429, "", &limited);
        check(
            200,
            &extensions("authentication error", "AUTHENTICATION_ERROR", 401, true),
            &Outcome::Unauthorized,
        );
        check(401, "", &Outcome::Unauthorized);
        check(200, &extensions("internal error", "INTERNAL_SERVER_ERROR", 500, false), &passing);
        check(200, &extensions("lock timeout", "LOCK_TIMEOUT", 500, true), &passing);
        check(200, r#"{"errors":[{"message":"m"}]}"#, &passing);
        check(502, "<html>", &passing);
        check(200, "<html>", &passing);
        check(404, "", &Outcome::Permanent { code: "http_404".into(), message: "".into() });
    }

    #[test]
    fn an_id_that_is_taken_is_our_own() {
        for text in ["Entity already exists", "id: value must be unique", "Duplicate id"] {
            let body = format!(
                r#"{{"errors":[{{"message":"{text}","extensions":{{"type":"invalid input","code":"INPUT_ERROR","userError":true}}}}]}}"#
            );
            check(200, &body, &Outcome::AlreadyThere);
        }
    }

    #[test]
    fn waiting_is_as_long_as_told() {
        let body = extensions("ratelimited", "RATELIMITED", 429, false);
        let answer = LinearAnswer::new(400, &*body).with("retry-after", 7);
        assert_eq!(Outcome::of(&answer, NOW), Outcome::RateLimited { until: NOW + 7_000 });
        let answer = LinearAnswer::new(400, &*body)
            .with("x-ratelimit-requests-remaining", 0)
            .with("x-ratelimit-requests-reset", (NOW + 900_000).get());
        assert_eq!(Outcome::of(&answer, NOW), Outcome::RateLimited { until: NOW + 900_000 });
        let answer = LinearAnswer::new(503, "").with("retry-after", 3);
        assert_eq!(Outcome::of(&answer, NOW), Outcome::Passing { retry_after_ms: Some(3_000) });
    }

    #[track_caller]
    fn check_batch(body: &str, expected: &BatchOutcome) {
        assert_eq!(&BatchOutcome::of(&LinearAnswer::new(200, body), 3, NOW), expected, "{body}");
    }

    #[test]
    fn each_of_a_batch_has_its_own_fate() {
        let each = |outcomes: [Option<Outcome>; 3]| BatchOutcome::Each(outcomes.to_vec());
        let done = Some(Outcome::Accepted);
        check_batch(
            r#"{"data":{"a0":{"success":true},"a1":{"success":true},"a2":{"success":true}}}"#,
            &each([done.clone(), done.clone(), done.clone()]),
        );
        // A field that can't be null takes the others' answers with it.
        let input_error = r#""extensions":{"type":"invalid input","code":"INPUT_ERROR","userError":true,"userPresentableMessage":"for people"}"#;
        check_batch(
            &format!(r#"{{"data":null,"errors":[{{"message":"m","path":["a1"],{input_error}}}]}}"#),
            &each([None, Some(permanent("INPUT_ERROR")), None]),
        );
        check_batch(
            &format!(
                r#"{{"data":{{"a0":{{"success":true}},"a1":null}},"errors":[{{"message":"it already exists","path":["a1"],{input_error}}}]}}"#
            ),
            &each([done, Some(Outcome::AlreadyThere), None]),
        );
        check_batch(
            &format!(r#"{{"data":null,"errors":[{{"message":"too complex",{input_error}}}]}}"#),
            &BatchOutcome::Split,
        );
        check_batch(
            &extensions("ratelimited", "RATELIMITED", 429, false),
            &BatchOutcome::Whole(Outcome::RateLimited { until: NOW + RATE_LIMIT_MS }),
        );
        check_batch("<html>", &BatchOutcome::Whole(Outcome::Passing { retry_after_ms: None }));
        check_batch(
            r#"{"data":null,"errors":[{"message":"m","path":["a0"],"extensions":{"type":"authentication error"}}]}"#,
            &BatchOutcome::Whole(Outcome::Unauthorized),
        );
    }

    #[test]
    fn no_text_of_linear_s_but_the_one_for_people_is_kept() {
        let body = error(r#""extensions":{"code":"INPUT_ERROR","userError":true}"#)
            .replace("\"m\"", "\"Variable $input got \\\"the secret plan\\\"\"");
        check(200, &body, &Outcome::Permanent { code: "INPUT_ERROR".into(), message: "".into() });
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(status in any::<u16>(), body in any::<String>(), count in 0_usize..30) {
            let answer = LinearAnswer::new(status, body);
            let _ = Outcome::of(&answer, NOW);
            if let BatchOutcome::Each(outcomes) = BatchOutcome::of(&answer, count, NOW) {
                prop_assert_eq!(outcomes.len(), count);
            }
        }
    }
}
