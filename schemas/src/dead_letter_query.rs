use crate::{
    error::{ErrorCode, Problem},
    keys::DeadLetterId,
    limits::DEAD_LETTERS_LISTED,
};

/// The query of `GET /admin/dead-letters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersQuery {
    /// How many letters to look at, at most.
    pub limit: usize,
    /// The page begins after this letter, which need not be there any more.
    pub cursor: Option<DeadLetterId>,
    /// Show only those whose reason begins with this word.
    pub reason: Option<String>,
}

/// The query of `POST /admin/dead-letters/{id}/put-back`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutBackQuery {
    /// Send a letter that was put back already.
    pub again: bool,
}

impl DeadLettersQuery {
    /// Reads decoded query pairs.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Problem> {
        let mut query = Self { limit: DEAD_LETTERS_LISTED.0, cursor: None, reason: None };
        for (name, value) in pairs {
            match name {
                "limit" => query.limit = limit(value)?,
                "cursor" => query.cursor = Some(cursor(value)?),
                "reason" => query.reason = Some(reason(value)?),
                _ => return Err(unknown(name, "limit, cursor, reason")),
            }
        }
        Ok(query)
    }
}

impl PutBackQuery {
    /// Reads decoded query pairs.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Problem> {
        let mut query = Self { again: false };
        for (name, value) in pairs {
            match (name, value) {
                ("again", "true") => query.again = true,
                ("again", "false") => query.again = false,
                ("again", _) => return Err(invalid("again", "again is true or false")),
                _ => return Err(unknown(name, "again")),
            }
        }
        Ok(query)
    }
}

fn limit(value: &str) -> Result<usize, Problem> {
    let greatest = DEAD_LETTERS_LISTED.1;
    let limit = value.parse().ok().filter(|limit| (1..=greatest).contains(limit));
    limit.ok_or_else(|| invalid("limit", format!("limit is a number from 1 to {greatest}")))
}

fn cursor(value: &str) -> Result<DeadLetterId, Problem> {
    value.parse().map_err(|_| invalid("cursor", "cursor is what the page before gave"))
}

/// A word that no reason can begin with finds nothing, which would look as if all were well.
fn reason(value: &str) -> Result<String, Problem> {
    let is_word =
        !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_word {
        Ok(value.to_owned())
    } else {
        Err(invalid("reason", "reason is the first word of a reason, such as undecodable"))
    }
}

fn unknown(name: &str, known: &str) -> Problem {
    let message = format!("unknown parameter; known are {known}");
    Problem::new(ErrorCode::ParameterUnknown, message)
        .with("parameter", name.chars().take(64).collect::<String>())
}

fn invalid(name: &str, message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::ParameterInvalid, message).with("parameter", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, value: &str) -> Result<DeadLettersQuery, Problem> {
        DeadLettersQuery::parse([(name, value)].into_iter())
    }

    fn put_back(name: &str, value: &str) -> Result<PutBackQuery, Problem> {
        PutBackQuery::parse([(name, value)].into_iter())
    }

    #[test]
    fn good_parameters_are_read() {
        let usual = DeadLettersQuery { limit: 100, cursor: None, reason: None };
        assert_eq!(DeadLettersQuery::parse([].into_iter()), Ok(usual.clone()));
        for limit in [1, 1000] {
            let expected = DeadLettersQuery { limit, ..usual.clone() };
            assert_eq!(list("limit", &limit.to_string()), Ok(expected));
        }
        let cursor = "2026-11-20-a".parse().ok();
        assert_eq!(list("cursor", "2026-11-20-a").unwrap().cursor, cursor);
        assert_eq!(list("reason", "body_missing").unwrap().reason.as_deref(), Some("body_missing"));
        assert_eq!(PutBackQuery::parse([].into_iter()), Ok(PutBackQuery { again: false }));
        for again in [true, false] {
            assert_eq!(put_back("again", &again.to_string()), Ok(PutBackQuery { again }));
        }
    }

    #[test]
    fn bad_parameters_are_named() {
        let check = |problem: Problem, code: ErrorCode, name: &str| {
            assert_eq!(
                (problem.code, &problem.details[0]),
                (code, &("parameter", name.to_owned()))
            );
        };
        for value in ["", "0", "1001", "-1", "1.5", "ten"] {
            check(list("limit", value).unwrap_err(), ErrorCode::ParameterInvalid, "limit");
        }
        for value in ["", "2026-11-20", "../../bodies"] {
            check(list("cursor", value).unwrap_err(), ErrorCode::ParameterInvalid, "cursor");
        }
        for value in ["", "undecodable:", "Undecodable", "no header"] {
            check(list("reason", value).unwrap_err(), ErrorCode::ParameterInvalid, "reason");
        }
        for value in ["", "1", "yes", "TRUE"] {
            check(put_back("again", value).unwrap_err(), ErrorCode::ParameterInvalid, "again");
        }
        check(list("again", "true").unwrap_err(), ErrorCode::ParameterUnknown, "again");
        check(put_back("limit", "1").unwrap_err(), ErrorCode::ParameterUnknown, "limit");
    }
}
