mod kick;
mod storage;

use std::{cell::RefCell, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, select_all},
    stream::FuturesUnordered,
};
use relay_durable::{
    Effect, Installation, InstallationError, InstallationSettings, PersonStep, Wake, WorkClock,
};
use relay_schemas::{PersonQuery, Problem, UnixMillis, linear_api::LinearAnswer};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use worker::{Delay, DurableObject, Env, Error, Request, Response, Result, State, durable_object};

use self::{kick::Kick, storage::SqlInstallation};
use crate::{
    host, linear_client,
    log::{self, Level},
    metrics, respond,
    settings::{LinearSettings, Settings},
};

/// One organization's installation: a thin shell around [`Installation`]. Commands only store; the
/// alarm does what there is to do, so that a caller never waits for Linear. What is under way when
/// the object vanishes is found again by the next alarm, which is set before anything is begun.
#[durable_object(alarm)]
pub struct InstallationObject {
    state: State,
    env: Env,
    core: RefCell<Option<Core>>,
    kick: Kick,
    clock: RefCell<WorkClock>,
}

type Core = Installation<SqlInstallation>;
type Outcome<T> = std::result::Result<T, InstallationError<Error>>;

/// How long the work waits without a sign before it looks for more.
const LOOK_MS: u64 = 5_000;

/// When an alarm that failed is tried again.
const ALARM_RETRY_MS: u64 = 1_000;

/// How long a question about a person waits for new tokens, and how often it looks.
const PERSON_WAIT_MS: u64 = 8_000;
const PERSON_LOOK: Duration = Duration::from_millis(50);

/// A request that has ended.
struct Ended {
    effect: Effect,
    answer: Option<LinearAnswer>,
}

impl DurableObject for InstallationObject {
    fn new(state: State, env: Env) -> Self {
        Self {
            state,
            env,
            core: RefCell::new(None),
            kick: Kick::default(),
            clock: RefCell::default(),
        }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let body = request.text().await?;
        let path = request.path();
        let outcome = match path.as_str() {
            "/announce" => self.command(&body, |core, announce| {
                core.announce(&announce, host::now()).map(|()| received())
            }),
            "/report" => self.command(&body, |core, report| {
                core.report(&report, host::now()).map(|()| received())
            }),
            "/abandoned" => self.command(&body, |core, abandoned| {
                core.abandoned(&abandoned, host::now()).map(|()| received())
            }),
            "/activity" => self.command(&body, |core, activity| {
                core.activity(&activity, host::now(), &mut host::random_bytes)
            }),
            "/granted" => self.command(&body, |core, granted| {
                core.granted(&granted, host::now(), &mut host::random_bytes)?;
                Ok(received())
            }),
            "/revoked" => {
                self.command(&body, |core, revoked| Ok(core.revoked(&revoked, host::now())?))
            }
            "/told-of-end" => self.command(&body, |core, told| {
                core.told_of_end(&told)?;
                Ok(received())
            }),
            "/status" => return self.answer(self.with_core(|core| Ok(core.status(host::now())))),
            "/given-up" => {
                return self.answer(self.with_core(|core| Ok(core.given_up(host::now())?)));
            }
            "/person" => return self.person(&body).await,
            _ => return Response::error("no such command", 404),
        };
        self.wake().await?;
        if matches!(path.as_str(), "/granted" | "/revoked") {
            self.tell();
        }
        outcome
    }

    async fn alarm(&self) -> Result<Response> {
        let settings = Settings::of(&self.env);
        let is_configured = settings.is_ok_and(|settings| settings.linear.is_some());
        if !is_configured {
            // Nothing can be done before the next deployment, and the next command sets an alarm.
            self.clock.borrow_mut().reset();
            return Response::empty();
        }
        let next = self.clock.borrow_mut().begin(host::now());
        self.set_alarm(next).await?;
        if let Err(error) = self.work().await {
            self.fail(&error);
            // What was under way is given up with this value; a new one begins it again.
            self.core.replace(None);
        }
        self.tell();
        let next = self.clock.borrow_mut().end(self.next_alarm());
        match next {
            Some(at) => self.set_alarm(at).await?,
            None => self.state.storage().delete_alarm().await?,
        }
        Response::empty()
    }
}

