use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use relay_schemas::Channel;
use reqwest::Url;

use super::{
    arguments::Arguments,
    keys,
    sources::{ConfigError, Setting, Source, Sources, Stronger},
    values,
};
use crate::{
    connection::Transport,
    credential::{Credential, StoreChoice},
    handler::{ExecSettings, ForwardSettings},
    limits::{CONCURRENCY_MAX, OUTPUT_LINES_MAX, PERSIST_INTERVAL_MS},
    session::{OnFailure, Ordering, SessionSettings, Start},
};

/// What a client is to do, checked as far as that is possible without asking anybody.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The relay's base URL.
    pub relay: Setting<Url>,
    /// This machine's credential, when it is written down; else there may be a sign-in.
    pub credential: Option<Setting<Credential>>,
    /// Where sign-ins are kept.
    pub credential_store: Setting<StoreChoice>,
    /// Where the file of sign-ins and their lock are; `None` without a home.
    pub credential_directory: Option<PathBuf>,
    /// This machine's name.
    pub name: Option<Setting<String>>,
    /// How the stream is spoken.
    pub transport: Setting<Transport>,
    /// Which kinds; every kind when empty.
    pub kinds: Setting<Vec<String>>,
    /// Which channel; the credential's own person's without one.
    pub channel: Option<Setting<Channel>>,
    /// Whether events that the app itself caused are wanted, too.
    pub own: Setting<bool>,
    /// Where the first start reads from.
    pub start: Setting<Start>,
    /// What becomes of events.
    pub handler: Setting<HandlerSettings>,
    /// Handlers that may run at the same time.
    pub concurrency: Setting<usize>,
    /// Attempts at an event; 0 for no limit.
    pub attempts: Setting<u32>,
    /// What follows the last attempt.
    pub on_failure: Setting<OnFailure>,
    /// Whether the relay is told what becomes of events.
    pub reports: Setting<bool>,
    /// Whether the progress of a command is shown in the agent session.
    pub activities: Setting<bool>,
    /// The state's file.
    pub state: Setting<PathBuf>,
    /// Where the local server listens; `None` for nowhere.
    pub local: Setting<Option<SocketAddr>>,
    /// Seconds between heartbeats.
    pub heartbeat_s: Setting<u32>,
    /// How long running handlers may go on at the end.
    pub grace: Setting<Duration>,
    /// End when events are missing.
    pub fail_on_gap: Setting<bool>,
    /// End when caught up.
    pub exit_when_caught_up: Setting<bool>,
    /// What is logged.
    pub log: Setting<LogLevel>,
    /// Forget the stored cursor first.
    pub reset: bool,
}

/// What becomes of events.
#[derive(Clone, Debug)]
pub enum HandlerSettings {
    /// They are printed.
    Print,
    /// A command is run.
    Exec(ExecSettings),
    /// They are posted.
    Forward(ForwardSettings),
}

/// What goes to standard error.
pub type LogLevel = tracing::Level;

const TRANSPORTS: &[(&str, Transport)] =
    &[("ws", Transport::WebSocket), ("ndjson", Transport::Ndjson)];
const ON_FAILURE: &[(&str, OnFailure)] = &[("stop", OnFailure::Stop), ("skip", OnFailure::Skip)];
const STORES: &[(&str, StoreChoice)] =
    &[("auto", StoreChoice::Auto), ("keyring", StoreChoice::Keyring), ("file", StoreChoice::File)];
const OWN: &[(&str, bool)] = &[("include", true), ("exclude", false)];
const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::ERROR),
    ("warn", LogLevel::WARN),
    ("info", LogLevel::INFO),
    ("debug", LogLevel::DEBUG),
    ("trace", LogLevel::TRACE),
];

impl Settings {
    /// Reads the process' environment and the configuration file.
    pub fn read(arguments: &Arguments) -> Result<Self, ConfigError> {
        let environment = |name: &str| std::env::var(name).ok();
        let named =
            arguments.config.clone().or_else(|| environment("EDGERELAY_CONFIG").map(PathBuf::from));
        let path = named.clone().or_else(|| default_config_path(&environment));
        let text = match path.as_deref().map(std::fs::read_to_string) {
            Some(Ok(text)) => Some(text),
            Some(Err(error)) if named.is_none() && error.kind() == io::ErrorKind::NotFound => None,
            Some(Err(error)) => {
                let path = path.unwrap_or_default();
                return Err(ConfigError(format!("{} can't be read: {error}", path.display())));
            }
            None => None,
        };
        let file = path.as_deref().zip(text.as_deref());
        Self::resolve(arguments, &environment, file)
    }

