use serde::{Deserialize, Serialize};

use crate::{
    error::{ErrorCode, Problem},
    frame::{Gap, GapReason},
    identifier::{Channel, OrganizationId},
    limits::AUDIT_LISTED,
    message::Reroute,
    read_query::PageQuery,
    time::UnixMillis,
};

/// The query of `GET /admin/audit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Whose decisions.
    pub organization: OrganizationId,
    /// The cursor of the page before.
    pub after: Option<String>,
    /// How many decisions at most.
    pub limit: usize,
}

impl AuditQuery {
    /// Reads decoded query pairs.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Problem> {
        let (default, greatest) = AUDIT_LISTED;
        let (mut organization, mut after, mut limit) = (None, None, default);
        for (name, value) in pairs {
            match name {
                "organization" => organization = value.parse().ok(),
                "after" => after = Some(value.to_owned()),
                "limit" => {
                    limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=greatest).contains(limit))
                        .ok_or_else(|| {
                            Self::invalid(name, format!("limit is a number from 1 to {greatest}"))
                        })?;
                }
                _ => {
                    let message = "unknown parameter; known are organization, after, limit";
                    return Err(Problem::new(ErrorCode::ParameterUnknown, message)
                        .with("parameter", name.chars().take(64).collect::<String>()));
                }
            }
        }
        let organization = organization.ok_or_else(|| {
            Self::invalid("organization", "add ?organization=ID to the address".to_owned())
        })?;
        Ok(Self { organization, after, limit })
    }

    /// A parameter that can't be understood.
    pub fn invalid(name: &str, message: impl Into<String>) -> Problem {
        Problem::new(ErrorCode::ParameterInvalid, message.into()).with("parameter", name)
    }
}

/// The body of `POST /admin/streams/{organization}/unrouted/reroute`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerouteRequest {
    /// Where to; `null` has each event decided anew. It must be said.
    #[serde(deserialize_with = "Option::deserialize")]
    pub to: Option<Channel>,
    /// Where to start, as `since` of `GET /events`; where the call before has come to, when it says
    /// none.
    #[serde(default)]
    pub since: Option<String>,
    /// How many events at most.
    #[serde(default)]
    pub limit: Option<usize>,
}

