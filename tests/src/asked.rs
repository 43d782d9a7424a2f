use relay_schemas::{ErrorCode, Route};
use reqwest::Method;
use serde_json::{Value, json};

use crate::EnrolledEdge;

/// What there is to ask for, all of one person's, and what may be lost.
#[derive(Clone, Debug, Default)]
pub struct Mine {
    /// The organization.
    pub organization: String,
    /// The person.
    pub user: String,
    /// An event's id.
    pub event: String,
    /// A segment: epoch and name.
    pub segment: (String, String),
    /// A machine of the organization that may be revoked.
    pub spare: Option<EnrolledEdge>,
    /// A machine of the person that may be revoked.
    pub own_spare: Option<EnrolledEdge>,
    /// A channel that may be rebuilt.
    pub spare_channel: String,
    /// Dead letters: one to look at, one to put back, one to discard.
    pub letters: [String; 3],
}

/// What a good credential of somebody else gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// An answer without what was asked for.
    Nothing,
    /// The answer to what doesn't exist.
    Unknown(ErrorCode),
}

/// A request that its route's handler takes.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its query, from the question mark on.
    pub query: String,
    /// Its body.
    pub body: Option<Value>,
    /// The status of the answer to who may.
    pub right: u16,
    /// What somebody else gets.
    pub own: Own,
    /// Whether it takes a `channel`.
    pub has_channel: bool,
}

impl Asked {
    /// How a route is asked. A new route says it here.
    pub fn of(route: Route, mine: &Mine) -> Self {
        let ask = |values: &[&str]| Self::new(route, values);
        let organization = mine.organization.as_str();
        let own_channel = format!("user:{}", mine.user);
        let spare = mine.spare.as_ref().map_or("", |spare| spare.id.as_str());
        let own_spare = mine.own_spare.as_ref().map_or("", |spare| spare.id.as_str());
        let [letter, put_back, discarded] = &mine.letters;
        let (epoch, segment) = &mine.segment;
        match route {
            // The body is signed where it is sent.
            Route::Webhook => ask(&[]),

            Route::Stream => ask(&[]).of_channel().with("cursor=earliest"),
            Route::Report => ask(&[])
                .of_channel()
                .unknown(ErrorCode::EventUnknown)
                .json(json!({ "eventId": mine.event, "status": "completed" })),
            // This relay has no Linear to show it to.
            Route::Activity => ask(&[])
                .of_channel()
                .unknown(ErrorCode::EventUnknown)
                .json(json!({
                    "eventId": mine.event, "activity": { "type": "thought", "body": "…" },
                }))
                .answered(501),
            Route::SegmentPlan => ask(&[]).of_channel(),
            Route::Segment => {
                ask(&[epoch, segment]).of_channel().unknown(ErrorCode::SegmentUnknown)
            }
            Route::Page => ask(&[]).of_channel(),
            Route::Event => ask(&[&mine.event]).of_channel().unknown(ErrorCode::EventUnknown),

            Route::State => ask(&[]).with(&format!("organization={organization}")),
            Route::StreamState => ask(&[organization, &own_channel]),
            Route::Metrics | Route::Health | Route::Info => ask(&[]),

            Route::Install | Route::SignIn => ask(&[]).answered(501),
            Route::Callback => ask(&[]).with("state=none&code=none").answered(501),
            Route::InstallationState | Route::Outbox => {
                ask(&[]).with(&format!("organization={organization}")).answered(501)
            }
            Route::DeviceCode => ask(&[]).json(json!({ "client_name": "machine" })).answered(501),
            // Tokens come as forms.
            Route::DeviceToken | Route::DeviceRevoke => ask(&[]).json(json!({})).answered(415),
            Route::ApprovalPage | Route::Approval | Route::MachinesPage => ask(&[]),
            Route::MachinesForm => ask(&[spare]),
            Route::Myself | Route::Machines => ask(&[]),
            Route::RevokeOwn => ask(&[own_spare]).unknown(ErrorCode::EdgeUnknown),

            Route::Edges => ask(&[]).with(&format!("organization={organization}")),
            Route::Enrol => ask(&[])
                .json(json!({ "organization": organization, "user": mine.user }))
                .answered(201),
            Route::Revoke => ask(&[spare]).with(&format!("organization={organization}")),
            Route::Rename => ask(&[spare])
                .with(&format!("organization={organization}"))
                .json(json!({ "name": "renamed" })),
            Route::Routing | Route::Audit => ask(&[]).with(&format!("organization={organization}")),
            Route::SetRouting => ask(&[])
                .with(&format!("organization={organization}"))
                .json(json!({ "default_channel": null })),
            Route::Reroute => ask(&[organization]).json(json!({ "to": null })),
            Route::StreamPage => ask(&[organization, &own_channel]),
            Route::DeadLetters => ask(&[]),
            Route::PutBack => ask(&[put_back]),
            Route::DeadLetter => ask(&[letter]),
            Route::Discard => ask(&[discarded]),
            Route::Rebuild => ask(&[organization, &mine.spare_channel]),
            Route::Sweep => ask(&[]),
        }
    }

    fn new(route: Route, values: &[&str]) -> Self {
        let mut path = String::new();
        let mut values = values.iter();
        for segment in route.path().split('/').skip(1) {
            let is_value = segment.starts_with('{');
            path.push('/');
            path.push_str(if is_value {
                values.next().expect("a value for each")
            } else {
                segment
            });
        }
        assert!(values.next().is_none(), "{route:?} has fewer values");
        let method = route.method().parse().unwrap();
        let (query, own) = (String::new(), Own::Nothing);
        Self { method, path, query, body: None, right: 200, own, has_channel: false }
    }

    fn with(mut self, query: &str) -> Self {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        self.query = format!("{}{separator}{query}", self.query);
        self
    }

    fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn answered(mut self, right: u16) -> Self {
        self.right = right;
        self
    }

    fn unknown(mut self, code: ErrorCode) -> Self {
        self.own = Own::Unknown(code);
        self
    }

    fn of_channel(mut self) -> Self {
        self.has_channel = true;
        self
    }

    /// The same, naming a person's channel.
    #[must_use]
    pub fn naming_channel_of(self, user: &str) -> Self {
        self.with(&format!("channel=user:{user}"))
    }
}
