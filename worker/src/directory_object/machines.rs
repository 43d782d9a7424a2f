use relay_durable::{ApproveMachine, Edge, RefreshMachine, RefreshRefusal, RefreshReply};
use relay_schemas::{Counter, EdgeId, Problem};
use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::{Error, Response, Result, SqlStorageValue as Value};

use super::{DirectoryObject, EdgeList, count_revoked, edge_unknown};
use crate::{host, metrics, respond};

type Outcome = Result<std::result::Result<Response, Problem>>;

/// `/rename`
#[derive(Serialize, Deserialize)]
pub(crate) struct Rename {
    pub(crate) edge: EdgeId,
    pub(crate) name: String,
}

/// `/machine/show`, `/machine/told`
#[derive(Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) edge: EdgeId,
}

/// `/machine/used`
#[derive(Serialize, Deserialize)]
pub(crate) struct MachineUsed {
    pub(crate) edge: EdgeId,
    /// Of the access token that was shown.
    pub(crate) generation: u64,
}

/// What `/machine/used` answers.
#[derive(Serialize, Deserialize)]
pub(crate) struct UsedReply {
    /// The machine, if it is revoked and its streams must yet learn it.
    pub(crate) ended: Option<Edge>,
}

impl DirectoryObject {
    pub(super) fn list(&self) -> Outcome {
        self.forget_ended()?;
        Ok(respond::json(200, &EdgeList { edges: self.edges()? }))
    }

    pub(super) fn rename(&self, body: &str) -> Outcome {
        let rename: Rename = serde_json::from_str(body)?;
        let Some(mut edge) = self.edge(&rename.edge)? else { return Ok(Err(edge_unknown())) };
        if let Err(problem) = edge.rename(&rename.name) {
            return Ok(Err(problem));
        }
        self.save(&edge)?;
        Ok(respond::json(200, &edge))
    }

    pub(super) fn show_machine(&self, body: &str) -> Outcome {
        let shown: Shown = serde_json::from_str(body)?;
        let edge = self.edge(&shown.edge)?.ok_or_else(edge_unknown);
        Ok(edge.and_then(|edge| respond::json(200, &edge)))
    }

    pub(super) fn approve_machine(&self, body: &str) -> Outcome {
        let request: ApproveMachine = serde_json::from_str(body)?;
        self.forget_ended()?;
        let (now, edges) = (host::now(), self.edges()?);
        let is_new = edges.iter().all(|edge| edge.id != request.edge);
        let edge = match relay_durable::approve(request, &edges, now) {
            Ok(edge) => edge,
            Err(problem) => return Ok(Err(problem)),
        };
        self.save(&edge)?;
        metrics::add(Counter::MachineLogins, u64::from(is_new));
        Ok(respond::json(200, &edge))
    }

    /// The change is stored before it is answered, also when the answer is a refusal.
    pub(super) fn refresh_machine(&self, body: &str) -> Outcome {
        let command: RefreshMachine = serde_json::from_str(body)?;
        let Some(before) = self.edge(&command.edge)? else {
            metrics::add(Counter::MachineRefreshes(RefreshRefusal::Unknown.as_str()), 1);
            let refused = Some(RefreshRefusal::Unknown);
            return Ok(respond::json(200, &RefreshReply { edge: None, refused }));
        };
        let mut edge = before.clone();
        let now = host::now();
        let refused =
            relay_durable::refresh(&mut edge, command.generation, &command.person, now).err();
        if edge != before {
            self.save(&edge)?;
        }
        if before.revoked_at.is_none() && edge.revoked_at.is_some() {
            count_revoked(&edge);
        }
        let result = refused.as_ref().map_or("refreshed", RefreshRefusal::as_str);
        metrics::add(Counter::MachineRefreshes(result), 1);
        Ok(respond::json(200, &RefreshReply { edge: Some(edge), refused }))
    }

    pub(super) fn machine_used(&self, body: &str) -> Outcome {
        let used: MachineUsed = serde_json::from_str(body)?;
        let Some(mut edge) = self.edge(&used.edge)? else {
            return Ok(respond::json(200, &UsedReply { ended: None }));
        };
        if edge.shown(used.generation, host::now()) {
            self.save(&edge)?;
            if edge.revoked_at.is_some() {
                count_revoked(&edge);
            }
        }
        let ended = edge.is_end_untold().then_some(edge);
        Ok(respond::json(200, &UsedReply { ended }))
    }

    pub(super) fn streams_told(&self, body: &str) -> Outcome {
        let told: Shown = serde_json::from_str(body)?;
        if let Some(mut edge) = self.edge(&told.edge)?
            && edge.streams_told()
        {
            self.save(&edge)?;
        }
        Ok(respond::json(200, &json!({})))
    }

    pub(super) fn edge(&self, id: &EdgeId) -> Result<Option<Edge>> {
        let values = vec![Value::String(id.to_string())];
        let sql = self.state.storage().sql();
        let rows = sql.exec("SELECT edge FROM edge WHERE id = ?", values)?;
        match rows.raw().next().transpose()?.as_deref() {
            None => Ok(None),
            Some([Value::String(text)]) => Ok(Some(serde_json::from_str(text)?)),
            Some(_) => Err(Error::RustError("a stored edge can't be read".into())),
        }
    }

    pub(super) fn forget_ended(&self) -> Result<()> {
        let now = host::now();
        for edge in self.edges()?.iter().filter(|edge| edge.is_forgotten(now)) {
            let values = vec![Value::String(edge.id.to_string())];
            self.state.storage().sql().exec("DELETE FROM edge WHERE id = ?", values)?;
        }
        Ok(())
    }
}
