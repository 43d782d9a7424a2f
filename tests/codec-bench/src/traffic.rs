//! A plausible week of one person's webhooks: mostly changes of issues, comments on them and an
//! agent's sessions, a few issues at a time. What differs from event to event in life differs here:
//! ids, texts, moments, deliveries and signatures.

use fastrand::Rng;
use relay_durable::samples::{Sample, samples};
use relay_schemas::{
    EventId, OrganizationId, Record, RecordParts, Sha256Digest, Subject, UnixMillis,
};
use serde_json::Value;

const ORGANIZATION: &str = "5f0c1a9e-7d3b-4c62-9a41-2e8b6d07f315";
const USER: &str = "b7e4d210-93fa-4f58-8c6d-10a95e3c7b42";
const BEGIN_MS: u64 = 1_790_000_000_123;
const PAUSE_MS_MAX: u64 = 600_000;
/// One event in so many begins with another issue.
const EVENTS_OF_ISSUE: u32 = 8;
const ISSUES_AT_A_TIME: u32 = 4;

/// How often samples appear whose name begins so; the first that fits counts, others once.
const WEIGHTS: [(&str, u32); 14] = [
    ("Issue.update", 60),
    ("Issue.create", 12),
    ("Issue.remove", 1),
    ("Comment.create", 35),
    ("Comment.", 6),
    ("Reaction.create", 12),
    ("AgentActivity.create", 50),
    ("AgentSession.update", 25),
    ("AgentSessionEvent.created", 10),
    ("AgentSessionEvent.prompted", 15),
    ("AppUserNotification.issue", 6),
    ("Attachment.create", 10),
    ("Document.update", 8),
    ("Project.update", 5),
];

/// Where samples name what belongs to one issue.
const OWN_IDS: [&str; 4] =
    ["/data/id", "/agentSession/id", "/agentActivity/id", "/notification/id"];
const OWN_KINDS: [&str; 8] = [
    "Issue.",
    "Comment.",
    "Reaction.",
    "Attachment.",
    "AgentSession.",
    "AgentActivity.",
    "AgentSessionEvent.",
    "AppUserNotification.",
];
/// Texts that people and agents write, and the most words of one.
const TEXTS: [(&str, usize); 6] = [
    ("/data/title", 9),
    ("/data/description", 150),
    ("/data/body", 60),
    ("/data/content/body", 80),
    ("/agentActivity/content/body", 40),
    ("/agentSession/comment/body", 20),
];

const WORDS: &str = "the to of and a in is it that when for we on with not this be after from are \
    issue stream client can if but by before as retry an should event error there reader only \
    was which connection please still new works does more one time has test server first page \
    because fails release queue branch now user our network without deploy again second cursor \
    version during fix will looks customer about storage they while seen see open token worker \
    limit half between change update review log merge slow timeout request missing reproduce \
    header memory staging always production sometimes restart dashboard expected duplicate \
    closed answer credential flaky seconds reported batch assigned version fallback migration \
    rollback suspect metric alert latency segment archive session prompt summary draft owner \
    Tuesday regression schema payload endpoint documented upstream downstream bisected quota";

/// Lines of records, of `bytes` bytes or up to one record more.
pub(crate) fn lines(bytes: usize) -> Vec<u8> {
    let mut traffic = Traffic::new();
    let mut lines = Vec::with_capacity(bytes + 64 * 1024);
    while lines.len() < bytes {
        lines.extend_from_slice(traffic.next_record().as_bytes());
        lines.push(b'\n');
    }
    lines
}

struct Traffic {
    random: Rng,
    now_ms: u64,
    newest_issue: u32,
    own_ids: Vec<String>,
    words: Vec<&'static str>,
}

impl Traffic {
    fn new() -> Self {
        let mut own_ids: Vec<String> = samples(ORGANIZATION, USER, BEGIN_MS)
            .iter()
            .filter(|sample| OWN_KINDS.iter().any(|kind| sample.name.starts_with(kind)))
            .flat_map(|sample| texts_at(sample, &OWN_IDS))
            .collect();
        own_ids.sort();
        own_ids.dedup();
        Self {
            random: Rng::with_seed(1),
            now_ms: BEGIN_MS,
            newest_issue: 128,
            own_ids,
            words: WORDS.split_whitespace().collect(),
        }
    }

