use std::{cell::OnceCell, collections::BTreeMap, rc::Rc, str::FromStr};

use relay_durable::{StreamSettings, TokenKeys};
use relay_schemas::{
    ErrorCode, OrganizationId, Problem, RoutingStrategy, SecretList, SigningKeys, StreamKey,
    limits::{
        ANSWER_AFTER_DEFAULT_MS, DEDUPLICATION_WINDOW_MS, EDGE_TIMEOUT_DEFAULT_MS,
        HOT_TAIL_BYTES_MAX, LATE_EVENT_MS, RETENTION_DAYS_DEFAULT, RETRY_AGE_DEFAULT_S,
        SEAL_AGE_DEFAULT_S, SEAL_BYTES_DEFAULT, STREAM_AGE_MS, TIMESTAMP_WINDOW_MS,
    },
};
use worker::Env;

const DAY_MS: f64 = 86_400_000.0;

/// What an operator has set, checked. Never printed: it holds secrets.
pub(crate) struct Settings {
    /// `LINEAR_WEBHOOK_SECRET`
    pub(crate) webhook_secrets: SecretList,
    /// `EDGE_SECRET`
    pub(crate) signing_keys: SigningKeys,
    /// `ADMIN_TOKEN`
    admin_token: String,
    /// `WEBHOOK_RETRY_AGE_S`
    pub(crate) retry_age_ms: u64,
    /// `RETENTION_DAYS`, `SEAL_BYTES`, `SEAL_AGE_S`, `HOT_TAIL_BYTES_MAX`, `MULTI_EDGE_MODE`,
    /// `EDGE_TIMEOUT_MS`, `RETRY_FAILED_EVENTS`
    streams: StreamSettings,
    /// `RETENTION_DAYS_BY_ORGANIZATION`
    retention_ms_by_organization: BTreeMap<OrganizationId, u64>,
    /// `STREAM_AGE_MAX_S`
    pub(crate) stream_age_ms: (u64, u64),
    /// `ROUTING_STRATEGY`
    pub(crate) routing_strategy: RoutingStrategy,
    /// `PUBLIC_URL`
    pub(crate) public_url: Option<String>,
    /// `LINEAR_CLIENT_ID` and what goes with it.
    pub(crate) linear: Option<LinearSettings>,
    /// `ENVIRONMENT`
    pub(crate) environment: String,
}

/// How the relay speaks to Linear.
pub(crate) struct LinearSettings {
    /// `LINEAR_CLIENT_ID`, `LINEAR_CLIENT_SECRET`: the first is what people install by default.
    pub(crate) apps: Vec<LinearApp>,
    /// `LINEAR_URL`: where people sign in.
    pub(crate) url: String,
    /// `LINEAR_API_URL`: where tokens and answers go.
    pub(crate) api_url: String,
    /// `TOKEN_ENCRYPTION_KEY`
    pub(crate) token_keys: TokenKeys,
    /// `ANSWER_AFTER_MS`
    pub(crate) answer_after_ms: u64,
    /// `LINEAR_CLIENT_CREDENTIALS`: the apps may get tokens of their own.
    pub(crate) has_client_credentials: bool,
}

/// An app of Linear that posts to this relay.
pub(crate) struct LinearApp {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
}

thread_local! {
    static SETTINGS: OnceCell<Rc<Settings>> = const { OnceCell::new() };
}

impl Settings {
    /// Reads the settings once per isolate; they change only with a deployment.
    pub(crate) fn of(env: &Env) -> Result<Rc<Self>, Problem> {
        SETTINGS.with(|cell| {
            if let Some(settings) = cell.get() {
                return Ok(Rc::clone(settings));
            }
            let settings = Rc::new(Self::read(env)?);
            Ok(Rc::clone(cell.get_or_init(|| settings)))
        })
    }

