use serde::{Deserialize, Serialize};

use crate::{linear::Envelope, time::UnixMillis};

/// `/revoked`: Linear says that an app is no longer installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The app: its client id, or what webhooks call `oauthClientId`.
    pub app: String,
    /// When that was. What was installed since is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}

impl Revoked {
    /// What a webhook tells of an app's end; `None`: it tells something else. It says itself when
    /// that was; the time of its sending may be that of another attempt.
    pub fn of(envelope: &Envelope<'_>) -> Option<Self> {
        if envelope.kind.to_string() != "OAuthApp.revoked" {
            return None;
        }
        let created_at = envelope.text_at(&["createdAt"]);
        let created_at = created_at.and_then(|text| UnixMillis::parse_rfc3339(&text));
        Some(Self {
            app: envelope.text_at(&["oauthClientId"]).unwrap_or_default(),
            at: Some(created_at.unwrap_or(envelope.timestamp)),
        })
    }
}

/// The answer to `/revoked`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedReply {
    /// No app is left: the organization's connections are to end.
    pub is_uninstalled: bool,
    /// Up to which of the organization's streams, in the order of their names, that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_up_to: Option<String>,
}

impl RevokedReply {
    /// Those of an organization's streams that are to be told, in order, each once.
    pub fn untold(&self, mut streams: Vec<String>) -> Vec<String> {
        streams.sort_unstable();
        streams.dedup();
        streams.retain(|stream| {
            self.is_uninstalled && self.told_up_to.as_ref().is_none_or(|told| stream > told)
        });
        streams
    }
}

/// `/told-of-end`: so far the streams of an organization know that no app is left. A crash before
/// it means that they are told again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldOfEnd {
    /// The last one.
    pub up_to: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_s_end_has_the_time_of_its_own_and_else_that_of_its_sending() {
        let read = |fields: &str| {
            let body = format!(
                r#"{{"type":"OAuthApp",{fields}"organizationId":"o","webhookTimestamp":1790000000000,"oauthClientId":"app"}}"#
            );
            Revoked::of(&Envelope::parse(body.as_bytes()).unwrap())
        };
        let revoked = |at| Some(Revoked { app: "app".into(), at: Some(UnixMillis::new(at)) });
        let own = r#""action":"revoked","createdAt":"2026-09-21T14:13:20.000Z","#;
        assert_eq!(read(own), revoked(1_790_000_000_000));
        let own = own.replace("13:20", "13:19");
        assert_eq!(read(&own), revoked(1_789_999_999_000));
        for unclear in ["", r#""createdAt":"yesterday","#] {
            assert_eq!(
                read(&format!(r#""action":"revoked",{unclear}"#)),
                revoked(1_790_000_000_000)
            );
        }
        assert_eq!(read(r#""action":"created","#), None);
    }

    #[test]
    fn telling_goes_on_where_it_was_cut_off() {
        let streams = || ["b", "a", "c", "a"].map(str::to_owned).to_vec();
        let mut reply = RevokedReply { is_uninstalled: true, told_up_to: None };
        assert_eq!(reply.untold(streams()), ["a", "b", "c"]);
        reply.told_up_to = Some("b".into());
        assert_eq!(reply.untold(streams()), ["c"]);
        reply.is_uninstalled = false;
        assert!(reply.untold(streams()).is_empty());
    }
}
