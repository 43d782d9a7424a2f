//! Requests for what is somebody else's, with ids that are somebody else's.

use std::collections::BTreeMap;

use fastrand::Rng;
use relay_schemas::{ErrorCode, EventId, Scope};
use relay_tests::{EnrolledEdge, FrameReader};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::{
    collect::{Collected, Way},
    world::{Reader, Sent, World},
};

/// Something of somebody else's.
struct Foreign<'a> {
    sent: &'a Sent,
    channel: &'a str,
    /// A position in its stream.
    cursor: String,
    /// One of its segments: `epoch/first-last`.
    segment: Option<String>,
    owner: Option<&'a Reader>,
}

impl<'a> Foreign<'a> {
    async fn of(world: &'a World, sent: &'a Sent) -> Self {
        let (_, channel) = sent.stream.split_once('/').unwrap();
        let tail = world.relay.stream_state(&sent.stream).await["tail"].clone();
        let owns = |reader: &&Reader| {
            reader.has(Scope::ReadEvents) && reader.stream(&reader.channels[0]) == sent.stream
        };
        let owner = world.readers.iter().find(owns);
        let segment = match owner {
            Some(owner) => Some(segment_of(world, &owner.edge).await),
            None => None,
        };
        Self { sent, channel, cursor: tail.as_str().unwrap().into(), segment, owner }
    }
}

async fn segment_of(world: &World, edge: &EnrolledEdge) -> String {
    let plan = world.relay.as_edge(edge, Method::GET, "/events/segments").send().await.unwrap();
    let plan: serde_json::Value = plan.json().await.unwrap();
    let url = plan["segments"][0]["url"].as_str().expect("its history lies in R2");
    url.strip_prefix("/events/segments/").unwrap().to_owned()
}

