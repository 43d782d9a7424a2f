//! Who there is, what is sent to whom, and who may know what.

use std::collections::{HashMap, HashSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use fastrand::Rng;
use relay_durable::{
    SegmentEncoder,
    samples::{Sample, samples, unrouted_samples},
};
use relay_schemas::{
    Claims, Envelope, Epoch, Record, RecordParts, Scope, Seq, StreamKey, Subject, UnixMillis,
};
use relay_tests::{EnrolledEdge, Relay, RelayOptions, now_ms};
use reqwest::Method;
use serde_json::json;

/// Whether a narrow scope keeps events back. Until the streams look at it, any reading scope opens
/// all kinds, and then this becomes `true`.
pub(crate) const SCOPES_NARROW: bool = true;

/// Organizations that a careless comparison takes for one another.
const ORGANIZATIONS: [&str; 3] = ["org-iso", "org-iso-1", "Org-iso"];
/// People with the same ids in several organizations, and as much alike.
const USERS: [&str; 4] = ["u-ann", "u-ann-1", "U-ann", "u-bob"];
const USERS_EACH: usize = 3;
/// The same in all organizations.
const SHARED_CHANNELS: [&str; 3] = ["team:t-core", "team:t-side", "org"];
const SHARED_EVENTS: usize = 8;
const SEAL_BYTES: u64 = 8_000;
/// Everybody is called so in the samples.
const SAMPLE_NAME: &str = "Zoë Łukasiewicz";

/// An event, and where it belongs.
pub(crate) struct Sent {
    pub(crate) stream: String,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) body: String,
}

/// A machine and what it may do.
pub(crate) struct Reader {
    pub(crate) edge: EnrolledEdge,
    pub(crate) name: String,
    /// Its person's first.
    pub(crate) channels: Vec<String>,
    claims: Claims,
}

impl Reader {
    pub(crate) fn stream(&self, channel: &str) -> String {
        format!("{}/{channel}", self.edge.organization)
    }

    fn may_open(&self, stream: &str) -> bool {
        self.channels.iter().any(|channel| self.stream(channel) == stream)
    }

    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.claims.scopes.contains(&scope)
    }

    /// Whether its scopes open anything.
    pub(crate) fn may_read(&self) -> bool {
        self.claims.allowed_kinds().is_some()
    }

    fn reads(&self, sent: &Sent) -> bool {
        let passes =
            |kind: &str| self.claims.allowed_kinds().is_some_and(|kinds| kinds.passes(kind));
        let is_kind = if SCOPES_NARROW { passes(&sent.kind) } else { self.may_read() };
        is_kind && self.may_open(&sent.stream)
    }
}

pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) organizations: Vec<String>,
    pub(crate) readers: Vec<Reader>,
    /// What is still to be sent as webhooks.
    pub(crate) webhooks: Vec<Sent>,
    /// What already lies in channels of teams and organizations.
    planted: Vec<Sent>,
    /// Every secret word, and the numbers of those who may know it: readers, then an operator who
    /// asks for one organization.
    secrets: HashMap<String, HashSet<usize>>,
}

impl World {
    pub(crate) async fn new(rng: &mut Rng) -> Self {
        let mut world = Self {
            relay: Relay::start_with(RelayOptions::sealed_at(SEAL_BYTES)).await,
            organizations: ORGANIZATIONS.map(str::to_owned).to_vec(),
            readers: Vec::new(),
            webhooks: Vec::new(),
            planted: Vec::new(),
            secrets: HashMap::new(),
        };
        let mut people = Vec::new();
        for organization in ORGANIZATIONS {
            for user in rng.choose_multiple(USERS, USERS_EACH) {
                people.push((organization, user));
                world.enrol(organization, user, rng).await;
            }
        }
        world.write_events(&people, rng);
        for organization in ORGANIZATIONS {
            for channel in SHARED_CHANNELS {
                world.plant(organization, channel, &people, rng).await;
            }
        }
        world.know_people(&people);
        world
    }

    /// Two machines of a person: one with everything that is the person's own, one with further
    /// channels or fewer scopes.
    async fn enrol(&mut self, organization: &str, user: &str, rng: &mut Rng) {
        let narrow: [&[Scope]; 5] = [
            &Scope::DEFAULT,
            &[Scope::ReadIssues, Scope::WriteStatus],
            &[Scope::ReadSessions],
            &[Scope::ReadNotifications, Scope::ReadProjects],
            &[Scope::WriteStatus],
        ];
        let count = rng.usize(1..3);
        let shared = rng.choose_multiple(SHARED_CHANNELS, count);
        let scopes = narrow[rng.usize(..narrow.len())];
        self.enrol_one(organization, user, &Scope::DEFAULT, &[]).await;
        self.enrol_one(organization, user, scopes, &shared).await;
    }