    fn read(env: &Env) -> Result<Self, Problem> {
        let webhook_secrets = SecretList::parse(&required(env, "LINEAR_WEBHOOK_SECRET")?)
            .map_err(|error| wrong("LINEAR_WEBHOOK_SECRET", error))?;
        let signing_keys = SigningKeys::parse(&required(env, "EDGE_SECRET")?)
            .map_err(|error| wrong("EDGE_SECRET", error))?;
        let admin_token = required(env, "ADMIN_TOKEN")?;
        if admin_token.len() < 16 {
            return Err(wrong("ADMIN_TOKEN", "write at least 16 characters"));
        }
        let retry_age_s: u64 = number(env, "WEBHOOK_RETRY_AGE_S", RETRY_AGE_DEFAULT_S)?;
        let retry_age_ms = retry_age_s.saturating_mul(1000).max(TIMESTAMP_WINDOW_MS);
        if retry_age_ms > DEDUPLICATION_WINDOW_MS - LATE_EVENT_MS {
            let limit = (DEDUPLICATION_WINDOW_MS - LATE_EVENT_MS) / 1000;
            return Err(wrong("WEBHOOK_RETRY_AGE_S", format!("write at most {limit} seconds")));
        }
        let streams = StreamSettings {
            retention_ms: retention_ms(env)?,
            seal_bytes: number(env, "SEAL_BYTES", SEAL_BYTES_DEFAULT)?,
            seal_age_ms: number(env, "SEAL_AGE_S", SEAL_AGE_DEFAULT_S)?.saturating_mul(1000),
            hot_bytes_max: number(env, "HOT_TAIL_BYTES_MAX", HOT_TAIL_BYTES_MAX)?,
            multi_edge: choice(env, "MULTI_EDGE_MODE")?,
            edge_timeout_ms: number(env, "EDGE_TIMEOUT_MS", EDGE_TIMEOUT_DEFAULT_MS)?.max(1),
            retry_failed: is_on(env, "RETRY_FAILED_EVENTS", true)?,
        };
        let age_max_ms = number(env, "STREAM_AGE_MAX_S", STREAM_AGE_MS.1 / 1000)?.max(1) * 1000;
        Ok(Self {
            webhook_secrets,
            signing_keys,
            admin_token,
            retry_age_ms,
            retention_ms_by_organization: retention_by_organization(env, streams.retention_ms)?,
            streams,
            stream_age_ms: (STREAM_AGE_MS.0.min(age_max_ms / 2), age_max_ms),
            environment: optional(env, "ENVIRONMENT").unwrap_or_else(|| "local".into()),
            routing_strategy: choice(env, "ROUTING_STRATEGY")?,
            public_url: url(env, "PUBLIC_URL")?,
            linear: LinearSettings::read(env)?,
        })
    }

    /// The settings of one organization's streams, or of any before its organization is known.
    pub(crate) fn streams_of(&self, stream: Option<&StreamKey>) -> StreamSettings {
        let own = stream.and_then(|stream| {
            self.retention_ms_by_organization.get(&stream.organization).copied()
        });
        StreamSettings { retention_ms: own.unwrap_or(self.streams.retention_ms), ..self.streams }
    }

    /// How long events are kept.
    pub(crate) fn retention_ms(&self) -> u64 {
        self.streams.retention_ms
    }