impl RerouteRequest {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let request: Self = serde_json::from_slice(body).map_err(|error| {
            Problem::new(ErrorCode::ParameterInvalid, format!("not a re-routing: {error}"))
        })?;
        if request.to == Some(Channel::Unrouted) {
            return Err(AuditQuery::invalid("to", "to is user:ID, team:ID, org or null"));
        }
        Ok(request)
    }

    /// What the message of each event says.
    pub fn reroute(&self) -> Reroute {
        Reroute { to: self.to.clone() }
    }

    /// Which events these are; `reached` is where the call before has come to.
    ///
    /// A channel is named for some events, never by mistake for all that are kept: without a call
    /// before it is said where they begin.
    pub fn query(&self, reached: Option<String>, now: UnixMillis) -> Result<PageQuery, Problem> {
        if self.to.is_some() && self.since.is_none() && reached.is_none() {
            return Err(AuditQuery::invalid("since", "nothing was re-routed yet: say since when"));
        }
        let limit = self.limit.map(|limit| limit.to_string());
        let start = match &self.since {
            Some(since) => Some(("since", since.as_str())),
            None => reached.as_deref().map(|cursor| ("cursor", cursor)),
        };
        let limit = limit.as_deref().map(|limit| ("limit", limit));
        PageQuery::parse(start.into_iter().chain(limit), now)
    }

    /// Refuses to go on where the call before has not come to: a log that was lost or rebuilt
    /// since begins with what was re-routed long ago.
    pub fn check_start(&self, gap: Option<&Gap>) -> Result<(), Problem> {
        let is_elsewhere = |gap: &&Gap| match gap.reason {
            GapReason::EpochChanged | GapReason::Future | GapReason::Invalid => true,
            GapReason::Trimmed | GapReason::Lost => false,
        };
        match gap.filter(is_elsewhere).filter(|_| self.since.is_none()) {
            None => Ok(()),
            Some(gap) => {
                let message = "the stream was lost or rebuilt since the last re-routing: say since";
                Err(Problem::new(ErrorCode::CursorEpochChanged, message)
                    .with("requested", gap.requested.as_str()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cursor, Epoch, OnGap, Order, Seq, Start};

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    fn check(body: &str, expected: Result<(Option<&str>, Start, usize), ErrorCode>) {
        let asked = RerouteRequest::parse(body.as_bytes())
            .and_then(|request| Ok((request.query(Some("c-1".into()), NOW)?, request)));
        let asked = asked.map(|(query, request)| {
            assert_eq!((query.order, query.on_gap), (Order::Asc, OnGap::Resume));
            (request.to.map(|to| to.to_string()), query.start, query.limit)
        });
        let expected = expected.map(|(to, start, limit)| (to.map(str::to_owned), start, limit));
        assert_eq!(asked.map_err(|problem| problem.code), expected, "{body}");
    }

    #[test]
    fn a_re_routing_says_where_to_and_from_where() {
        let reached = || Start::Cursor("c-1".into());
        check(r#"{"to":null}"#, Ok((None, reached(), 100)));
        check(r#"{"to":"user:u","limit":7}"#, Ok((Some("user:u"), reached(), 7)));
        check(r#"{"to":"org","since":"earliest"}"#, Ok((Some("org"), Start::Earliest, 100)));
        check(r#"{"to":"team:t","since":"1h"}"#, {
            Ok((Some("team:t"), Start::Time(NOW - 3_600_000), 100))
        });
        for body in [
            "",
            "{}",
            r#"{"to":"unrouted"}"#,
            r#"{"to":"user:a/b"}"#,
            r#"{"to":null,"limit":0}"#,
            r#"{"to":null,"limit":1001}"#,
            r#"{"to":null,"since":"yesterday"}"#,
            r#"{"to":null,"kind":"x"}"#,
        ] {
            check(body, Err(ErrorCode::ParameterInvalid));
        }
    }

    #[test]
    fn a_re_routing_never_begins_elsewhere_by_itself() {
        let asked = |body: &str| RerouteRequest::parse(body.as_bytes()).unwrap();
        let code = |result: Result<(), Problem>| result.map_err(|problem| problem.code);
        let gap = |reason| {
            let at = Cursor { epoch: Epoch::new(NOW, 0), seq: Seq::ZERO };
            Gap { requested: "c-1".into(), resumed_from: at, oldest: at, reason }
        };
        for reason in [GapReason::EpochChanged, GapReason::Future, GapReason::Invalid] {
            let gap = gap(reason);
            for body in [r#"{"to":null}"#, r#"{"to":"org"}"#] {
                let found = code(asked(body).check_start(Some(&gap)));
                assert_eq!(found, Err(ErrorCode::CursorEpochChanged), "{body} {reason:?}");
            }
            let said = asked(r#"{"to":"org","since":"1h"}"#);
            assert_eq!(code(said.check_start(Some(&gap))), Ok(()));
        }
        for reason in [GapReason::Trimmed, GapReason::Lost] {
            let goes_on = asked(r#"{"to":"org"}"#).check_start(Some(&gap(reason)));
            assert_eq!(code(goes_on), Ok(()), "{reason:?}");
        }
        let first = asked(r#"{"to":"org"}"#).query(None, NOW).map(|_| ());
        assert_eq!(code(first), Err(ErrorCode::ParameterInvalid));
        assert!(asked(r#"{"to":null}"#).query(None, NOW).is_ok());
        assert!(asked(r#"{"to":"org","since":"earliest"}"#).query(None, NOW).is_ok());
    }

    #[test]
    fn the_audit_is_asked_for_one_organization() {
        let check = |query: &str, expected: Result<(Option<&str>, usize), ErrorCode>| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let asked = AuditQuery::parse(pairs);
            let asked = asked.map(|query| (query.after, query.limit));
            let expected = expected.map(|(after, limit)| (after.map(str::to_owned), limit));
            assert_eq!(asked.map_err(|problem| problem.code), expected, "{query}");
        };
        check("organization=o", Ok((None, 100)));
        check("organization=o&after=3-4&limit=1000", Ok((Some("3-4"), 1_000)));
        for query in ["", "organization=a/b", "organization=o&limit=0", "organization=o&limit=1001"]
        {
            check(query, Err(ErrorCode::ParameterInvalid));
        }
        check("organization=o&since=1h", Err(ErrorCode::ParameterUnknown));
    }
}