    async fn enrol_one(
        &mut self,
        organization: &str,
        user: &str,
        scopes: &[Scope],
        shared: &[&str],
    ) {
        let name = format!("machine-{}", self.readers.len());
        let request = json!({
            "organization": organization, "user": user, "name": name, "scopes": scopes,
            "channels": shared,
        });
        let edge = self.relay.enrol_with(request).await;
        let own = format!("user:{user}");
        let channels = std::iter::once(own).chain(shared.iter().map(|one| (*one).to_owned()));
        let claims = Claims {
            sub: edge.id.parse().unwrap(),
            org: organization.parse().unwrap(),
            user: user.parse().unwrap(),
            name: Some(name.clone()),
            scopes: scopes.to_vec(),
            channels: shared.iter().map(|one| one.parse().unwrap()).collect(),
            generation: None,
            iat: 0,
            exp: 0,
        };
        self.readers.push(Reader { edge, name, channels: channels.collect(), claims });
    }

    /// All samples of everybody, and some that go to nobody.
    fn write_events(&mut self, people: &[(&str, &str)], rng: &mut Rng) {
        for (organization, user) in people {
            let person = format!("{organization}/user:{user}");
            let name = self.mark(rng);
            for sample in samples(organization, user, now_ms()) {
                let sample = Sample { body: sample.body.replace(SAMPLE_NAME, &name), ..sample };
                self.write(&person, &sample, rng);
            }
            let known = self.knowers(|reader| reader.may_read() && reader.may_open(&person));
            self.keep(&name, known);
            // What concerns the installation goes to the organization's own channel as well, which is
            // planted here.
            let is_planted = |one: &Sample| {
                ["PermissionChange", "OAuthApp"].iter().any(|name| one.name.starts_with(name))
            };
            let samples = unrouted_samples(organization, user, now_ms()).into_iter();
            for sample in samples.filter(|one| !is_planted(one)) {
                self.write(&format!("{organization}/unrouted"), &sample, rng);
            }
        }
        rng.shuffle(&mut self.webhooks);
    }

    fn write(&mut self, stream: &str, sample: &Sample, rng: &mut Rng) {
        let sent = self.marked(stream, sample, rng);
        self.webhooks.push(sent);
    }

    fn mark(&self, rng: &mut Rng) -> String {
        format!("MARK{:016x}", rng.u64(..))
    }

