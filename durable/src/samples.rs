//! Webhook bodies as Linear sends them, for tests, the demo and the benchmarks.
//!
//! The same arguments give the same bytes; ids look like UUIDs and are derived from the arguments.
//! All is made up. Out of scope: signing, which needs a secret.

mod agents;
mod cast;
mod list;
mod plan;
mod work;

use relay_schemas::Channel;
use serde_json::json;

use self::{
    cast::{Cast, Thing, with},
    list::Samples,
};

/// A webhook body, and where it must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// `Type.action`, with the variant behind it where there are several.
    pub name: &'static str,
    /// The body.
    pub body: String,
    /// The value of `Linear-Event`.
    pub linear_event: &'static str,
    /// The channel of its stream.
    pub expected_channel: Channel,
}

/// One body for every type and action that is routed to a person; each goes to `user`.
pub fn samples(organization: &str, user: &str, now_ms: u64) -> Vec<Sample> {
    let cast = Cast { organization, user, now_ms };
    let channel = Channel::User(user.parse().expect("a sample's user is an identifier"));
    let mut samples = Samples { cast, channel, list: Vec::new() };
    samples.add_sessions();
    samples.add_notifications();
    samples.add_work();
    samples.add_plans();
    samples.add_variants();
    samples.list
}

/// Bodies that are routed to nobody.
pub fn unrouted_samples(organization: &str, user: &str, now_ms: u64) -> Vec<Sample> {
    let cast = Cast { organization, user, now_ms };
    let mut samples = Samples { cast, channel: Channel::Unrouted, list: Vec::new() };
    let cast = &samples.cast;
    let nobody = json!({
        "creatorId": null, "creator": null, "commentId": null, "comment": null,
        "sourceCommentId": null, "sourceMetadata": null,
    });
    let session = with(agents::session(cast, &cast.numbered_id(10)), nobody);
    let weather = json!({"data": {"id": cast.numbered_id(11), "sky": "☁️"}});
    let (created, changed) = (agents::created(cast, session), agents::team_access_changed(cast));
    let (revoked, unknown) =
        (agents::app_revoked(cast), agents::envelope(cast, ("Weather", "create"), weather));
    samples.add("PermissionChange.teamAccessChanged", &changed);
    samples.add("OAuthApp.revoked", &revoked);
    samples.add("Weather.create", &unknown);
    samples.add("AgentSessionEvent.created.automation", &created);
    samples.list
}

/// The announcement of a session that `user` is responsible for.
pub fn agent_session_created(
    organization: &str,
    user: &str,
    session_id: &str,
    now_ms: u64,
) -> String {
    let cast = Cast { organization, user, now_ms };
    agents::created(&cast, agents::session(&cast, session_id)).to_string()
}

/// A colleague's prompt in a session that `user` is responsible for. Each prompt has an activity
/// of its own.
pub fn agent_session_prompted(
    organization: &str,
    user: &str,
    session_id: &str,
    activity_id: &str,
    now_ms: u64,
) -> String {
    let cast = Cast { organization, user, now_ms };
    let activity = agents::activity(&cast, activity_id, session_id);
    agents::prompted(&cast, agents::session(&cast, session_id), activity).to_string()
}

