use std::collections::{BTreeMap, BTreeSet};

use relay_schemas::{Channel, ErrorCode, Problem, RoutingStrategy, UnixMillis, UserId};
use serde::{Deserialize, Serialize};

use crate::directory::Edge;

/// How an operator wants one organization's events to go; also the body of `PUT /admin/routing`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingRules {
    /// Instead of `ROUTING_STRATEGY`.
    #[serde(default)]
    pub strategy: Option<RoutingStrategy>,
    /// Where events go that find nobody, instead of `unrouted`.
    #[serde(default)]
    pub default_channel: Option<Channel>,
}

impl RoutingRules {
    /// Reads what an operator has written.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let object: serde_json::Result<serde_json::Map<_, _>> = serde_json::from_slice(body);
        let rules = object.and_then(|object| serde_json::from_value(object.into()));
        let rules: Self = rules.map_err(|error| {
            Problem::new(ErrorCode::ParameterInvalid, format!("not routing rules: {error}"))
        })?;
        if rules.default_channel == Some(Channel::Unrouted) {
            let message = "default_channel is user:ID, team:ID, org or null";
            return Err(Problem::new(ErrorCode::ParameterInvalid, message)
                .with("parameter", "default_channel"));
        }
        Ok(rules)
    }
}

/// What an organization's directory knows that decides where events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrganizationView {
    /// To whom events go.
    pub strategy: RoutingStrategy,
    /// Where events go that find nobody.
    pub default_channel: Option<Channel>,
    /// The persons who have a machine that may connect.
    pub enrolled: BTreeSet<UserId>,
    /// The channels that such machines read besides their person's.
    pub channels: BTreeSet<Channel>,
    /// The users that apps have in this organization, with their app (`oauthClientId`).
    pub app_users: BTreeMap<UserId, String>,
}

impl OrganizationView {
    /// What the organization's edges say at `now`.
    pub fn of(
        edges: &[Edge],
        rules: &RoutingRules,
        strategy: RoutingStrategy,
        app_users: BTreeMap<UserId, String>,
        now: UnixMillis,
    ) -> Self {
        let active = || edges.iter().filter(|edge| edge.is_active(now));
        Self {
            strategy: rules.strategy.unwrap_or(strategy),
            default_channel: rules.default_channel.clone(),
            enrolled: active().map(|edge| edge.user.clone()).collect(),
            channels: active().flat_map(|edge| edge.channels.iter().cloned()).collect(),
            app_users,
        }
    }

    /// Whether somebody may read a channel, now or as the strategy and the operator have it.
    pub(super) fn is_read(&self, channel: &Channel) -> bool {
        let is_read = match channel {
            Channel::User(user) => self.enrolled.contains(user),
            Channel::Team(_) => self.channels.contains(channel),
            Channel::Organization => {
                self.channels.contains(channel) || self.strategy != RoutingStrategy::User
            }
            Channel::Unrouted => return false,
        };
        is_read || self.default_channel.as_ref() == Some(channel)
    }
}
