use fastrand::Rng;
use relay_durable::{EventFacts, RouteFacts, samples::samples};
use relay_schemas::{
    Envelope, NewEvent, OrganizationId, QueueMessage, Record, RecordParts, Sha256Digest, StreamKey,
    Subject, UnixMillis,
};
use relay_tests::SignedWebhook;
use serde_json::Value;

/// Shorter and longer samples are left out.
const BODY_BYTES: std::ops::Range<usize> = 1_000..2_600;

/// One event in so many begins with another issue.
const EVENTS_OF_ISSUE: u64 = 8;
const ISSUES_AT_A_TIME: u64 = 4;

/// Where samples name what belongs to one event or one issue.
const OWN_IDS: [&str; 5] =
    ["/data/id", "/agentSession/id", "/agentActivity/id", "/notification/id", "/data/issue/id"];

/// Texts that people and agents write.
const TEXTS: [&str; 6] = [
    "/data/title",
    "/data/description",
    "/data/body",
    "/data/content/body",
    "/agentActivity/content/body",
    "/agentSession/comment/body",
];

const WORDS: [&str; 48] = [
    "the",
    "to",
    "of",
    "and",
    "a",
    "in",
    "is",
    "it",
    "that",
    "when",
    "for",
    "we",
    "on",
    "with",
    "not",
    "this",
    "issue",
    "stream",
    "client",
    "retry",
    "error",
    "reader",
    "connection",
    "again",
    "server",
    "release",
    "queue",
    "branch",
    "deploy",
    "cursor",
    "version",
    "customer",
    "storage",
    "token",
    "worker",
    "review",
    "merge",
    "timeout",
    "header",
    "staging",
    "production",
    "answer",
    "reproduce",
    "regression",
    "latency",
    "session",
    "summary",
    "upstream",
];

/// One person's webhooks, without end: ids, texts, moments, deliveries and signatures differ from
/// one to the next as they do in life, or they would compress to nothing.
pub(crate) struct Traffic {
    templates: Vec<Template>,
    stream: StreamKey,
    random: Rng,
    number: u64,
}

/// A sample, and what of it is replaced.
struct Template {
    body: String,
    ids: Vec<String>,
    texts: Vec<String>,
    created_at: String,
}

impl Traffic {
    /// The webhooks of a person. The same arguments give the same webhooks.
    pub(crate) fn of(organization: &str, user: &str) -> Self {
        let list = samples(organization, user, TEMPLATE_MS);
        // A sample with a variant in its name is there because it is hard to carry.
        let plain = list.iter().filter(|sample| sample.name.matches('.').count() == 1);
        // Node.js takes these two for line breaks, and lines are how it is told what to send.
        let is_plain = |body: &str| !body.contains(['\u{2028}', '\u{2029}']);
        let fitting = plain
            .filter(|sample| BODY_BYTES.contains(&sample.body.len()) && is_plain(&sample.body));
        let templates: Vec<Template> = fitting.map(|sample| Template::of(&sample.body)).collect();
        assert!(templates.len() > 10, "the samples have changed: {} fit", templates.len());
        let stream = format!("{organization}/user:{user}").parse().expect("a stream");
        Self { templates, stream, random: Rng::with_seed(1), number: 0 }
    }

    /// The next webhook, sent at this moment.
    pub(crate) fn next(&mut self, now_ms: u64) -> SignedWebhook {
        self.number += 1;
        let template = &self.templates[self.random.usize(..self.templates.len())];
        let newest = self.number / EVENTS_OF_ISSUE;
        let issue = ISSUES_AT_A_TIME + newest - self.random.u64(..ISSUES_AT_A_TIME);
        // No two are created at the same moment: many kinds have nothing else that is their own.
        let created_at = UnixMillis::new(TEMPLATE_MS + self.number).to_string();
        let mut body = template.body.replace(&template.created_at, &created_at);
        body = body.replace(&TEMPLATE_MS.to_string(), &now_ms.to_string());
        body = body.replace("REL-128", &format!("REL-{issue}"));
        for (place, id) in template.ids.iter().enumerate() {
            // The first is the event's own, the others the issue's.
            let number = if place == 0 { self.number } else { issue };
            body = body.replace(id, &uuid(&[id.as_bytes(), &number.to_le_bytes()]));
        }
        for text in &template.texts {
            body = body.replace(text, &prose(&mut self.random, text.len()));
        }
        SignedWebhook::new(body, &uuid(&[b"delivery", &self.number.to_le_bytes()]))
    }

    /// The same as the message that the Worker puts into the queue.
    pub(crate) fn next_message(&mut self, now_ms: u64) -> String {
        let webhook = self.next(now_ms);
        let body = std::str::from_utf8(&webhook.body).expect("text");
        let id = Envelope::parse(&webhook.body).expect("a sample").event_id();
        let mut message =
            QueueMessage::new(id, UnixMillis::new(now_ms), format!("{}", self.number));
        message.delivery = webhook.header("Linear-Delivery").map(str::to_owned);
        message.headers.clone_from(&webhook.headers);
        message.encode(body)
    }

    /// The same as the stream's object gets it, and as the directory does.
    pub(crate) fn next_event(&mut self, now: UnixMillis) -> (EventFacts, NewEvent) {
        let webhook = self.next(now.get());
        self.event_of(&webhook, now)
    }

    /// A webhook as they get it.
    pub(crate) fn event_of(
        &self,
        webhook: &SignedWebhook,
        now: UnixMillis,
    ) -> (EventFacts, NewEvent) {
        let envelope = Envelope::parse(&webhook.body).expect("a sample");
        let kind = envelope.kind.to_string();
        let organization: &OrganizationId = &self.stream.organization;
        let record = Record::new(&RecordParts {
            id: envelope.event_id(),
            received_at: now,
            kind: &kind,
            organization,
            channel: &self.stream.channel,
            delivery: webhook.header("Linear-Delivery"),
            headers: &webhook.headers,
            subject: Subject::default(),
            own: false,
            body: envelope.body(),
        });
        let id = envelope.event_id();
        let facts = EventFacts { id, facts: RouteFacts::of(&envelope), reroute: None };
        let record = record.into_string();
        (facts, NewEvent { id, kind, received_at: now, signal: None, record })
    }
}

const TEMPLATE_MS: u64 = 1_790_000_000_123;

impl Template {
    fn of(body: &str) -> Self {
        let value: Value = serde_json::from_str(body).expect("JSON");
        let at = |places: &[&str]| -> Vec<String> {
            let found = places.iter().filter_map(|place| value.pointer(place)?.as_str());
            found.map(str::to_owned).collect()
        };
        // As they stand in the body, where they may be escaped.
        let texts = at(&TEXTS).into_iter().map(|text| {
            let written = Value::from(text).to_string();
            written[1..written.len() - 1].to_owned()
        });
        Self {
            body: body.to_owned(),
            ids: at(&OWN_IDS),
            texts: texts.filter(|text| text.len() > 8).collect(),
            created_at: at(&["/createdAt"]).pop().expect("a sample has a date"),
        }
    }
}

fn prose(random: &mut Rng, length: usize) -> String {
    let mut text = String::with_capacity(length + 12);
    while text.len() < length {
        // Small numbers come often, as common words do.
        let index = random.usize(..WORDS.len()) * random.usize(..WORDS.len()) / WORDS.len();
        text.push_str(WORDS[index]);
        text.push(' ');
    }
    text
}

fn uuid(parts: &[&[u8]]) -> String {
    let hex = Sha256Digest::of(parts).to_string();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}
