use relay_durable::{Edge, EnrolRequest, enrol};
use relay_schemas::{EdgeId, ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use worker::{
    DurableObject, Env, Error, Request, Response, Result, SqlStorageValue as Value, State,
    durable_object,
};

use crate::{host, respond};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS edge (id TEXT PRIMARY KEY, edge TEXT NOT NULL) WITHOUT ROWID;
";

/// One organization's edges.
#[durable_object(fetch)]
pub struct DirectoryObject {
    state: State,
    _env: Env,
}

/// All edges of an organization.
#[derive(Serialize, Deserialize)]
pub(crate) struct EdgeList {
    /// Also the revoked ones.
    pub(crate) edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Revocation {
    edge: EdgeId,
}

impl DurableObject for DirectoryObject {
    fn new(state: State, env: Env) -> Self {
        Self { state, _env: env }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        self.state.storage().sql().exec(SCHEMA, None)?;
        let body = request.text().await?;
        let outcome = match request.path().as_str() {
            "/enrol" => self.enrol(&body)?,
            "/list" => respond::json(200, &EdgeList { edges: self.edges()? }),
            "/revoke" => self.revoke(&body)?,
            _ => return Response::error("no such command", 404),
        };
        outcome.or_else(|problem| respond::problem(&problem))
    }
}

impl DirectoryObject {
    fn enrol(&self, body: &str) -> Result<std::result::Result<Response, Problem>> {
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
    fn revoke(&self, body: &str) -> Result<std::result::Result<Response, Problem>> {
        let revocation: Revocation = serde_json::from_str(body)?;
        let Some(mut edge) = self.edges()?.into_iter().find(|edge| edge.id == revocation.edge)
        else {
            let problem = Problem::new(ErrorCode::EdgeUnknown, "no such edge in this organization");
            return Ok(Err(problem));
        };
        if edge.revoked_at.is_none() {
            edge.revoked_at = Some(host::now());
            self.save(&edge)?;
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