/// An update of issue number `index`, assigned to `user`: exactly `bytes` long, or as short as
/// such a body can be, about 600 bytes.
pub fn sized_body(organization: &str, user: &str, index: u64, now_ms: u64, bytes: usize) -> String {
    const PROSE: &str = "The reader resumes where it stopped; nothing is lost on the way. ";
    let cast = Cast { organization, user, now_ms };
    let (id, team) = (cast.numbered_id(index.wrapping_add(10_000)), cast.id(Thing::Team));
    let (webhook, actor, at) = (cast.id(Thing::Webhook), cast.colleague_id(), cast.ago(120));
    let head = format!(
        r#"{{"type":"Issue","action":"update","createdAt":"{at}","actor":{{"id":"{actor}","#,
    );
    let data = format!(
        r#""type":"user"}},"data":{{"id":"{id}","number":{index},"identifier":"REL-{index}","#,
    );
    let text =
        format!(r#""assigneeId":"{user}","teamId":"{team}","updatedAt":"{at}","description":""#,);
    let tail =
        format!(r#""}},"updatedFrom":{{"sortOrder":1}},"organizationId":"{organization}","#,);
    let stamp = format!(r#""webhookTimestamp":{now_ms},"webhookId":"{webhook}"}}"#);
    let least = [&head, &data, &text, &tail, &stamp].map(String::len).iter().sum();
    let prose: String = PROSE.chars().cycle().take(bytes.saturating_sub(least)).collect();
    [head, data, text, prose, tail, stamp].concat()
}

#[cfg(test)]
mod tests {
    //! Goal: the samples are webhooks that the relay takes, each different, each routed as it says.

    use std::collections::BTreeSet;

    use relay_schemas::{Envelope, EventId, UnixMillis};

    use super::*;
    use crate::routing::{OrganizationView, RouteFacts, Snapshot, decide};

    const ORGANIZATION: &str = "5f0c1a9e-7d3b-4c62-9a41-2e8b6d07f315";
    const USER: &str = "b7e4d210-93fa-4f58-8c6d-10a95e3c7b42";
    const NOW_MS: u64 = 1_790_000_000_123;

    fn all() -> Vec<Sample> {
        let mut all = samples(ORGANIZATION, USER, NOW_MS);
        all.extend(unrouted_samples(ORGANIZATION, USER, NOW_MS));
        all
    }

    fn id_of(body: &str) -> EventId {
        Envelope::parse(body.as_bytes()).unwrap().event_id()
    }

    /// Where an event goes when nobody has a machine.
    fn channel_of(envelope: &Envelope<'_>) -> String {
        let organization = &OrganizationView::default();
        let snapshot = Snapshot { organization, session_owners: &[], issue_owners: &[] };
        let decision = decide(&RouteFacts::of(envelope), &snapshot);
        let [target] = &decision.targets[..] else { panic!("{decision:?}") };
        target.channel.to_string()
    }

    fn check(sample: &Sample) {
        let envelope = Envelope::parse(sample.body.as_bytes()).expect(sample.name);
        assert_eq!(channel_of(&envelope), sample.expected_channel.to_string(), "{}", sample.name);
        assert_eq!(envelope.organization.as_str(), ORGANIZATION);
        assert_eq!(envelope.check_age(UnixMillis::new(NOW_MS), 0), Ok(()));
        assert_eq!(envelope.kind.name, sample.linear_event);
        assert!(sample.name.starts_with(&envelope.kind.to_string()), "{}", sample.name);
    }

    #[test]
    fn each_sample_is_taken_and_routed_as_it_says() {
        all().iter().for_each(check);
    }

    #[test]
    fn all_samples_are_different_events() {
        let all = all();
        let ids: BTreeSet<EventId> = all.iter().map(|sample| id_of(&sample.body)).collect();
        let names: BTreeSet<&str> = all.iter().map(|sample| sample.name).collect();
        assert_eq!((ids.len(), names.len()), (all.len(), all.len()));
        for sample in samples("other-organization", USER, NOW_MS) {
            assert!(!ids.contains(&id_of(&sample.body)), "{}", sample.name);
        }
    }

    #[test]
    fn ids_do_not_depend_on_when_a_sample_was_sent() {
        for sample in all() {
            let later = sample.body.replace(&NOW_MS.to_string(), "1790000060123");
            assert_ne!(later, sample.body);
            assert_eq!(id_of(&later), id_of(&sample.body), "{}", sample.name);
        }
    }

    #[test]
    fn some_bodies_are_hard_to_carry() {
        let all = all();
        let holds = |text: &str| all.iter().any(|sample| sample.body.contains(text));
        for text in ["\n", "\r\n", "\u{2028}", r"\u0000", r"\ud83d ", "太郎", "🚧"] {
            assert!(holds(text), "{text:?}");
        }
        assert!(samples(ORGANIZATION, USER, NOW_MS) == samples(ORGANIZATION, USER, NOW_MS));
    }

    #[test]
    fn ids_look_like_uuids() {
        let ids: BTreeSet<String> =
            (0..10_000).map(|number| cast::uuid(&[ORGANIZATION, USER], number)).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            let form: String = id
                .chars()
                .map(|c| if c.is_ascii_digit() || ('a'..='f').contains(&c) { 'x' } else { c })
                .collect();
            assert_eq!(form, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        }
    }

    #[test]
    fn a_sized_body_has_its_size() {
        let mut ids = BTreeSet::new();
        for (index, bytes) in (0..).zip([0, 1_000, 1_024, 4_096, 113_000, 5 * 1024 * 1024]) {
            let body = sized_body(ORGANIZATION, USER, index, NOW_MS, bytes);
            assert!(body.len() == bytes || (bytes == 0 && body.len() < 700), "{}", body.len());
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            assert_eq!(channel_of(&envelope), format!("user:{USER}"));
            ids.extend([envelope.text_at(&["data", "id"]).unwrap(), id_of(&body).to_string()]);
        }
        assert_eq!(ids.len(), 12);
    }

    #[test]
    fn sessions_are_told_apart_by_the_ids_given() {
        let created = |id: &str| id_of(&agent_session_created(ORGANIZATION, USER, id, NOW_MS));
        let prompted =
            |id: &str| id_of(&agent_session_prompted(ORGANIZATION, USER, "s", id, NOW_MS));
        assert_ne!(created("s"), created("t"));
        assert_ne!(prompted("a"), prompted("b"));
        let body = agent_session_prompted(ORGANIZATION, USER, "s", "a", NOW_MS);
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        assert_eq!(channel_of(&envelope), format!("user:{USER}"));
    }
}
