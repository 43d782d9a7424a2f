use relay_durable::{Approver, DeviceDecision, DeviceGrant, Edge, Guesses, SignIn, code_unknown};
use relay_schemas::{
    DeviceRequest, EdgeId, Problem, TokenError, UnixMillis, limits::DEVICE_CODE_MS,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use worker::{
    DurableObject, Env, Error, Request, Response, Result, ScheduledTime, SqlStorageValue as Value,
    State, durable_object,
};

use crate::{host, respond};

/// One short-lived thing: a sign-in on its way through Linear (`state:<digest>`), a machine that
/// waits to be approved (`device:<user code>`), or the codes that a person has tried
/// (`guesses:<organization>/<user>`). Deletes itself.
#[durable_object]
pub struct SignInObject {
    state: State,
    _env: Env,
}

/// `/sign-in/take`
#[derive(Serialize, Deserialize)]
pub(crate) struct Take {
    /// The secret in the browser's cookie.
    pub(crate) browser: String,
}

/// `/device/decide`
#[derive(Serialize, Deserialize)]
pub(crate) struct Decide {
    pub(crate) approver: Approver,
    pub(crate) decision: DeviceDecision,
}

/// `/device/poll`
#[derive(Serialize, Deserialize)]
pub(crate) struct Poll {
    /// The device code's second part.
    pub(crate) secret: String,
}

/// The answer to `/device/begin`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Begun {
    /// Another machine waits with this code.
    pub(crate) is_taken: bool,
}

/// The answer to `/device/look` and `/device/claim`.
#[derive(Serialize, Deserialize)]
pub(crate) struct WaitingMachine {
    pub(crate) edge: EdgeId,
    pub(crate) request: DeviceRequest,
}

/// The answer to `/device/poll`: the machine, or the `error` of a token answer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Polled {
    pub(crate) edge: Option<Edge>,
    pub(crate) error: Option<String>,
}

type Outcome = Result<std::result::Result<Response, Problem>>;

impl DurableObject for SignInObject {
    fn new(state: State, env: Env) -> Self {
        Self { state, _env: env }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let body = request.text().await?;
        let outcome = match request.path().as_str() {
            "/sign-in/begin" => self.begin_sign_in(&body).await?,
            "/sign-in/take" => self.take_sign_in(&body)?,
            "/device/begin" => self.begin_device(&body).await?,
            "/device/look" => self.look(&body, |grant, approver, now| grant.look(approver, now))?,
            "/device/claim" => self.look(&body, DeviceGrant::claim)?,
            "/device/decide" => self.decide(&body)?,
            "/device/poll" => self.poll(&body)?,
            "/guess" => self.guess().await?,
            _ => return Response::error("no such command", 404),
        };
        outcome.or_else(|problem| respond::problem(&problem))
    }

    async fn alarm(&self) -> Result<Response> {
        self.state.storage().delete_all().await?;
        Response::empty()
    }
}

impl SignInObject {
    async fn begin_sign_in(&self, body: &str) -> Outcome {
        let sign_in: SignIn = serde_json::from_str(body)?;
        self.save(&sign_in)?;
        self.end_at(sign_in.expires_at).await?;
        Ok(respond::json(200, &json!({})))
    }

    /// The sign-in is gone before it is answered: a callback that comes twice finds it once.
    fn take_sign_in(&self, body: &str) -> Outcome {
        let take: Take = serde_json::from_str(body)?;
        let mut place: Option<SignIn> = self.load()?;
        let taken = SignIn::take(&mut place, &take.browser, host::now());
        if taken.is_ok() {
            self.state.storage().sql().exec("DELETE FROM record", None)?;
        }
        Ok(taken.and_then(|sign_in| respond::json(200, &sign_in)))
    }

