use relay_schemas::{
    Channel, EdgeId, ErrorCode, OrganizationId, Problem, Scope, UnixMillis, UserId,
    limits::{
        CHANNELS_PER_EDGE_MAX, CREDENTIAL_DAYS, EDGE_NAME_LENGTH_MAX, EDGES_PER_ORGANIZATION_MAX,
    },
};
use serde::{Deserialize, Serialize};

use super::Edge;

const DAY_MS: u64 = 24 * 3_600_000;

/// The body of `POST /admin/edges`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// Whose events.
    pub organization: OrganizationId,
    /// Of which person.
    pub user: UserId,
    /// A name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// What it may do; everything an edge may, unless less is asked for.
    #[serde(default)]
    pub scopes: Option<Vec<Scope>>,
    /// The channels that it may read besides its own person's.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// How long the credential is valid.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// Enrols an edge. `id` comes from a random source; `active` is how many the organization has.
pub fn enrol(
    request: EnrolRequest,
    id: EdgeId,
    active: usize,
    now: UnixMillis,
) -> Result<Edge, Problem> {
    if active >= EDGES_PER_ORGANIZATION_MAX {
        return Err(Problem::new(
            ErrorCode::EdgesTooMany,
            format!("an organization has at most {EDGES_PER_ORGANIZATION_MAX} edges; revoke one"),
        ));
    }
    let invalid = |name: &str, message: String| {
        Problem::new(ErrorCode::ParameterInvalid, message).with("parameter", name)
    };
    request.name.as_deref().map_or(Ok(()), check_name)?;
    let scopes = request.scopes.unwrap_or_else(|| Scope::DEFAULT.to_vec());
    if scopes.is_empty() || scopes.contains(&Scope::Unknown) {
        let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        return Err(invalid("scopes", format!("scopes are one or more of {}", known.join(", "))));
    }
    let may_be_read =
        |channel: &Channel| matches!(channel, Channel::Team(_) | Channel::Organization);
    if request.channels.len() > CHANNELS_PER_EDGE_MAX || !request.channels.iter().all(may_be_read) {
        let message = format!("channels are up to {CHANNELS_PER_EDGE_MAX} of team:ID and org");
        return Err(invalid("channels", message));
    }
    let (days_default, days_max) = CREDENTIAL_DAYS;
    let lifetime_ms = request
        .expires_in_s
        .map_or(u64::from(days_default) * DAY_MS, |seconds| seconds.saturating_mul(1000));
    if lifetime_ms == 0 || lifetime_ms > u64::from(days_max) * DAY_MS {
        return Err(invalid("expires_in_s", format!("at least 1 s and at most {days_max} days")));
    }
    let now = UnixMillis::new(now.get() / 1000 * 1000);
    Ok(Edge {
        id,
        organization: request.organization,
        user: request.user,
        name: request.name,
        scopes,
        channels: request.channels,
        created_at: now,
        expires_at: now + lifetime_ms,
        revoked_at: None,
        ended_by: None,
        are_streams_told: false,
        machine: None,
    })
}

/// Refuses what can't be a name for people.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    if name.is_empty() || name.len() > EDGE_NAME_LENGTH_MAX || name.chars().any(char::is_control) {
        let message = format!("name has 1 to {EDGE_NAME_LENGTH_MAX} printable bytes");
        return Err(Problem::new(ErrorCode::ParameterInvalid, message).with("parameter", "name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_123);

    fn request(change: impl FnOnce(&mut EnrolRequest)) -> EnrolRequest {
        let mut request = EnrolRequest {
            organization: "org".parse().unwrap(),
            user: "user".parse().unwrap(),
            name: None,
            scopes: None,
            channels: Vec::new(),
            expires_in_s: None,
        };
        change(&mut request);
        request
    }

    fn check(request: EnrolRequest, active: usize, expected: Result<u64, ErrorCode>) {
        let edge = enrol(request, "edge_1".parse().unwrap(), active, NOW);
        assert_eq!(edge.map(|edge| edge.claims().exp).map_err(|problem| problem.code), expected);
    }

    #[test]
    fn requests_are_bounded() {
        let now_s = NOW.get() / 1000;
        check(request(|_| ()), 0, Ok(now_s + 90 * 86_400));
        check(request(|r| r.expires_in_s = Some(1)), 0, Ok(now_s + 1));
        check(request(|r| r.expires_in_s = Some(0)), 0, Err(ErrorCode::ParameterInvalid));
        check(request(|r| r.expires_in_s = Some(u64::MAX)), 0, Err(ErrorCode::ParameterInvalid));
        check(request(|r| r.name = Some("a\nb".into())), 0, Err(ErrorCode::ParameterInvalid));
        check(request(|r| r.name = Some("x".repeat(101))), 0, Err(ErrorCode::ParameterInvalid));
        check(request(|r| r.scopes = Some(vec![])), 0, Err(ErrorCode::ParameterInvalid));
        check(
            request(|r| r.scopes = Some(vec![Scope::Unknown])),
            0,
            Err(ErrorCode::ParameterInvalid),
        );
        for channels in [vec!["user:other"], vec!["unrouted"], vec!["org"; 51]] {
            let channels = channels.iter().map(|channel| channel.parse().unwrap()).collect();
            check(request(|r| r.channels = channels), 0, Err(ErrorCode::ParameterInvalid));
        }
        check(request(|_| ()), EDGES_PER_ORGANIZATION_MAX, Err(ErrorCode::EdgesTooMany));
    }

    #[test]
    fn an_edge_is_active_until_it_expires_or_is_revoked() {
        let mut edge = enrol(request(|_| ()), "edge_1".parse().unwrap(), 0, NOW).unwrap();
        assert!(edge.is_active(edge.expires_at - 1));
        assert!(!edge.is_active(edge.expires_at));
        edge.revoked_at = Some(NOW);
        assert!(!edge.is_active(NOW));
    }

    #[test]
    fn a_credential_reads_its_own_stream() {
        let edge = enrol(request(|_| ()), "edge_1".parse().unwrap(), 0, NOW).unwrap();
        let streams = |edge: &Edge| -> Vec<String> {
            edge.streams().iter().map(ToString::to_string).collect()
        };
        assert_eq!(streams(&edge), ["org/user:user"]);
        let channels = vec!["team:t".parse().unwrap(), Channel::Organization];
        let edge = enrol(request(|r| r.channels = channels), edge.id, 0, NOW).unwrap();
        assert_eq!(streams(&edge), ["org/user:user", "org/team:t", "org/org"]);
    }
}