fn received() -> serde_json::Value {
    json!({ "received": true })
}

impl InstallationObject {
    /// Runs a command on the loaded value, in one stretch without an await.
    fn with_core<T>(&self, run: impl FnOnce(&mut Core) -> Outcome<T>) -> Outcome<T> {
        let mut slot = self.core.borrow_mut();
        if slot.is_none() {
            *slot = Some(self.load()?);
        }
        let outcome = run(slot.as_mut().expect("just loaded"));
        if let Err(InstallationError::Storage(_)) = outcome {
            // What is in memory may be wrong now: the next call loads again.
            *slot = None;
        }
        outcome
    }

    fn load(&self) -> Outcome<Core> {
        let settings = Settings::of(&self.env).map_err(InstallationError::Refused)?;
        let linear = settings.linear.as_ref().ok_or_else(not_configured)?;
        let storage = SqlInstallation::open(self.state.storage().sql())?;
        let settings = InstallationSettings {
            keys: linear.token_keys.clone(),
            answer_after_ms: linear.answer_after_ms,
            event_kept_ms: settings.retention_ms(),
            has_client_credentials: linear.has_client_credentials,
        };
        Ok(Installation::load(storage, settings, &mut host::random_bytes)?)
    }

    fn command<C: DeserializeOwned, T: Serialize>(
        &self,
        body: &str,
        run: impl FnOnce(&mut Core, C) -> Outcome<T>,
    ) -> Result<Response> {
        let command: C = serde_json::from_str(body)?;
        self.answer(self.with_core(|core| run(core, command)))
    }

    fn answer<T: Serialize>(&self, outcome: Outcome<T>) -> Result<Response> {
        match outcome {
            Ok(value) => respond::json(200, &value).or_else(|problem| respond::problem(&problem)),
            Err(InstallationError::Refused(problem)) => respond::problem(&problem),
            Err(error @ InstallationError::Storage(_)) => {
                self.fail(&error);
                respond::problem(&respond::unavailable())
            }
        }
    }

    fn fail(&self, error: &InstallationError<Error>) {
        let error = Error::RustError(error.to_string());
        log::platform_error("installation_failed", "", &error);
    }

