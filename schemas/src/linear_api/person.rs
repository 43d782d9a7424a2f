use serde::Deserialize;

use super::{LinearAnswer, Outcome};
use crate::{
    installation::{Person, PersonTeam},
    time::UnixMillis,
};

/// What an answer to [`super::PERSON`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonOutcome {
    /// Who it is; somebody who is unknown to Linear is not active.
    Known(Person),
    /// The token is no longer good.
    Unauthorized,
    /// Nothing is taken until then.
    RateLimited {
        /// When to come back.
        until: UnixMillis,
    },
    /// Nothing that can be relied on.
    Unavailable,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    name: String,
    active: bool,
    #[serde(default)]
    admin: bool,
    /// Who doesn't say it may be one.
    #[serde(default)]
    guest: Option<bool>,
    teams: Teams,
}

#[derive(Deserialize)]
struct Teams {
    nodes: Vec<PersonTeam>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    message: String,
    #[serde(default)]
    path: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    extensions: serde_json::Value,
}

impl PersonOutcome {
    /// Reads an answer.
    pub fn of(answer: &LinearAnswer, now: UnixMillis) -> Self {
        if answer.status == 401 {
            return Self::Unauthorized;
        }
        let Ok(body) = serde_json::from_str::<Body>(&answer.body) else {
            return Self::Unavailable;
        };
        let is_unknown = body.errors.iter().any(Fault::is_unknown);
        match body.data.and_then(|data| data.user) {
            Some(user) if body.errors.is_empty() => Self::Known(Person {
                active: user.active,
                name: user.name,
                admin: user.admin,
                guest: user.guest,
                teams: user.teams.nodes,
            }),
            None if is_unknown => Self::Known(Person {
                active: false,
                name: String::new(),
                admin: false,
                guest: None,
                teams: Vec::new(),
            }),
            _ => match Outcome::of(answer, now) {
                Outcome::Unauthorized => Self::Unauthorized,
                Outcome::RateLimited { until } => Self::RateLimited { until },
                Outcome::Accepted
                | Outcome::AlreadyThere
                | Outcome::Permanent { .. }
                | Outcome::Passing { .. } => Self::Unavailable,
            },
        }
    }
}

impl Fault {
    /// Anything else must not take a person's access away: what isn't found may be something that
    /// belongs to them.
    fn is_unknown(&self) -> bool {
        let is_input =
            self.extensions["code"] == "INPUT_ERROR" || self.extensions["type"] == "invalid input";
        let message = self.message.to_ascii_lowercase();
        is_input
            && match self.path.as_deref() {
                Some(path) => path == ["user"] && message.contains("not found"),
                None => message.contains("not found: user"),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    #[track_caller]
    fn check(status: u16, body: &str, expected: &PersonOutcome) {
        assert_eq!(&PersonOutcome::of(&LinearAnswer::new(status, body), NOW), expected, "{body}");
    }

    #[test]
    fn only_linear_s_word_makes_somebody_inactive() {
        let team = PersonTeam { id: "t".into(), key: "K".into(), name: "T".into(), private: true };
        let person =
            Person { active: true, name: "N".into(), admin: false, guest: None, teams: vec![team] };
        check(
            200,
            r#"{"data":{"user":{"id":"u","name":"N","active":true,"admin":false,"teams":{"nodes":[{"id":"t","key":"K","name":"T","private":true}]}}}}"#,
            &PersonOutcome::Known(person),
        );
        let gone =
            Person { active: false, name: "".into(), admin: false, guest: None, teams: vec![] };
        check(
            200,
            r#"{"data":null,"errors":[{"message":"Entity not found: User","extensions":{"code":"INPUT_ERROR"}}]}"#,
            &PersonOutcome::Known(gone.clone()),
        );
        check(
            200,
            r#"{"data":null,"errors":[{"message":"Entity not found","path":["user"],"extensions":{"type":"invalid input"}}]}"#,
            &PersonOutcome::Known(gone),
        );
        for body in [
            r#"{"data":null,"errors":[{"message":"Entity not found: Team","extensions":{"code":"INPUT_ERROR"}}]}"#,
            r#"{"data":null,"errors":[{"message":"Entity not found: User","path":["user","teams","nodes",0,"lead"],"extensions":{"code":"INPUT_ERROR"}}]}"#,
            r#"{"data":{"user":{"name":"N","active":true,"teams":{"nodes":[]}}},"errors":[{"message":"Entity not found: User","path":["user"],"extensions":{"code":"INPUT_ERROR"}}]}"#,
            r#"{"data":{"user":null}}"#,
            r#"{"data":null,"errors":[{"message":"field not found","extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]}"#,
            "<html>",
        ] {
            check(200, body, &PersonOutcome::Unavailable);
        }
        let limited = PersonOutcome::RateLimited { until: NOW + 60_000 };
        check(400, r#"{"errors":[{"message":"m","extensions":{"code":"RATELIMITED"}}]}"#, &limited);
        check(401, "", &PersonOutcome::Unauthorized);
        check(
            200,
            r#"{"errors":[{"message":"m","extensions":{"type":"authentication error"}}]}"#,
            &PersonOutcome::Unauthorized,
        );
    }
}