impl Way<'_> {
    /// Asks, keeps what comes, and asserts the refusal where there is only one.
    async fn try_hostile(&self, said: &str, request: RequestBuilder, code: Option<ErrorCode>) {
        let what = format!("{said} asked by {}", self.reader().name);
        let answer = self.collected.answer(self.who, &what, said, request).await;
        assert!(answer.status < 500, "{what}: {}", answer.text());
        match code {
            // Without the scope it isn't looked at what is asked for.
            Some(_) if answer.status == 403 && answer.text().contains("scope_missing") => {}
            Some(code) => drop(answer.refused(&what, code)),
            None => {}
        }
    }

    async fn get(&self, path: &str, code: Option<ErrorCode>) {
        self.try_hostile(path, self.ask(Method::GET, path), code).await;
    }

    /// What is somebody else's is answered as what doesn't exist.
    async fn check_same(&self, foreign: &str, made_up: &str) {
        let answers = [
            self.collected.answer(self.who, foreign, foreign, self.ask(Method::GET, foreign)).await,
            self.collected.answer(self.who, made_up, made_up, self.ask(Method::GET, made_up)).await,
        ];
        let [foreign, made_up] = answers.map(|answer| (answer.status, answer.text()));
        assert_eq!(foreign, made_up, "{}", self.reader().name);
    }

    async fn ask_for_channels(&self, foreign: &Foreign<'_>) {
        // In another organization the same channel may be its own.
        let is_own = self.reader().channels.iter().any(|own| own == foreign.channel);
        let Foreign { sent: Sent { id, .. }, channel, cursor, .. } = foreign;
        let code = if is_own { None } else { Some(ErrorCode::ChannelForbidden) };
        if !is_own {
            self.open_channel(channel).await;
        }
        self.get(&format!("/events?channel={channel}"), code).await;
        self.get(&format!("/events?channel={channel}&cursor={cursor}&order=desc"), code).await;
        self.get(&format!("/events/segments?channel={channel}"), code).await;
        let unknown = if is_own { Some(ErrorCode::EventUnknown) } else { code };
        self.get(&format!("/events/{id}?channel={channel}"), unknown).await;
        self.report(foreign, &format!("?channel={channel}"), unknown).await;
        if let Some(segment) = &foreign.segment {
            let unknown = if is_own { Some(ErrorCode::SegmentUnknown) } else { code };
            self.get(&format!("/events/segments/{segment}?channel={channel}"), unknown).await;
        }
    }

    /// Its answer would have no end.
    async fn open_channel(&self, channel: &str) {
        let path = format!("/events/stream?cursor=earliest&channel={channel}");
        let answer = self.ask(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path} asked by {}", self.reader().name);
        let text = answer.text().await.unwrap();
        self.collected.keep(self.who, &path, &path, text);
    }

    async fn report(&self, foreign: &Foreign<'_>, query: &str, code: Option<ErrorCode>) {
        let path = format!("/events/status{query}");
        let report = json!({
            "eventId": foreign.sent.id, "status": "failed", "error": "hostile", "message": "hostile",
        });
        let said = format!("{path} {report}");
        self.try_hostile(&said, self.ask(Method::POST, &path).json(&report), code).await;
    }

    async fn speak(&self, foreign: &Foreign<'_>) {
        let activity = json!({ "type": "thought", "body": "hostile" });
        let body = json!({ "eventId": foreign.sent.id, "activity": activity });
        let request = self.ask(Method::POST, "/events/activity").json(&body);
        let said = format!("/events/activity {body}");
        self.try_hostile(&said, request, Some(ErrorCode::EventUnknown)).await;
    }

    /// What only operators may ask, and what only a machine's own person may do to it.
    async fn ask_for_machines(&self, foreign: &Foreign<'_>) {
        self.get("/machines/self", None).await;
        if let Some(owner) =
            foreign.owner.filter(|owner| owner.edge.user != self.reader().edge.user)
        {
            let path = format!("/machines/{}", owner.edge.id);
            let request = self.ask(Method::DELETE, &path);
            self.try_hostile(&path, request, Some(ErrorCode::EdgeUnknown)).await;
        }
        let (organization, _) = foreign.sent.stream.split_once('/').unwrap();
        for path in [
            format!("/admin/audit?organization={organization}"),
            format!("/admin/routing?organization={organization}"),
            format!("/admin/outbox?organization={organization}"),
            format!("/admin/edges?organization={organization}"),
            format!("/oauth/status?organization={organization}"),
            format!("/admin/streams/{}/events", foreign.sent.stream),
        ] {
            self.get(&path, Some(ErrorCode::CredentialInvalid)).await;
        }
    }

    async fn ask_for_ids(&self, foreign: &Foreign<'_>, rng: &mut Rng) {
        let Foreign { sent: Sent { id, stream, .. }, cursor, .. } = foreign;
        let made_up = EventId::from_bytes(rng.u128(..).to_be_bytes());
        self.report(foreign, "", Some(ErrorCode::EventUnknown)).await;
        self.speak(foreign).await;
        self.ask_for_machines(foreign).await;
        for channel in &self.reader().channels {
            let of_channel = format!("channel={channel}");
            let path = |id: &str| format!("/events/{id}?{of_channel}");
            self.check_same(&path(id), &path(&made_up.to_string())).await;
            self.get(&format!("/events?since={id}&{of_channel}"), None).await;
            self.get(&format!("/events?cursor={cursor}&{of_channel}"), None).await;
            self.get(&format!("/events?cursor={cursor}&order=desc&{of_channel}"), None).await;
            self.get(&format!("/events?cursor={cursor}&on_gap=error&{of_channel}"), None).await;
            self.get(&format!("/events/segments?from={cursor}&{of_channel}"), None).await;
            self.get(&format!("/events/segments?since={id}&{of_channel}"), None).await;
            if let Some(segment) = &foreign.segment {
                let path = |name: &str| format!("/events/segments/{name}?{of_channel}");
                let (_, name) = segment.split_once('/').unwrap();
                self.check_same(&path(segment), &path(&format!("000000000000/{name}"))).await;
            }
        }
        self.get(&format!("/events/{stream}"), None).await;
        self.get(&format!("/events/..%2F..%2Fstate%2F{stream}"), None).await;
        self.get(&format!("/state/{stream}"), Some(ErrorCode::CredentialInvalid)).await;
        self.get(&format!("/state/..%2f{stream}"), None).await;
    }

    async fn ask_as_somebody_else(&self, foreign: &Foreign<'_>) {
        let (organization, channel) = foreign.sent.stream.split_once('/').unwrap();
        let user = channel.strip_prefix("user:").unwrap_or("u-nobody");
        for (name, value) in
            [("organization", organization), ("user", user), ("stream", &foreign.sent.stream)]
        {
            let code = Some(ErrorCode::ParameterUnknown);
            self.get(&format!("/events?{name}={value}"), code).await;
        }
        let mut said = vec![("Organization", organization), ("X-Organization-Id", organization)];
        if user != self.reader().edge.user {
            said.push(("X-Edge-User-Id", user));
        }
        if let Some(owner) = foreign.owner {
            said.push(("X-Edge-Name", &owner.name));
            said.push(("X-Edge-Id", &owner.edge.id));
        }
        for (header, value) in said {
            let is_compared = ["X-Edge-User-Id", "X-Edge-Name"].contains(&header);
            let code = is_compared.then_some(ErrorCode::IdentityMismatch);
            let request = self.ask(Method::GET, "/events").header(header, value);
            self.try_hostile(&format!("{header}: {value}"), request, code).await;
        }
        let claims = json!({
            "organization": organization, "user": user, "channels": [channel],
        });
        let request = self.ask(Method::POST, "/admin/edges").json(&claims);
        let code = Some(ErrorCode::CredentialInvalid);
        self.try_hostile(&claims.to_string(), request, code).await;
    }

    /// A stream that goes on after somebody else's cursor: what comes is the reader's own.
    async fn follow_foreign_cursor(&self, foreign: &Foreign<'_>) {
        let (relay, edge) = (&self.world.relay, &self.reader().edge);
        for dialect in relay_schemas::Dialect::ALL {
            let query = format!("cursor={}", foreign.cursor);
            let mut reader = FrameReader::dial(relay, edge, dialect, &query).await;
            let headers = format!("{:?}", reader.headers);
            self.collected.keep(self.who, &query, &query, headers);
            for _ in 0..6 {
                let Ok(frame) = reader.next().await else { break };
                self.collected.keep(self.who, &query, &query, format!("{frame:?}"));
            }
        }
    }
}