    async fn begin_device(&self, body: &str) -> Outcome {
        let grant: DeviceGrant = serde_json::from_str(body)?;
        let known: Option<DeviceGrant> = self.load()?;
        if known.is_some_and(|known| !known.is_over(host::now())) {
            return Ok(respond::json(200, &Begun { is_taken: true }));
        }
        self.save(&grant)?;
        // Later than its end, so that the machine is told that it is over.
        self.end_at(grant.expires_at + DEVICE_CODE_MS).await?;
        Ok(respond::json(200, &Begun { is_taken: false }))
    }

    fn look(
        &self,
        body: &str,
        run: impl FnOnce(&mut DeviceGrant, &Approver, UnixMillis) -> std::result::Result<(), Problem>,
    ) -> Outcome {
        let approver: Approver = serde_json::from_str(body)?;
        let Some(mut grant) = self.load::<DeviceGrant>()? else { return Ok(Err(code_unknown())) };
        let before = grant.clone();
        if let Err(problem) = run(&mut grant, &approver, host::now()) {
            return Ok(Err(problem));
        }
        if grant != before {
            self.save(&grant)?;
        }
        Ok(respond::json(200, &WaitingMachine { edge: grant.edge, request: grant.request }))
    }

    fn decide(&self, body: &str) -> Outcome {
        let decide: Decide = serde_json::from_str(body)?;
        let Some(mut grant) = self.load::<DeviceGrant>()? else { return Ok(Err(code_unknown())) };
        if let Err(problem) = grant.decide(&decide.approver, decide.decision, host::now()) {
            return Ok(Err(problem));
        }
        self.save(&grant)?;
        Ok(respond::json(200, &json!({})))
    }

    fn poll(&self, body: &str) -> Outcome {
        let poll: Poll = serde_json::from_str(body)?;
        let polled = match self.load::<DeviceGrant>()? {
            None => Err(TokenError::InvalidGrant(None)),
            Some(mut grant) => {
                let before = grant.clone();
                let polled = grant.poll(&poll.secret, host::now());
                if grant != before {
                    self.save(&grant)?;
                }
                polled
            }
        };
        let polled = match polled {
            Ok(edge) => Polled { edge: Some(edge), error: None },
            Err(error) => Polled { edge: None, error: Some(error.as_str().into()) },
        };
        Ok(respond::json(200, &polled))
    }

    async fn guess(&self) -> Outcome {
        let mut guesses: Guesses = self.load()?.unwrap_or_default();
        if let Err(problem) = guesses.spend(host::now()) {
            return Ok(Err(problem));
        }
        self.save(&guesses)?;
        self.end_at(guesses.ends_at()).await?;
        Ok(respond::json(200, &json!({})))
    }

    /// An object that nothing was ever put into stores nothing, whoever asks it.
    fn load<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let sql = self.state.storage().sql();
        let tables = sql.exec("SELECT name FROM sqlite_master WHERE name = 'record'", None)?;
        if tables.raw().next().transpose()?.is_none() {
            return Ok(None);
        }
        match sql.exec("SELECT record FROM record", None)?.raw().next().transpose()?.as_deref() {
            None => Ok(None),
            Some([Value::String(text)]) => Ok(Some(serde_json::from_str(text)?)),
            Some(_) => Err(Error::RustError("a stored sign-in can't be read".into())),
        }
    }

    fn save(&self, record: &impl Serialize) -> Result<()> {
        let sql = self.state.storage().sql();
        let schema = "CREATE TABLE IF NOT EXISTS record
            (id INTEGER PRIMARY KEY CHECK (id = 1), record TEXT NOT NULL)";
        sql.exec(schema, None)?;
        let record = vec![Value::String(serde_json::to_string(record)?)];
        sql.exec("INSERT OR REPLACE INTO record (id, record) VALUES (1, ?)", record)?;
        Ok(())
    }

    async fn end_at(&self, at: UnixMillis) -> Result<()> {
        let delay = std::time::Duration::from_millis(at.since_ms(host::now()).max(1));
        self.state.storage().set_alarm(ScheduledTime::from(delay)).await
    }
}
