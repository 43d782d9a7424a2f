use std::cell::RefCell;

use relay_durable::{MetricsRegistry, Unsaved};
use relay_schemas::{AppState, MetricsDelta, UnixMillis};
use serde::{Deserialize, Serialize};
use worker::{
    DurableObject, Env, Request, Response, Result, SqlStorageValue as Value, State, durable_object,
};

use crate::{host, log, respond, sweep::SweepState};

/// Counters are kept in memory and written at most so often; what an eviction takes in between is
/// a counter's restart to Prometheus.
const SAVE_INTERVAL_MS: u64 = 60_000;
const STREAMS_LISTED_MAX: usize = 1_000;
const INSTALLATIONS_LISTED_MAX: usize = 1_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS registry (id INTEGER PRIMARY KEY CHECK (id = 1), registry TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stream (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS installation (
  organization TEXT PRIMARY KEY, touch TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sweep (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL);
";

/// Adds up the counts of all isolates, and knows which streams and installations there are.
#[durable_object(fetch)]
pub struct OperationsObject {
    state: State,
    _env: Env,
    registry: RefCell<Option<Registry>>,
}

struct Registry {
    metrics: MetricsRegistry,
    saved_at: UnixMillis,
}

#[derive(Serialize)]
struct Overview<'a> {
    counters: serde_json::Value,
    streams: Vec<StreamEntry<'a>>,
    streams_total: usize,
    installations: Vec<InstallationEntry<'a>>,
    installations_total: usize,
}

#[derive(Serialize)]
struct InstallationEntry<'a> {
    organization: &'a str,
    apps: Vec<AppEntry<'a>>,
    waiting: Option<usize>,
    given_up: usize,
    at: String,
}

#[derive(Serialize)]
struct AppEntry<'a> {
    app: &'a str,
    state: AppState,
}

#[derive(Serialize)]
struct StreamEntry<'a> {
    stream: &'a str,
    tail: Option<String>,
    appended_at: Option<String>,
}

impl DurableObject for OperationsObject {
    fn new(state: State, env: Env) -> Self {
        Self { state, _env: env, registry: RefCell::new(None) }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let body = request.text().await?;
        let path = request.path();
        let mut slot = self.registry.borrow_mut();
        if slot.is_none() {
            *slot = Some(self.load()?);
        }
        let registry = slot.as_mut().expect("just loaded");
        let outcome = match path.as_str() {
            "/report" => {
                self.report(registry, &body)?;
                respond::json(200, &serde_json::json!({}))
            }
            "/metrics" => respond::text_of(
                200,
                "text/plain; version=0.0.4",
                registry.metrics.render(env!("CARGO_PKG_VERSION")),
            ),
            "/streams" => respond::json(200, &streams_after(&registry.metrics, &body)?),
            "/sweep-state" => respond::json(200, &self.sweep_state()?),
            "/save-sweep" => {
                self.save_sweep(&body)?;
                respond::json(200, &serde_json::json!({}))
            }
            "/state" => respond::json(200, &overview(&registry.metrics, &body)),
            _ => return Response::error("no such command", 404),
        };
        outcome.or_else(|problem| respond::problem(&problem))
    }
}

#[derive(Deserialize)]
struct StreamsQuery {
    after: String,
    count: usize,
}

/// The next streams in the order of their names.
fn streams_after<'a>(metrics: &'a MetricsRegistry, body: &str) -> Result<Vec<&'a str>> {
    let query: StreamsQuery = serde_json::from_str(body)?;
    let names = metrics
        .streams()
        .range::<String, _>((std::ops::Bound::Excluded(&query.after), std::ops::Bound::Unbounded));
    Ok(names.map(|(name, _)| name.as_str()).take(query.count).collect())
}

impl OperationsObject {
    fn sweep_state(&self) -> Result<SweepState> {
        let rows = self.state.storage().sql().exec("SELECT state FROM sweep", None)?;
        match rows.raw().next().transpose()?.as_deref() {
            Some([Value::String(text)]) => Ok(serde_json::from_str(text)?),
            _ => Ok(SweepState::default()),
        }
    }

    fn save_sweep(&self, body: &str) -> Result<()> {
        let statement = "INSERT OR REPLACE INTO sweep (id, state) VALUES (1, ?)";
        let state = vec![Value::String(body.to_owned())];
        self.state.storage().sql().exec(statement, state)?;
        Ok(())
    }