    /// Reads settings from these sources only.
    pub fn resolve(
        arguments: &Arguments,
        environment: &dyn Fn(&str) -> Option<String>,
        file: Option<(&Path, &str)>,
    ) -> Result<Self, ConfigError> {
        let heeded = |name: &str| environment(name).filter(|_| arguments.heeds(name));
        let sources = Sources::new(&arguments.flags, &heeded, file)?;
        let relay = sources.required(&keys::RELAY, values::base_url)?;
        let credential = sources.optional(&keys::CREDENTIAL, Credential::parse)?;
        let grace = sources.or_default(&keys::GRACE, values::duration, Duration::from_secs(10))?;
        let handler = read_handler(&sources, grace.value)?;
        let is_printing = matches!(handler.value, HandlerSettings::Print);
        let is_exec = matches!(handler.value, HandlerSettings::Exec(_));
        let may_report = credential.as_ref().is_none_or(|known| known.value.may_report());
        Ok(Self {
            credential_store: sources.or_default(
                &keys::CREDENTIAL_STORE,
                values::choice(STORES),
                StoreChoice::Auto,
            )?,
            credential_directory: config_directory(environment),
            channel: sources.optional(&keys::CHANNEL, values::channel)?,
            own: sources.or_default(&keys::OWN, values::choice(OWN), false)?,
            activities: sources.or_default(
                &keys::ACTIVITIES,
                values::choice(values::SWITCH),
                is_exec,
            )?,
            name: sources.optional(&keys::NAME, values::header_text)?,
            transport: sources.or_default(
                &keys::TRANSPORT,
                values::choice(TRANSPORTS),
                Transport::WebSocket,
            )?,
            kinds: sources.or_default(&keys::KIND, values::kinds, Vec::new())?,
            start: read_start(&sources)?,
            concurrency: sources.or_default(
                &keys::CONCURRENCY,
                values::number(1, CONCURRENCY_MAX),
                1,
            )?,
            attempts: sources.or_default(&keys::ATTEMPTS, values::number(0, u32::MAX), 5)?,
            on_failure: sources.or_default(
                &keys::ON_FAILURE,
                values::choice(ON_FAILURE),
                OnFailure::Stop,
            )?,
            reports: sources.or_default(
                &keys::REPORT,
                values::choice(values::SWITCH),
                !is_printing && may_report,
            )?,
            state: sources.or_default(
                &keys::STATE,
                values::path,
                default_state_path(environment),
            )?,
            local: sources.or_default(
                &keys::LOCAL,
                values::local_address,
                Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            )?,
            heartbeat_s: sources.or_default(&keys::HEARTBEAT, values::number(5, 60), 15)?,
            grace,
            fail_on_gap: sources.or_default(
                &keys::FAIL_ON_GAP,
                values::choice(values::SWITCH),
                false,
            )?,
            exit_when_caught_up: sources.or_default(
                &keys::EXIT_WHEN_CAUGHT_UP,
                values::choice(values::SWITCH),
                false,
            )?,
            log: sources.or_default(&keys::LOG, values::choice(LEVELS), LogLevel::INFO)?,
            reset: arguments.reset,
            relay,
            credential,
            handler,
        })
    }

    /// The channel that is named, if any is.
    pub fn channel_named(&self) -> Option<Channel> {
        self.channel.as_ref().map(|channel| channel.value.clone())
    }

    /// How many events this machine can be given at once; `None` when whoever reads standard output
    /// knows that, and reports on them.
    fn capacity(&self) -> Option<usize> {
        let is_printing = matches!(self.handler.value, HandlerSettings::Print);
        match (self.reports.value, &self.reports.source) {
            (false, Source::Default) | (true, _) if is_printing => None,
            (true, _) => Some(self.concurrency.value),
            (false, _) => Some(0),
        }
    }

