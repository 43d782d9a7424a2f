use serde::Deserialize;

use super::LinearAnswer;
use crate::installation::SecretText;

/// How long a token lives that doesn't say: a day, as Linear's do.
const LIFE_DEFAULT_S: u64 = 86_399;

/// New tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// What requests carry.
    pub access: SecretText,
    /// What gets the next ones; client credentials have none.
    pub refresh: Option<SecretText>,
    /// How long the access token lives, in seconds.
    pub expires_in_s: u64,
    /// What it allows.
    pub scopes: Vec<String>,
}

/// What the token endpoint's answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// New tokens.
    Granted(TokenGrant),
    /// The refresh token is dead: a person must sign in again.
    Dead,
    /// The relay itself is refused, such as for a wrong client secret.
    Refused {
        /// Linear's code.
        code: String,
    },
    /// It may succeed later.
    Passing {
        /// How long Linear asks to wait.
        retry_after_ms: Option<u64>,
    },
}

#[derive(Deserialize)]
struct Body {
    access_token: SecretText,
    #[serde(default)]
    refresh_token: Option<SecretText>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    scope: Scopes,
}

/// Apps older than December 2023 get a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scopes {
    Text(String),
    List(Vec<String>),
}

impl Default for Scopes {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Scopes {
    fn into_list(self) -> Vec<String> {
        let list = match self {
            Self::Text(text) => vec![text],
            Self::List(list) => list,
        };
        let words = list.iter().flat_map(|text| text.split([' ', ',']));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
}

impl TokenOutcome {
    /// Reads an answer of `/oauth/token`.
    pub fn of(answer: &LinearAnswer) -> Self {
        let passing = Self::Passing { retry_after_ms: answer.retry_after_ms() };
        match answer.status {
            200 => match serde_json::from_str::<Body>(&answer.body) {
                Ok(body) => Self::Granted(TokenGrant {
                    access: body.access_token,
                    refresh: body.refresh_token,
                    expires_in_s: body.expires_in.unwrap_or(LIFE_DEFAULT_S),
                    scopes: body.scope.into_list(),
                }),
                Err(_) => passing,
            },
            400..=403 => {
                let refusal: Refusal = serde_json::from_str(&answer.body).unwrap_or_default();
                match refusal.error.as_str() {
                    "invalid_grant" => Self::Dead,
                    // Not OAuth's words: a gateway's, or a rate limit, which is a 400 too.
                    "" => passing,
                    code => Self::Refused { code: code.chars().take(60).collect() },
                }
            }
            _ => passing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: &TokenOutcome) {
        assert_eq!(&TokenOutcome::of(&LinearAnswer::new(status, body)), expected, "{body}");
    }

    fn granted(refresh: Option<&str>, scopes: &[&str]) -> TokenOutcome {
        TokenOutcome::Granted(TokenGrant {
            access: SecretText::new("a"),
            refresh: refresh.map(SecretText::new),
            expires_in_s: LIFE_DEFAULT_S,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        })
    }

    #[test]
    fn scopes_come_in_three_forms() {
        for scope in [r#""read write""#, r#""read,write""#, r#"["read","write"]"#] {
            let body = format!(
                r#"{{"access_token":"a","refresh_token":"r","expires_in":86399,"scope":{scope}}}"#
            );
            check(200, &body, &granted(Some("r"), &["read", "write"]));
        }
        check(200, r#"{"access_token":"a"}"#, &granted(None, &[]));
    }

    #[test]
    fn only_invalid_grant_is_the_end() {
        let passing = TokenOutcome::Passing { retry_after_ms: None };
        check(400, r#"{"error":"invalid_grant","error_description":"x"}"#, &TokenOutcome::Dead);
        let refused = TokenOutcome::Refused { code: "invalid_client".into() };
        check(401, r#"{"error":"invalid_client"}"#, &refused);
        check(400, r#"{"errors":[{"extensions":{"code":"RATELIMITED"}}]}"#, &passing);
        check(400, "", &passing);
        check(429, "", &passing);
        check(503, "<html>", &passing);
        check(200, "<html>", &passing);
    }

    #[test]
    fn tokens_are_not_printed() {
        let printed = format!("{:?}", granted(Some("lin_refresh"), &[]));
        assert!(!printed.contains("lin_refresh"), "{printed}");
    }
}
