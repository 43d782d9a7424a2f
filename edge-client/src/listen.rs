use std::{io, net::SocketAddr, time::Duration};

use futures::{Stream, StreamExt};
use relay_schemas::Claims;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tracing::{info, warn};

use crate::{
    access::{Access, AccessError},
    client::{Client, ClientHandle},
    clock::wall,
    config::{HandlerSettings, Settings, Source},
    connection::{HttpConnector, StreamRequest, Transport},
    courier::Courier,
    fault::Exit,
    handler::{ExecHandler, ForwardHandler, Handler, WriteHandler},
    local_server::{self, LocalState},
    relay::{self, Relay},
    reporter::Reporter,
    session::{Restored, SessionSettings, Start},
    store::{Keeper, KeeperThread, Store, StoreError, StreamIdentity},
};

/// How long the last reports may take when the client ends; the rest waits for the next start.
const LAST_REPORTS_TIMEOUT: Duration = Duration::from_secs(3);

/// A client can't start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The state.
    #[error("the state {path}: {error}")]
    State {
        /// Its file.
        path: String,
        /// What is wrong.
        error: StoreError,
    },
    /// The local server's address.
    #[error(
        "can't listen at {address}: {error}; choose another with --local ADDRESS, or --local off"
    )]
    Local {
        /// Which.
        address: SocketAddr,
        /// What is wrong.
        error: io::Error,
    },
    /// There is no credential.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// HTTP or TLS.
    #[error("can't set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
    /// A thread.
    #[error("can't start: {0}")]
    Thread(#[from] io::Error),
}

impl ListenError {
    /// The process' exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::State { error: StoreError::Locked, .. } => 6,
            Self::State { .. } | Self::Http(_) | Self::Thread(_) => 1,
            Self::Local { .. } => 2,
            Self::Access(error) => error.code(),
        }
    }
}

/// Receives events until it is told to end or must. The first item of `shutdown` ends it with
/// its grace, the second at once.
pub async fn listen(
    settings: Settings,
    shutdown: impl Stream<Item = ()> + Send + 'static,
) -> Result<Exit, ListenError> {
    match settings.handler.value.clone() {
        HandlerSettings::Print => {
            listen_with(settings, WriteHandler::new(io::stdout())?, shutdown).await
        }
        HandlerSettings::Exec(exec) => {
            // Also where nothing can be shown: what ends the turn then becomes the report's message.
            let takes_progress = settings.activities.value;
            listen_with(settings, ExecHandler::new(exec, takes_progress), shutdown).await
        }
        HandlerSettings::Forward(forward) => {
            listen_with(settings, ForwardHandler::new(forward)?, shutdown).await
        }
    }
}

/// Like [`listen`], with a handler of one's own.
pub async fn listen_with<H: Handler>(
    settings: Settings,
    handler: H,
    shutdown: impl Stream<Item = ()> + Send + 'static,
) -> Result<Exit, ListenError> {
    let relay = Relay::new(&settings.relay.value);
    let access = Access::open(&settings).await?;
    let credential = access.credential();
    let (http, courier) = (relay::http(&settings, &access)?, Courier::new(&settings, &access)?);
    let edge = credential.claims().sub.clone();
    let (keeper, keeper_thread, restored) =
        open_state(&settings, &relay, credential.claims()).await?;
    announce(&settings, &access, &restored);
    let session_settings = session_settings(&settings, &access);
    let request = stream_request(&settings, &relay, session_settings.capacity);
    let (client, handle) = Client::new(
        session_settings,
        restored,
        HttpConnector::new(http, request),
        handler,
        (keeper.clone(), keeper_thread),
    );
    // Ends with this future, also when it is dropped.
    let mut beside = JoinSet::new();
    if let Some(address) = settings.local.value {
        let local = LocalState {
            handle: handle.clone(),
            keeper: keeper.clone(),
            relay: relay.base().to_owned(),
            edge,
        };
        start_local(address, local, &mut beside).await?;
    }
    beside.spawn(pass_on(shutdown, handle.clone()));
    let (finish, finishing) = watch::channel(false);
    let reporter = Reporter::new(courier, keeper);
    let mut reports = JoinSet::new();
    reports.spawn(reporter.run(handle, finishing));
    let (exit, keeper_thread) = client.run(std::future::pending()).await;
    finish.send_replace(true);
    if timeout(LAST_REPORTS_TIMEOUT, reports.join_next()).await.is_err() {
        info!("some status reports wait for the next start");
    }
    access.settled().await;
    // The file is free for the next client when this one has ended.
    keeper_thread.join();
    Ok(exit)
}