    /// Lets operators see what has happened. Nothing waits for it: the alarm's work is over, and a
    /// command that comes meanwhile sets the next.
    fn tell(&self) {
        // A core that has failed is loaded by whoever needs it, not to be counted.
        if self.core.borrow().is_none() {
            return;
        }
        match self.with_core(|core| Ok(core.news(host::now()))) {
            Ok(news) => {
                metrics::record(|delta| delta.merge(news.delta));
                if news.is_urgent || metrics::is_flush_due() {
                    let env = self.env.clone();
                    self.state.wait_until(async move { metrics::flush(&env).await });
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn next_alarm(&self) -> Option<UnixMillis> {
        match self.core.borrow().as_ref() {
            Some(core) => core.next_alarm(host::now()),
            // It has failed, and what it was about to do is only in storage.
            None => Some(host::now() + ALARM_RETRY_MS),
        }
    }

    /// A command may have left something to do.
    async fn wake(&self) -> Result<()> {
        let wake = self.clock.borrow_mut().wake(self.next_alarm(), host::now());
        match wake {
            Wake::Nothing => Ok(()),
            Wake::Kick => {
                self.kick.kick();
                Ok(())
            }
            Wake::Alarm(at) => self.set_alarm(at).await,
        }
    }

    async fn set_alarm(&self, at: UnixMillis) -> Result<()> {
        let delay_ms = at.since_ms(host::now()).max(1);
        let set = self.state.storage().set_alarm(Duration::from_millis(delay_ms)).await;
        if set.is_err() {
            self.clock.borrow_mut().reset();
        }
        set
    }

    /// Does what there is to do until nothing is under way, or it has worked long enough.
    async fn work(&self) -> Outcome<()> {
        let settings = Settings::of(&self.env).map_err(InstallationError::Refused)?;
        let linear = settings.linear.as_ref().ok_or_else(not_configured)?;
        let mut under_way = FuturesUnordered::new();
        loop {
            self.clock.borrow_mut().go_on(host::now());
            while let Some(effect) = self.next_effect()? {
                under_way.push(perform(linear, effect));
            }
            if under_way.is_empty() {
                return Ok(());
            }
            let next = self.with_core(|core| Ok(core.next_look(host::now())))?;
            if let Some(ended) = self.something(&mut under_way, next).await {
                self.note(ended)?;
            }
        }
    }

    fn next_effect(&self) -> Outcome<Option<Effect>> {
        let now = host::now();
        let pace = self.clock.borrow().pace(now);
        self.with_core(|core| Ok(core.next_effect_at(pace, now)?))
    }

    /// Waits until a request has ended, a command has come, or the time for more.
    async fn something<'a, F: Future<Output = Ended> + 'a>(
        &'a self,
        under_way: &'a mut FuturesUnordered<F>,
        next: Option<UnixMillis>,
    ) -> Option<Ended> {
        let until_next = next.map_or(LOOK_MS, |at| at.since_ms(host::now()).min(LOOK_MS));
        let wait = Duration::from_millis(until_next);
        let ended: LocalBoxFuture<'a, Option<Ended>> = under_way.next().boxed_local();
        let kicked = self.kick.wait().map(|()| None).boxed_local();
        let due = Delay::from(wait).map(|()| None).boxed_local();
        select_all([ended, kicked, due]).await.0
    }

    fn note(&self, ended: Ended) -> Outcome<()> {
        let Ended { effect, answer } = ended;
        if let Some(answer) = &answer
            && answer.status != 200
        {
            log::line(Level::Warn, "linear_refused", "", json!({ "status": answer.status }));
        }
        self.with_core(|core| {
            let (now, random) = (host::now(), &mut host::random_bytes);
            match effect {
                Effect::Call { request, .. } => {
                    core.called(request, answer.as_ref(), now, random)?
                }
                Effect::Refresh { request, app, .. } => {
                    core.refreshed((&app, request), answer.as_ref(), now, random)?;
                }
            }
            Ok(())
        })
    }

    /// Asks Linear who somebody is, with new tokens if it needs be.
    async fn person(&self, body: &str) -> Result<Response> {
        let query: PersonQuery = serde_json::from_str(body)?;
        let Ok(settings) = Settings::of(&self.env) else {
            return respond::problem(&respond::unavailable());
        };
        let Some(linear) = &settings.linear else {
            return self.answer::<()>(Err(not_configured()));
        };
        let end = host::now() + PERSON_WAIT_MS;
        while host::now() < end {
            let step = self.with_core(|core| Ok(core.person(&query.user, host::now())));
            let known = match step {
                Ok(PersonStep::Known(person)) => Some(Ok(person)),
                Ok(PersonStep::Refused(problem)) => Some(Err(problem)),
                Ok(PersonStep::Wait) => {
                    self.wake().await?;
                    Delay::from(PERSON_LOOK).await;
                    None
                }
                Ok(PersonStep::Ask { app, generation, token, body }) => {
                    let answer = linear_client::call(linear, &token, body).await;
                    let answered = self.with_core(|core| {
                        let from = (app.as_str(), generation);
                        Ok(core.person_answered(&query.user, from, answer.as_ref(), host::now())?)
                    });
                    match answered {
                        Ok(known) => known,
                        Err(error) => return self.answer::<()>(Err(error)),
                    }
                }
                Err(error) => return self.answer::<()>(Err(error)),
            };
            if let Some(known) = known {
                return self.answer(known.map_err(InstallationError::Refused));
            }
        }
        respond::problem(&respond::unavailable())
    }
}

async fn perform(linear: &LinearSettings, effect: Effect) -> Ended {
    let answer = match &effect {
        Effect::Call { token, body, .. } => linear_client::call(linear, token, body.clone()).await,
        Effect::Refresh { app, form, .. } => match linear.app(Some(app)) {
            Some(app) => linear_client::token(linear, app, form).await,
            None => {
                // Its client id is no longer in the settings: as if its secret were wrong.
                Some(LinearAnswer::new(401, r#"{"error":"app_not_configured"}"#))
            }
        },
    };
    Ended { effect, answer }
}

fn not_configured() -> InstallationError<Error> {
    let message = "LINEAR_CLIENT_ID is not set: the relay answers nothing to Linear";
    InstallationError::Refused(Problem::new(relay_schemas::ErrorCode::OauthNotConfigured, message))
}