    fn load(&self) -> Result<Registry> {
        let sql = self.state.storage().sql();
        sql.exec(SCHEMA, None)?;
        let row = sql.exec("SELECT registry FROM registry", None)?.raw().next().transpose()?;
        let mut metrics: MetricsRegistry = match row.and_then(|row| row.into_iter().next()) {
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
            _ => MetricsRegistry::default(),
        };
        for row in sql.exec("SELECT name FROM stream", None)?.raw() {
            if let Some(Value::String(name)) = row?.into_iter().next() {
                metrics.remember_stream(name);
            }
        }
        for row in sql.exec("SELECT organization, touch FROM installation", None)?.raw() {
            if let [Value::String(organization), Value::String(touch)] = row?.as_slice()
                && let Ok(touch) = serde_json::from_str(touch)
            {
                metrics.remember_installation(organization.clone(), touch);
            }
        }
        Ok(Registry { metrics, saved_at: UnixMillis::default() })
    }

    /// Once merged a report is taken: it must not be sent, and added, again because saving fails.
    fn report(&self, registry: &mut Registry, body: &str) -> Result<()> {
        let delta: MetricsDelta = serde_json::from_str(body)?;
        let unsaved = registry.metrics.merge(delta);
        if let Err(error) = self.save(registry, unsaved) {
            log::platform_error("metrics_not_saved", "", &error);
        }
        Ok(())
    }

    fn save(&self, registry: &mut Registry, unsaved: Unsaved) -> Result<()> {
        let sql = self.state.storage().sql();
        for (organization, touch) in unsaved.installations {
            let statement =
                "INSERT OR REPLACE INTO installation (organization, touch) VALUES (?, ?)";
            let touch = serde_json::to_string(&touch)?;
            sql.exec(statement, vec![Value::String(organization), Value::String(touch)])?;
        }
        for name in unsaved.streams {
            let statement = "INSERT INTO stream (name) VALUES (?) ON CONFLICT DO NOTHING";
            sql.exec(statement, vec![Value::String(name)])?;
        }
        let now = host::now();
        if now.since_ms(registry.saved_at) >= SAVE_INTERVAL_MS {
            let text = serde_json::to_string(&registry.metrics)?;
            sql.exec(
                "INSERT INTO registry (id, registry) VALUES (1, ?)
                 ON CONFLICT (id) DO UPDATE SET registry = excluded.registry",
                vec![Value::String(text)],
            )?;
            registry.saved_at = now;
        }
        Ok(())
    }
}

/// `organization` may be empty, for all.
fn overview<'a>(metrics: &'a MetricsRegistry, organization: &str) -> Overview<'a> {
    let counters = [
        "webhooks_total",
        "events_appended_total",
        "events_duplicate_total",
        "events_unroutable_total",
        "events_delivered_total",
        "dead_letters_total",
        "queue_retries_total",
        "reports_total",
        "assignments_total",
        "linear_calls_total",
        "linear_stand_ins_total",
    ];
    let is_wanted =
        |stream: &str| organization.is_empty() || stream.split('/').next() == Some(organization);
    let streams: Vec<StreamEntry<'a>> = metrics
        .streams()
        .iter()
        .filter(|(stream, _)| is_wanted(stream))
        .map(|(stream, touch)| StreamEntry {
            stream,
            tail: touch.as_ref().map(|touch| touch.tail.to_string()),
            appended_at: touch.as_ref().map(|touch| touch.at.to_string()),
        })
        .collect();
    let installations: Vec<InstallationEntry<'a>> = metrics
        .installations()
        .iter()
        .filter(|(name, _)| organization.is_empty() || name.as_str() == organization)
        .map(|(organization, touch)| InstallationEntry {
            organization,
            apps: touch.apps.iter().map(|(app, state)| AppEntry { app, state: *state }).collect(),
            waiting: touch.waiting,
            given_up: touch.given_up,
            at: touch.at.to_string(),
        })
        .collect();
    Overview {
        installations_total: installations.len(),
        installations: installations.into_iter().take(INSTALLATIONS_LISTED_MAX).collect(),
        counters: counters.iter().map(|name| (*name, metrics.total(name))).collect(),
        streams_total: streams.len(),
        streams: streams.into_iter().take(STREAMS_LISTED_MAX).collect(),
    }
}