    /// What of this the session needs.
    pub fn session(&self) -> SessionSettings {
        let (ordering, concurrency) = match (&self.handler.value, self.concurrency.value) {
            (HandlerSettings::Print, _) => (Ordering::HandedOver, OUTPUT_LINES_MAX),
            (HandlerSettings::Exec(_) | HandlerSettings::Forward(_), 1) => (Ordering::Stream, 1),
            (HandlerSettings::Exec(_) | HandlerSettings::Forward(_), count) => {
                (Ordering::Lanes, count)
            }
        };
        // Lines are cheap to see twice after a crash; what a handler did should not be done twice.
        let is_printing = matches!(self.handler.value, HandlerSettings::Print);
        SessionSettings {
            start: self.start.value.clone(),
            ordering,
            concurrency,
            capacity: self.capacity(),
            attempts_max: Some(self.attempts.value).filter(|attempts| *attempts > 0),
            on_failure: self.on_failure.value,
            reports: self.reports.value,
            persist_interval_ms: if is_printing { PERSIST_INTERVAL_MS } else { 0 },
            fail_on_gap: self.fail_on_gap.value,
            exit_when_caught_up: self.exit_when_caught_up.value,
            activities: self.activities.value,
            stops: matches!(self.handler.value, HandlerSettings::Exec(_)),
            is_renewed: false,
            grace_ms: u64::try_from(self.grace.value.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn read_start(sources: &Sources<'_>) -> Result<Setting<Start>, ConfigError> {
    let since = sources.optional(&keys::SINCE, values::text)?;
    let tail = sources.optional(&keys::TAIL, values::number(0, u64::MAX))?;
    Ok(match Stronger::of(since, tail)? {
        Stronger::Left(since) if since.value == "earliest" => {
            Setting { value: Start::Earliest, source: since.source }
        }
        Stronger::Left(since) => Setting { value: Start::Since(since.value), source: since.source },
        Stronger::Right(tail) => Setting { value: Start::Tail(tail.value), source: tail.source },
        Stronger::Neither => Setting::default(Start::Earliest),
    })
}

fn read_handler(
    sources: &Sources<'_>,
    grace: Duration,
) -> Result<Setting<HandlerSettings>, ConfigError> {
    let exec = sources.optional(&keys::EXEC, values::text)?;
    let exec_timeout = sources.optional(&keys::EXEC_TIMEOUT, values::duration)?;
    let progress_fd = sources.or_default(&keys::PROGRESS_FD, values::number(3, 255), 3)?.value;
    let forward = sources.optional(&keys::FORWARD, values::url)?;
    let forward_timeout =
        sources.or_default(&keys::FORWARD_TIMEOUT, values::duration, Duration::from_secs(30))?;
    let (value, source) = match Stronger::of(exec, forward)? {
        Stronger::Left(Setting { value: command, source }) => {
            let timeout =
                exec_timeout.map(|timeout| timeout.value).filter(|timeout| !timeout.is_zero());
            (HandlerSettings::Exec(ExecSettings { command, timeout, grace, progress_fd }), source)
        }
        Stronger::Right(Setting { value: url, source }) => {
            let timeout = forward_timeout.value;
            (HandlerSettings::Forward(ForwardSettings { url, timeout }), source)
        }
        Stronger::Neither => (HandlerSettings::Print, Source::Default),
    };
    Ok(Setting { value, source })
}

fn default_config_path(environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    config_directory(environment).map(|directory| directory.join("config.toml"))
}

fn config_directory(environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    directory(environment, "XDG_CONFIG_HOME", "APPDATA", ".config")
        .map(|directory| directory.join("edgerelay"))
}

/// `$XDG_STATE_HOME`, on Windows `%LOCALAPPDATA%`, else `~/.local/state`, else here.
fn default_state_path(environment: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    directory(environment, "XDG_STATE_HOME", "LOCALAPPDATA", ".local/state")
        .unwrap_or_default()
        .join("edgerelay")
        .join("state.db")
}

fn directory(
    environment: &dyn Fn(&str) -> Option<String>,
    xdg: &str,
    windows: &str,
    below_home: &str,
) -> Option<PathBuf> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The specification: a relative path is to be ignored.
    set(xdg)
        .filter(|path| path.is_absolute())
        .or_else(|| set(windows).filter(|_| cfg!(windows)))
        .or_else(|| set("HOME").map(|home| home.join(below_home)))
}