/// An event of each colleague, and one of anybody.
fn victims<'a>(world: &'a World, reader: &Reader, rng: &mut Rng) -> Vec<&'a Sent> {
    let foreign = world.foreign(reader);
    let mut victims = vec![foreign[rng.usize(..foreign.len())]];
    let colleagues = format!("{}/user:", reader.edge.organization);
    let theirs = foreign.into_iter().filter(|sent| sent.stream.starts_with(&colleagues));
    let by_stream: BTreeMap<&str, &Sent> = theirs.map(|sent| (&*sent.stream, sent)).collect();
    victims.extend(by_stream.into_values());
    victims
}

/// Asks for things of others', in every way there is.
pub(crate) async fn attack(world: &World, collected: &Collected, who: usize, mut rng: Rng) {
    let reader = &world.readers[who];
    let way = Way { world, collected, who, channel: &reader.channels[0] };
    for (time, sent) in victims(world, reader, &mut rng).into_iter().enumerate() {
        let foreign = Foreign::of(world, sent).await;
        way.ask_for_channels(&foreign).await;
        way.ask_for_ids(&foreign, &mut rng).await;
        way.ask_as_somebody_else(&foreign).await;
        if time == 0 && reader.may_read() {
            way.follow_foreign_cursor(&foreign).await;
        }
    }
}