    fn next_record(&mut self) -> String {
        self.now_ms += self.random.u64(1_000..PAUSE_MS_MAX);
        if self.random.u32(..EVENTS_OF_ISSUE) == 0 {
            self.newest_issue += 1;
        }
        let issue = self.newest_issue - self.random.u32(..ISSUES_AT_A_TIME);
        let list = samples(ORGANIZATION, USER, self.now_ms);
        let total: u32 = list.iter().map(|sample| weight(sample.name)).sum();
        let mut chosen = self.random.u32(..total);
        let sample = list.into_iter().find(|sample| {
            let weight = weight(sample.name);
            chosen.checked_sub(weight).map(|rest| chosen = rest).is_none()
        });
        let sample = sample.expect("the weights add up");
        let body = self.vary(&sample, issue);
        self.record(&sample, &body)
    }

    /// The body with the issue's own ids and texts.
    fn vary(&mut self, sample: &Sample, issue: u32) -> String {
        let mut body = sample.body.replace("REL-128", &format!("REL-{issue}"));
        for id in &self.own_ids {
            if body.contains(id.as_str()) {
                body = body.replace(
                    id.as_str(),
                    &uuid(&Sha256Digest::of(&[id.as_bytes(), &issue.to_le_bytes()])),
                );
            }
        }
        for (place, words_max) in TEXTS {
            for text in texts_at(sample, &[place]) {
                let written = Value::from(text).to_string();
                let prose = self.prose(issue, place, words_max);
                body = body.replace(written.trim_matches('"'), &prose);
            }
        }
        body
    }

    /// An issue keeps its title and description; other texts are new each time.
    fn prose(&mut self, issue: u32, place: &str, words_max: usize) -> String {
        let is_kept = matches!(place, "/data/title" | "/data/description");
        let seed = if is_kept { u64::from(issue) } else { self.random.u64(..) };
        let mut random = Rng::with_seed(seed);
        let count = random.usize(words_max / 3..=words_max);
        let words: Vec<&str> = (0..count)
            .map(|_| {
                let share = random.f64();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "an index"
                )]
                let index = (share * share * self.words.len() as f64) as usize;
                self.words[index]
            })
            .collect();
        words.join(" ")
    }

    fn record(&mut self, sample: &Sample, body: &str) -> String {
        let mut hex = |bytes: usize| -> String {
            (0..bytes).map(|_| format!("{:02x}", self.random.u8(..))).collect()
        };
        let (delivery, signature, id) = (dashed(&hex(16)), hex(32), hex(16));
        let received_at = self.now_ms + self.random.u64(20..900);
        let headers = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("User-Agent", "Linear-Webhook"),
            ("Linear-Delivery", &delivery),
            ("Linear-Event", sample.linear_event),
            ("Linear-Signature", &signature),
            ("Linear-Timestamp", &self.now_ms.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let organization: OrganizationId = ORGANIZATION.parse().expect("an id");
        let kind: Vec<&str> = sample.name.splitn(3, '.').take(2).collect();
        Record::new(&RecordParts {
            id: EventId::from_bytes(u128::from_str_radix(&id, 16).expect("hex").to_be_bytes()),
            received_at: UnixMillis::new(received_at),
            kind: &kind.join("."),
            organization: &organization,
            channel: &sample.expected_channel,
            delivery: Some(&delivery),
            headers: &headers,
            subject: Subject::default(),
            own: false,
            body,
        })
        .into_string()
    }
}

fn weight(name: &str) -> u32 {
    WEIGHTS.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(1, |(_, weight)| *weight)
}

fn texts_at(sample: &Sample, places: &[&str]) -> Vec<String> {
    let body: Value = serde_json::from_str(&sample.body).unwrap_or_default();
    places.iter().filter_map(|place| Some(body.pointer(place)?.as_str()?.to_owned())).collect()
}

fn uuid(digest: &Sha256Digest) -> String {
    dashed(&digest.to_string()[..32])
}

fn dashed(hex: &str) -> String {
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