    /// Compares in time that does not depend on where a difference lies.
    pub(crate) fn is_admin_token(&self, token: &str) -> bool {
        use subtle::ConstantTimeEq;
        self.admin_token.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

impl LinearSettings {
    /// Without a client id the relay answers nothing to Linear, and needs none of the others.
    fn read(env: &Env) -> Result<Option<Self>, Problem> {
        let Some(ids) = optional(env, "LINEAR_CLIENT_ID") else { return Ok(None) };
        let secrets = required(env, "LINEAR_CLIENT_SECRET")?;
        let list = |text: &str| -> Vec<String> {
            text.split(',').map(|part| part.trim().to_owned()).collect()
        };
        let (ids, secrets) = (list(&ids), list(&secrets));
        if ids.len() != secrets.len() || ids.iter().chain(&secrets).any(String::is_empty) {
            let message = "write one for each LINEAR_CLIENT_ID, in the same order";
            return Err(wrong("LINEAR_CLIENT_SECRET", message));
        }
        let apps = ids.into_iter().zip(secrets);
        Ok(Some(Self {
            apps: apps
                .map(|(client_id, client_secret)| LinearApp { client_id, client_secret })
                .collect(),
            url: url(env, "LINEAR_URL")?.unwrap_or_else(|| "https://linear.app".into()),
            api_url: url(env, "LINEAR_API_URL")?.unwrap_or_else(|| "https://api.linear.app".into()),
            token_keys: TokenKeys::parse(&required(env, "TOKEN_ENCRYPTION_KEY")?)
                .map_err(|error| wrong("TOKEN_ENCRYPTION_KEY", error))?,
            answer_after_ms: number(env, "ANSWER_AFTER_MS", ANSWER_AFTER_DEFAULT_MS)?,
            has_client_credentials: is_on(env, "LINEAR_CLIENT_CREDENTIALS", false)?,
        }))
    }

    /// The app with this client id, or the first.
    pub(crate) fn app(&self, client_id: Option<&str>) -> Option<&LinearApp> {
        match client_id {
            Some(id) => self.apps.iter().find(|app| app.client_id == id),
            None => self.apps.first(),
        }
    }
}

fn choice<T: FromStr<Err = String> + Default>(env: &Env, name: &str) -> Result<T, Problem> {
    optional(env, name)
        .map_or_else(|| Ok(T::default()), |text| text.parse().map_err(|error| wrong(name, error)))
}

fn is_on(env: &Env, name: &str, default: bool) -> Result<bool, Problem> {
    match optional(env, name).as_deref() {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(wrong(name, "write true or false")),
    }
}

/// The beginning of addresses: no slash at the end.
fn url(env: &Env, name: &str) -> Result<Option<String>, Problem> {
    let Some(text) = optional(env, name) else { return Ok(None) };
    let url = text.trim_end_matches('/');
    let is_local = url.starts_with("http://127.0.0.1:") || url.starts_with("http://localhost:");
    if url.starts_with("https://") || is_local {
        return Ok(Some(url.to_owned()));
    }
    Err(wrong(name, "write an address that begins with https://"))
}

fn retention_ms(env: &Env) -> Result<u64, Problem> {
    let days: f64 = number(env, "RETENTION_DAYS", RETENTION_DAYS_DEFAULT)?;
    days_ms(days)
        .ok_or_else(|| wrong("RETENTION_DAYS", "write a number of days above 0, at most 3650"))
}

fn days_ms(days: f64) -> Option<u64> {
    let is_possible = days > 0.0 && days <= 3650.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    is_possible.then_some((days * DAY_MS) as u64)
}

/// `organization=days`, separated by commas; shorter than for the others.
fn retention_by_organization(
    env: &Env,
    retention_ms: u64,
) -> Result<BTreeMap<OrganizationId, u64>, Problem> {
    let name = "RETENTION_DAYS_BY_ORGANIZATION";
    let text = optional(env, name).unwrap_or_default();
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (organization, days) = pair.split_once('=')?;
            let own_ms = days_ms(days.trim().parse().ok()?)?;
            Some((organization.trim().parse().ok()?, own_ms)).filter(|_| own_ms <= retention_ms)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| {
            wrong(
                name,
                "write organization=days, several separated by commas, each at most RETENTION_DAYS",
            )
        })
}

fn optional(env: &Env, name: &str) -> Option<String> {
    env.var(name).ok().map(|value| value.to_string()).filter(|value| !value.is_empty())
}

fn required(env: &Env, name: &str) -> Result<String, Problem> {
    optional(env, name)
        .ok_or_else(|| wrong(name, format!("not set: run 'wrangler secret put {name}'")))
}

fn number<T: FromStr>(env: &Env, name: &str, default: T) -> Result<T, Problem> {
    optional(env, name)
        .map_or(Ok(default), |text| text.parse().map_err(|_| wrong(name, "write a number")))
}

fn wrong(name: &str, what: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::Misconfigured, format!("{name}: {what}")).with("setting", name)
}
