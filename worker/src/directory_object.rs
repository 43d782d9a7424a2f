mod machines;
mod routing;

use std::cell::RefCell;

use relay_durable::{Edge, EndReason, EnrolRequest, RouteBook, enrol};
use relay_schemas::{Counter, EdgeId, ErrorCode, Problem, UserId};
use serde::{Deserialize, Serialize};
use worker::{
    DurableObject, Env, Error, Request, Response, Result, SqlStorageValue as Value, State,
    durable_object,
};

pub(crate) use self::{
    machines::{MachineUsed, Rename, Shown, UsedReply},
    routing::{AuditCommand, Rerouted, RouteAnswer, RouteCommand, RouteReply, RoutingView},
};
use crate::{host, log, metrics, respond, sql_routing::SqlRouting};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS edge (id TEXT PRIMARY KEY, edge TEXT NOT NULL) WITHOUT ROWID;
";

/// What a command answers, or why it refuses.
type Outcome = std::result::Result<Response, Problem>;

/// One organization's edges, and where its events go.
#[durable_object(fetch)]
pub struct DirectoryObject {
    state: State,
    env: Env,
    /// Loaded by the first command that needs it.
    book: RefCell<Option<RouteBook<SqlRouting>>>,
}

/// All edges of an organization.
#[derive(Serialize, Deserialize)]
pub(crate) struct EdgeList {
    /// Also the revoked ones.
    pub(crate) edges: Vec<Edge>,
}

/// `/revoke`
#[derive(Serialize, Deserialize)]
pub(crate) struct Revocation {
    pub(crate) edge: EdgeId,
    /// Why; an operator did, unless something else is said.
    #[serde(default)]
    pub(crate) reason: Option<EndReason>,
    /// Only if it is this person's.
    #[serde(default)]
    pub(crate) user: Option<UserId>,
}

impl DurableObject for DirectoryObject {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, book: RefCell::new(None) }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let body = request.text().await?;
        let path = request.path();
        let answer = self.answer(&path, &body);
        // Routing must not wait for the counts, and people and machines can.
        if path != "/route" && metrics::is_flush_due() {
            metrics::flush(&self.env).await;
        }
        match answer {
            Ok(outcome) => outcome.or_else(|problem| respond::problem(&problem)),
            Err(error) => {
                // What is in memory may be wrong now: the next command loads again.
                self.book.replace(None);
                log::platform_error("directory_failed", "", &error);
                respond::problem(&respond::unavailable())
            }
        }
    }
}

impl DirectoryObject {
    /// Each command is one stretch without an await.
    fn answer(&self, path: &str, body: &str) -> Result<Outcome> {
        self.state.storage().sql().exec(SCHEMA, None)?;
        match path {
            "/enrol" => self.enrol(body),
            "/list" => self.list(),
            "/revoke" => self.revoke(body),
            "/rename" => self.rename(body),
            "/machine/show" => self.show_machine(body),
            "/machine/approve" => self.approve_machine(body),
            "/machine/refresh" => self.refresh_machine(body),
            "/machine/used" => self.machine_used(body),
            "/machine/told" => self.streams_told(body),
            "/route" => self.route(body),
            "/routing" => self.routing(),
            "/set-routing" => self.set_routing(body),
            "/rerouted" => self.rerouted(body),
            "/audit" => self.audit(body),
            "/app" => self.app(body),
            _ => Ok(Err(Problem::new(ErrorCode::NotFound, "no such command"))),
        }
    }

    fn enrol(&self, body: &str) -> Result<Outcome> {
        let request: EnrolRequest = serde_json::from_str(body)?;
        let id = format!("edge_{}", host::random_name()).parse().expect("a plain word");
        let now = host::now();
        let active = self.edges()?.iter().filter(|edge| edge.is_active(now)).count();
        let edge = match enrol(request, id, active, now) {
            Ok(edge) => edge,
            Err(problem) => return Ok(Err(problem)),
        };
        self.save(&edge)?;
        Ok(respond::json(200, &edge))
    }

    /// Revoking twice answers the same.
    fn revoke(&self, body: &str) -> Result<Outcome> {
        let revocation: Revocation = serde_json::from_str(body)?;
        let is_asked = |edge: &Edge| revocation.user.as_ref().is_none_or(|user| *user == edge.user);
        let Some(mut edge) = self.edge(&revocation.edge)?.filter(is_asked) else {
            return Ok(Err(edge_unknown()));
        };
        if edge.revoked_at.is_none() {
            edge.end(revocation.reason.unwrap_or(EndReason::Operator), host::now());
            self.save(&edge)?;
            count_revoked(&edge);
        }
        Ok(respond::json(200, &edge))
    }

    fn edges(&self) -> Result<Vec<Edge>> {
        let cursor = self.state.storage().sql().exec("SELECT edge FROM edge ORDER BY id", None)?;
        cursor
            .raw()
            .map(|row| match row?.into_iter().next() {
                Some(Value::String(text)) => Ok(serde_json::from_str(&text)?),
                _ => Err(Error::RustError("a stored edge can't be read".into())),
            })
            .collect()
    }

    fn save(&self, edge: &Edge) -> Result<()> {
        let values =
            vec![Value::String(edge.id.to_string()), Value::String(serde_json::to_string(edge)?)];
        self.state.storage().sql().exec(
            "INSERT INTO edge (id, edge) VALUES (?, ?)
             ON CONFLICT (id) DO UPDATE SET edge = excluded.edge",
            values,
        )?;
        Ok(())
    }
}

fn count_revoked(edge: &Edge) {
    let reason = edge.ended_by.unwrap_or(EndReason::Unknown);
    metrics::add(Counter::EdgesRevoked(reason.as_str()), 1);
}

fn edge_unknown() -> Problem {
    Problem::new(ErrorCode::EdgeUnknown, "no such edge in this organization")
}