    /// The sample with a word of its own, which only its readers may know.
    fn marked(&mut self, stream: &str, sample: &Sample, rng: &mut Rng) -> Sent {
        let mark = self.mark(rng);
        let body = sample.body.replacen('{', &format!(r#"{{"mark":"{mark}","#), 1);
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        let (id, kind) = (envelope.event_id().to_string(), envelope.kind.to_string());
        let sent = Sent { stream: stream.to_owned(), kind, id: id.clone(), body };
        let known = self.knowers(|reader| reader.reads(&sent));
        self.keep(&mark, known.clone());
        self.keep(&id, known);
        sent
    }

    /// Puts events into a channel that no rule leads to yet: as a segment, which a rebuild takes in.
    async fn plant(
        &mut self,
        organization: &str,
        channel: &str,
        people: &[(&str, &str)],
        rng: &mut Rng,
    ) {
        let stream: StreamKey = format!("{organization}/{channel}").parse().unwrap();
        let (_, author) = people.iter().find(|(found, _)| *found == organization).unwrap();
        let name = self.mark(rng);
        let known =
            self.knowers(|reader| reader.may_read() && reader.may_open(&stream.to_string()));
        self.keep(&name, known);
        // Those whose id follows from the body: they are other events than the person's own.
        let by_body = |sample: &Sample| {
            !["AgentSessionEvent.", "AppUserNotification."]
                .iter()
                .any(|kind| sample.name.starts_with(kind))
        };
        let scene: Vec<Sample> =
            samples(organization, author, now_ms()).into_iter().filter(by_body).collect();
        let mut encoder = SegmentEncoder::new(Seq::ZERO.next());
        for sample in rng.choose_multiple(scene, SHARED_EVENTS) {
            let sample = Sample { body: sample.body.replace(SAMPLE_NAME, &name), ..sample };
            let sent = self.marked(&stream.to_string(), &sample, rng);
            encoder.push(record_of(&stream, &sent).as_str());
            self.planted.push(sent);
        }
        let segment = encoder.finish().unwrap();
        let epoch = Epoch::new(UnixMillis::new(now_ms() - 60_000), rng.u32(..));
        let metadata = json!({
            "first_received_at": segment.entry.received_at_min.to_string(),
            "last_received_at": segment.entry.received_at_max.to_string(),
            "uncompressed_bytes": segment.entry.raw_bytes.to_string(),
            "sha256": segment.entry.sha256.to_string(),
        });
        let key = segment.entry.key(&stream, epoch);
        let body = STANDARD.encode(&segment.bytes);
        let put = json!({ "op": "r2_put", "key": key, "body": body, "metadata": metadata });
        self.relay.ask(put).await;
        let path = format!("/admin/streams/{stream}/rebuild");
        let answer = self.relay.as_operator(Method::POST, &path).send().await.unwrap();
        let report: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(report["events"], SHARED_EVENTS, "{report}");
    }

    /// Ids and names of organizations, people and machines.
    fn know_people(&mut self, people: &[(&str, &str)]) {
        for organization in ORGANIZATIONS {
            let mut known = self.knowers(|reader| reader.edge.organization == organization);
            known.insert(self.operator_of(organization));
            self.keep(organization, known);
        }
        for user in USERS {
            // Who reads what somebody has written for all learns the id of the author.
            let of_user = |sent: &&Sent| sent.body.contains(&format!("\"{user}\""));
            let written: Vec<&Sent> = self.planted.iter().filter(of_user).collect();
            let mut known = self.knowers(|reader| {
                reader.edge.user == user || written.iter().any(|sent| reader.reads(sent))
            });
            let theirs = people.iter().filter(|(_, found)| *found == user);
            known.extend(theirs.map(|(organization, _)| self.operator_of(organization)));
            self.keep(user, known);
        }
        for place in 0..self.readers.len() {
            let one = &self.readers[place];
            let (id, name) = (one.edge.id.clone(), one.name.clone());
            let streams: Vec<String> =
                one.channels.iter().map(|channel| one.stream(channel)).collect();
            let mut known =
                self.knowers(|reader| streams.iter().any(|stream| reader.may_open(stream)));
            known.insert(self.operator_of(&one.edge.organization));
            self.keep(&id, known.clone());
            self.keep(&name, known);
        }
    }

    /// Incarnations of streams; they are there once the streams are.
    pub(crate) async fn know_epochs(&mut self) {
        let streams: HashSet<String> = self.all().map(|sent| sent.stream.clone()).collect();
        for stream in streams {
            let tail = self.relay.stream_state(&stream).await["tail"].clone();
            let epoch = tail.as_str().unwrap()[..12].to_owned();
            let mut known = self.knowers(|reader| reader.may_open(&stream));
            known.insert(self.operator_of(stream.split('/').next().unwrap()));
            self.keep(&epoch, known);
        }
    }

    fn knowers(&self, may_know: impl Fn(&Reader) -> bool) -> HashSet<usize> {
        (0..self.readers.len()).filter(|place| may_know(&self.readers[*place])).collect()
    }

    fn keep(&mut self, word: &str, known: HashSet<usize>) {
        let was = self.secrets.insert(word.to_owned(), known);
        assert!(was.is_none(), "{word} stands for two things");
    }

    /// The number of an operator who asks for an organization.
    pub(crate) fn operator_of(&self, organization: &str) -> usize {
        let place = self.organizations.iter().position(|found| found == organization);
        self.readers.len() + place.unwrap()
    }

    /// Everything that is sent.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Sent> {
        self.webhooks.iter().chain(&self.planted)
    }

    /// What a reader must get of a channel.
    pub(crate) fn expected(&self, reader: &Reader, channel: &str) -> Vec<&Sent> {
        let stream = reader.stream(channel);
        self.all().filter(|sent| sent.stream == stream && reader.reads(sent)).collect()
    }

    /// What a reader must never get.
    pub(crate) fn foreign(&self, reader: &Reader) -> Vec<&Sent> {
        self.all().filter(|sent| !reader.may_open(&sent.stream)).collect()
    }

    /// The words in a text that this number may not know, unless it has said them itself.
    pub(crate) fn leaks<'a>(&self, who: usize, text: &'a str, said: &str) -> Vec<&'a str> {
        // The epoch of a cursor.
        let secret = |word: &'a str| {
            let epoch = word.get(..12).filter(|_| word.len() == 23);
            self.secrets.get(word).or_else(|| self.secrets.get(epoch?))
        };
        words(text)
            .filter(|word| secret(word).is_some_and(|known| !known.contains(&who)))
            .filter(|word| !said.contains(word))
            .collect()
    }
}

/// What identifiers and cursors can be. By bytes: there are a hundred million of them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    const LENGTHS: std::ops::RangeInclusive<usize> = 5..=64;
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let words = text.as_bytes().split(move |byte| !is_part(byte));
    let words = words.filter(|word| LENGTHS.contains(&word.len()));
    words.map(|word| str::from_utf8(word).expect("letters of ASCII"))
}

fn record_of(stream: &StreamKey, sent: &Sent) -> Record {
    Record::new(&RecordParts {
        id: sent.id.parse().unwrap(),
        received_at: UnixMillis::new(now_ms()),
        kind: &sent.kind,
        organization: &stream.organization,
        channel: &stream.channel,
        delivery: None,
        headers: &[],
        subject: Subject::default(),
        own: false,
        body: &sent.body,
    })
}