async fn pass_on(shutdown: impl Stream<Item = ()>, handle: ClientHandle) {
    let mut shutdown = std::pin::pin!(shutdown);
    while shutdown.next().await.is_some() {
        handle.shutdown().await;
    }
}

async fn open_state(
    settings: &Settings,
    relay: &Relay,
    claims: &Claims,
) -> Result<(Keeper, KeeperThread, Restored), ListenError> {
    let path = settings.state.value.clone();
    let shown = path.display().to_string();
    let is_reset = settings.reset;
    let identity = StreamIdentity::of(relay.base(), claims, settings.channel_named());
    // Waits for the disk, and up to a second for a client that is just ending.
    let opened = tokio::task::spawn_blocking(move || {
        let (mut store, mut restored) = Store::open(&path, &identity)?;
        if is_reset {
            store.reset()?;
            restored = Restored::default();
        }
        let (keeper, thread) = Keeper::start(store)?;
        Ok((keeper, thread, restored))
    });
    let opened = opened.await.map_err(io::Error::other)?;
    opened.map_err(|error| ListenError::State { path: shown, error })
}

fn stream_request(settings: &Settings, relay: &Relay, capacity: Option<usize>) -> StreamRequest {
    // Under a filter, only heartbeats say that everything else was passed over, and a WebSocket
    // need not have any.
    let needs_heartbeats = settings.exit_when_caught_up.value && !settings.kinds.value.is_empty();
    StreamRequest {
        url: relay.route("/events/stream"),
        transport: if needs_heartbeats { Transport::Ndjson } else { settings.transport.value },
        kinds: settings.kinds.value.clone(),
        channel: settings.channel_named(),
        own: settings.own.value,
        heartbeat_s: if needs_heartbeats { 5 } else { settings.heartbeat_s.value },
        capacity,
    }
}

async fn start_local(
    address: SocketAddr,
    state: LocalState,
    beside: &mut JoinSet<()>,
) -> Result<(), ListenError> {
    let (listener, address) =
        local_server::bind(address).await.map_err(|error| ListenError::Local { address, error })?;
    // Not a log line: scripts look for it, whatever the log level.
    eprintln!("local http://{address}");
    beside.spawn(async move {
        if let Err(error) = local_server::serve(listener, state).await {
            warn!("the local server ended: {error}");
        }
    });
    Ok(())
}

/// What the settings and the credential together mean for the session.
fn session_settings(settings: &Settings, access: &Access) -> SessionSettings {
    let may_report = access.credential().may_report();
    let may_write = access.credential().may_write_activities();
    let is_asked = |source: &Source| *source != Source::Default;
    let session = settings.session();
    SessionSettings {
        // Nobody here can report, whoever reads.
        capacity: if may_report { session.capacity } else { Some(0) },
        reports: settings.reports.value && (may_report || is_asked(&settings.reports.source)),
        activities: settings.activities.value
            && (may_write || is_asked(&settings.activities.source)),
        is_renewed: access.is_renewed(),
        ..session
    }
}

fn announce(settings: &Settings, access: &Access, restored: &Restored) {
    let relay = &settings.relay.value;
    let credential = access.credential();
    info!("relay {relay}, {}", credential.summary(wall()));
    let is_loopback = relay.host_str().is_some_and(local_server::is_loopback_host);
    if relay.scheme() == "http" && !is_loopback {
        warn!("the credential travels unencrypted: use https, as in https://relay.example.com");
    }
    let is_asked = settings.reports.value && settings.reports.source != Source::Default;
    if is_asked && !credential.may_report() {
        warn!("the credential lacks the scope write:status: the relay will not take reports");
    }
    if settings.activities.value && !credential.may_write_activities() {
        info!("the credential lacks the scope write:activity: progress of handlers is not shown");
    }
    match (restored.cursor, &settings.start.value) {
        (Some(cursor), _) => {
            info!("going on after the stored cursor {cursor}");
            if settings.start.source != Source::Default {
                info!("{} is for a first start; --reset makes one", settings.start.source);
            }
        }
        (None, Start::Earliest) => info!("first start: from the oldest event that the relay keeps"),
        (None, Start::Since(since)) => info!("first start: since {since}"),
        (None, Start::Tail(count)) => info!("first start: {count} events before the newest"),
    }
}
