//! Runs a client inside the test.

use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use edgerelay::{
    Arguments, Completion, Event, Exit, Handler, ListenError, Outcome, Settings, listen,
    listen_with,
};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use relay_schemas::{Claims, EventId, Scope, SigningKeys};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::fake_relay::FakeRelay;

/// Longer than anything here takes; reached only by a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for what must come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("what the test waits for never came")
}

pub(crate) fn credential(edge: &str) -> String {
    credential_until(edge, 4_000_000_000)
}

/// One that may do only this.
pub(crate) fn credential_for(edge: &str, scopes: &[Scope]) -> String {
    issue(edge, scopes, 4_000_000_000)
}

/// One that expires at this second. Each has another signature.
pub(crate) fn credential_until(edge: &str, exp: u64) -> String {
    issue(edge, &Scope::DEFAULT, exp)
}

fn issue(edge: &str, scopes: &[Scope], exp: u64) -> String {
    static ISSUED: AtomicU64 = AtomicU64::new(0);
    let claims = Claims {
        sub: edge.parse().unwrap(),
        org: "org-1".parse().unwrap(),
        user: "u-1".parse().unwrap(),
        name: None,
        scopes: scopes.to_vec(),
        channels: Vec::new(),
        generation: None,
        iat: ISSUED.fetch_add(1, Ordering::Relaxed),
        exp,
    };
    SigningKeys::parse("k1:sixteen-characters").unwrap().issue(&claims)
}

/// Settings for a client of this relay with this state.
pub(crate) fn settings(relay: &FakeRelay, state: &Path, flags: &[&str]) -> Settings {
    settings_as(&credential("edge_1"), relay, state, flags)
}

/// The same with this credential.
pub(crate) fn settings_as(
    credential: &str,
    relay: &FakeRelay,
    state: &Path,
    flags: &[&str],
) -> Settings {
    settings_with(relay, state, flags, ("EDGE_API_KEY", credential))
}

/// Settings for a client that has nothing but the sign-in in this directory.
pub(crate) fn signed_in(
    relay: &FakeRelay,
    state: &Path,
    directory: &Path,
    flags: &[&str],
) -> Settings {
    signed_in_with("file", relay, state, directory, flags)
}

/// The same with the sign-in in this store.
pub(crate) fn signed_in_with(
    store: &str,
    relay: &FakeRelay,
    state: &Path,
    directory: &Path,
    flags: &[&str],
) -> Settings {
    let flags = [flags, &["--credential-store", store]].concat();
    settings_with(relay, state, &flags, ("XDG_CONFIG_HOME", directory.to_str().unwrap()))
}

fn settings_with(
    relay: &FakeRelay,
    state: &Path,
    flags: &[&str],
    (name, value): (&str, &str),
) -> Settings {
    let environment = BTreeMap::from([
        ("PROXY_URL".to_owned(), relay.url()),
        (name.to_owned(), value.to_owned()),
        ("EDGERELAY_STATE".to_owned(), state.display().to_string()),
        ("EDGERELAY_LOCAL".to_owned(), "off".to_owned()),
    ]);
    let arguments = Arguments::parse(["edgerelay", "listen"].iter().chain(flags)).unwrap();
    Settings::resolve(&arguments, &|name| environment.get(name).cloned(), None).unwrap()
}

/// A client that runs.
pub(crate) struct Running {
    task: JoinHandle<Result<Exit, ListenError>>,
    shutdown: UnboundedSender<()>,
}

impl Running {
    pub(crate) fn start<H: Handler + 'static>(settings: Settings, handler: H) -> Self {
        let (shutdown, requests) = unbounded();
        let task = tokio::spawn(listen_with(settings, handler, requests));
        Self { task, shutdown }
    }

    /// With the handler that the settings name.
    pub(crate) fn start_as_set(settings: Settings) -> Self {
        let (shutdown, requests) = unbounded();
        Self { task: tokio::spawn(listen(settings, requests)), shutdown }
    }

    pub(crate) fn ask_to_end(&self) {
        self.shutdown.unbounded_send(()).unwrap();
    }

    pub(crate) async fn stop(self) -> Exit {
        self.ask_to_end();
        self.exit().await
    }

    pub(crate) async fn exit(self) -> Exit {
        self.result().await.unwrap()
    }

    pub(crate) async fn result(self) -> Result<Exit, ListenError> {
        within(self.task).await.unwrap()
    }

    /// Ends it as `kill -9` would: nothing is told, written or finished. The state's thread may
    /// still finish the commit that it is at, as a disk would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Remembers what it was given.
#[derive(Clone)]
pub(crate) struct Recorder {
    events: Arc<Mutex<Vec<EventId>>>,
    count: watch::Sender<usize>,
    held: Arc<Mutex<Option<Vec<Completion>>>>,
}

impl Recorder {
    /// Finishes every event at once.
    pub(crate) fn new() -> Self {
        Self { events: Arc::default(), count: watch::Sender::new(0), held: Arc::default() }
    }

    /// Finishes nothing until it is told to.
    pub(crate) fn holding() -> Self {
        let recorder = Self::new();
        *recorder.held.lock().unwrap() = Some(Vec::new());
        recorder
    }

    pub(crate) fn release(&self) {
        for completion in self.held.lock().unwrap().take().into_iter().flatten() {
            completion.finish(Outcome::Succeeded);
        }
    }

    pub(crate) fn events(&self) -> Vec<EventId> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        within(self.count.subscribe().wait_for(|seen| *seen >= count)).await.unwrap();
    }
}

impl Handler for Recorder {
    fn start(&mut self, event: Event, _attempt: u32, completion: Completion) {
        let count = {
            let mut events = self.events.lock().unwrap();
            events.push(event.id());
            events.len()
        };
        match &mut *self.held.lock().unwrap() {
            Some(held) => held.push(completion),
            None => completion.finish(Outcome::Succeeded),
        }
        self.count.send_replace(count);
    }

    async fn abandon(&mut self) {
        self.held.lock().unwrap().take();
    }
}

/// A directory for a state, and the state's path in it.
pub(crate) fn state() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    (directory, path)
}
