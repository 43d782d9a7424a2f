//! The directory's part in routing: a thin layer over [`RouteBook`].

use relay_durable::{AuditCursor, AuditLine, EventFacts, RouteBook, RoutingRules, Target};
use relay_schemas::{EventId, RoutingStrategy, UserId};
use serde::{Deserialize, Serialize};
use worker::Result;

use super::{DirectoryObject, Outcome};
use crate::{host, respond, settings::Settings, sql_routing::SqlRouting};

/// The events of one batch that belong to the organization.
#[derive(Serialize, Deserialize)]
pub(crate) struct RouteCommand {
    pub(crate) events: Vec<EventFacts>,
}

/// Where they go, in their order.
#[derive(Serialize, Deserialize)]
pub(crate) struct RouteReply {
    pub(crate) decisions: Vec<RouteAnswer>,
}

/// Where one event goes.
#[derive(Serialize, Deserialize)]
pub(crate) struct RouteAnswer {
    pub(crate) id: EventId,
    pub(crate) targets: Vec<Target>,
    #[serde(default)]
    pub(crate) own: bool,
}

impl From<AuditLine> for RouteAnswer {
    fn from(line: AuditLine) -> Self {
        Self { id: line.id, targets: line.targets, own: line.own }
    }
}

/// How an organization's events are routed.
#[derive(Serialize, Deserialize)]
pub(crate) struct RoutingView {
    /// What an operator has set.
    pub(crate) rules: RoutingRules,
    /// What holds: the operator's, else the setting's.
    pub(crate) strategy: RoutingStrategy,
    pub(crate) apps: Vec<AppUser>,
    pub(crate) rerouted_until: Option<String>,
    /// Since the directory woke.
    #[serde(default)]
    pub(crate) rows_written: u64,
}

/// The user that an app has in the organization.
#[derive(Serialize, Deserialize)]
pub(crate) struct AppUser {
    pub(crate) app: String,
    pub(crate) app_user: UserId,
}

/// How far the `unrouted` stream has been routed again.
#[derive(Serialize, Deserialize)]
pub(crate) struct Rerouted {
    pub(crate) cursor: String,
}

/// Which decisions are wanted.
#[derive(Serialize, Deserialize)]
pub(crate) struct AuditCommand {
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
}

impl DirectoryObject {
    /// Works on the loaded book.
    fn with_book<T>(&self, run: impl FnOnce(&mut RouteBook<SqlRouting>) -> Result<T>) -> Result<T> {
        let mut slot = self.book.borrow_mut();
        if slot.is_none() {
            let storage = SqlRouting::open(self.state.storage().sql())?;
            *slot = Some(RouteBook::load(storage, host::now())?);
        }
        run(slot.as_mut().expect("just loaded"))
    }

    /// Decides where events go. A crash before the answer is sent leaves decisions that the next
    /// delivery of the events finds.
    pub(super) fn route(&self, body: &str) -> Result<Outcome> {
        let command: RouteCommand = serde_json::from_str(body)?;
        let settings = match Settings::of(&self.env) {
            Ok(settings) => settings,
            Err(problem) => return Ok(Err(problem)),
        };
        let (edges, now) = (self.edges()?, host::now());
        let lines = self.with_book(|book| {
            book.route(&command.events, &edges, settings.routing_strategy, now)
        })?;
        let decisions = lines.into_iter().map(RouteAnswer::from).collect();
        Ok(respond::json(200, &RouteReply { decisions }))
    }

    pub(super) fn routing(&self) -> Result<Outcome> {
        let settings = match Settings::of(&self.env) {
            Ok(settings) => settings,
            Err(problem) => return Ok(Err(problem)),
        };
        self.with_book(|book| Ok(respond::json(200, &describe(book, settings.routing_strategy))))
    }

    pub(super) fn set_routing(&self, body: &str) -> Result<Outcome> {
        let rules: RoutingRules = serde_json::from_str(body)?;
        self.with_book(|book| book.set_rules(rules))?;
        self.routing()
    }

    pub(super) fn rerouted(&self, body: &str) -> Result<Outcome> {
        let Rerouted { cursor } = serde_json::from_str(body)?;
        self.with_book(|book| book.set_rerouted_until(cursor))?;
        Ok(respond::json(200, &serde_json::json!({})))
    }

    pub(super) fn audit(&self, body: &str) -> Result<Outcome> {
        let command: AuditCommand = serde_json::from_str(body)?;
        let after = command.after.and_then(|text| text.parse().ok());
        let after = after.unwrap_or(AuditCursor::NEWEST);
        let page = self.with_book(|book| book.audit(after, command.limit, host::now()))?;
        Ok(respond::json(200, &page))
    }

    /// Learns which user an app has here, when it is installed.
    pub(super) fn app(&self, body: &str) -> Result<Outcome> {
        let app: AppUser = serde_json::from_str(body)?;
        self.with_book(|book| book.set_app_user(&app.app, &app.app_user))?;
        Ok(respond::json(200, &serde_json::json!({})))
    }
}

fn describe(book: &RouteBook<SqlRouting>, setting: RoutingStrategy) -> RoutingView {
    let apps = book.app_users().iter();
    RoutingView {
        rules: book.rules().clone(),
        strategy: book.rules().strategy.unwrap_or(setting),
        apps: apps
            .map(|(user, app)| AppUser { app: app.clone(), app_user: user.clone() })
            .collect(),
        rerouted_until: book.rerouted_until().map(str::to_owned),
        rows_written: book.storage().rows_written(),
    }
}
