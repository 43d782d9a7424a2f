//! Goal: a secret is exchanged under traffic, in the steps that an operator takes (the new one is
//! added in front, what signs with it changes over, the old one is removed), and nobody is
//! refused, nothing is lost, and in the end the old one opens nothing.
//!
//! Method: a restart with other settings stands for a deployment. A Linear of one's own sends
//! webhooks all the time; what a restart refuses comes again with its retries, which are ten times
//! as early as Linear's. The real client, signed in, reads and works on every session; another
//! machine refreshes its tokens twice a second. What Linear, the client and the machine were
//! answered is looked through for refusals. That the client's access token is nearly an hour old is
//! brought about in its file.
//!
//! What this can't show: a deployment kills nothing. Here the process dies, and with it the local
//! queue, which is in memory, unlike the platform's. So before each restart webhooks are held back
//! until every session that was announced has its first word, which comes after the queue's work;
//! they are released when the old process is gone, into a port that nobody listens on.

#![allow(clippy::unwrap_used)]

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use relay_schemas::{Claims, ErrorCode, SigningKeys, UnixMillis};
use relay_tests::{
    Answer, RelayOptions, SECRET_CURRENT, SIGNING_KEYS, Scene, SignedWebhook, TOKEN_KEY,
    client_binary,
    linear::{FakeLinear, LinearOptions, Outcome, SessionStatus, WebhookOptions},
    now_ms, until,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
    time::sleep,
};

const SESSION_EVERY: Duration = Duration::from_millis(200);
const REFRESH_EVERY: Duration = Duration::from_millis(500);
/// So many sessions pass between two steps.
const SESSIONS_BETWEEN: usize = 6;
const SECRET_NEW: &str = "lin_whs_new";
const SIGNING_KEY_NEW: &str = "k3:third-signing-key-0123456789";
const TOKEN_KEY_NEW: &str = "k2:YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=";
const HANDLER: &str = "sleep 0.2; echo Done.";

/// Traffic that goes on whatever happens to the relay.
struct Traffic {
    is_over: Arc<AtomicBool>,
    sessions: Arc<Mutex<Vec<String>>>,
    people: JoinHandle<()>,
    machine: JoinHandle<Machine>,
    client: Listening,
}

/// The real client, signed in as a machine of Bob's.
struct Listening {
    directory: TempDir,
    relay: String,
    /// Its stream.
    stream: String,
    process: Child,
}

/// A machine that was signed in.
struct Machine {
    http: Client,
    url: String,
    tokens: Value,
    refreshes: usize,
}

impl Machine {
    /// The next pair, and what it opens. A relay that is away is asked again, with the same token.
    async fn refresh(&mut self) {
        let token = self.tokens["refresh_token"].as_str().unwrap();
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let request = self.http.post(format!("{}/device/token", self.url)).form(&form);
        let Ok(answer) = request.send().await else { return };
        let (status, body) = (answer.status().as_u16(), answer.text().await);
        let Ok(body) = body else { return };
        assert!(!(400..500).contains(&status), "a refresh was refused: {status} {body}");
        if status != 200 {
            return;
        }
        self.tokens = serde_json::from_str(&body).unwrap();
        self.refreshes += 1;
        let access = self.tokens["access_token"].as_str().unwrap();
        let request = self.http.get(format!("{}/machines/self", self.url)).bearer_auth(access);
        if let Ok(answer) = request.send().await {
            assert!(!answer.status().is_client_error(), "{}", answer.status());
        }
    }
}

impl Traffic {
    async fn start(scene: &Scene) -> Self {
        let members = [scene.ada.as_str(), &scene.bob];
        scene.linear.add_team(&scene.acme, ("ENG", "Engineering"), &members, false).unwrap();
        let (is_over, sessions) = (Arc::<AtomicBool>::default(), Arc::default());
        let mut browser = scene.signed_in(&scene.ada).await;
        let machine = Machine {
            http: scene.relay.http.clone(),
            url: scene.relay.url.clone(),
            tokens: scene.machine(&mut browser, "desk").await,
            refreshes: 0,
        };
        Self {
            people: tokio::spawn(delegate_on(
                (scene.linear.clone(), scene.bob.clone()),
                Arc::clone(&sessions),
                Arc::clone(&is_over),
            )),
            machine: tokio::spawn(refresh_on(machine, Arc::clone(&is_over))),
            is_over,
            sessions,
            client: Listening::start(scene).await,
        }
    }

    fn sessions(&self) -> Vec<String> {
        self.sessions.lock().unwrap().clone()
    }

    /// Lets some traffic pass and be worked on, with nobody refused.
    async fn flow(&mut self, scene: &Scene) {
        let begun = self.sessions().len() + SESSIONS_BETWEEN;
        until("more sessions", async || (self.sessions().len() >= begun).then_some(())).await;
        self.until_finished(scene, begun).await;
        assert!(!self.machine.is_finished(), "the machine was refused");
        assert!(self.client.process.try_wait().unwrap().is_none(), "the client has ended");
    }

    /// Waits until these many sessions have been worked on.
    async fn until_finished(&self, scene: &Scene, count: usize) {
        let finished = async || {
            hurry(&scene.linear);
            let sessions = self.sessions();
            let mut views = sessions.iter().take(count).map(|id| scene.linear.session(id).unwrap());
            views.all(|view| view.status == SessionStatus::Complete).then_some(())
        };
        until("every session's end", finished).await;
    }

    /// Ends the traffic and looks at what everybody was answered.
    async fn end(mut self, scene: &Scene) -> Machine {
        self.is_over.store(true, Ordering::Relaxed);
        self.people.await.unwrap();
        let machine = self.machine.await.unwrap();
        let sessions = self.sessions.lock().unwrap().clone();
        until("everything to be finished", async || {
            hurry(&scene.linear);
            let is_finished = sessions
                .iter()
                .all(|id| scene.linear.session(id).unwrap().status == SessionStatus::Complete);
            is_finished.then_some(())
        })
        .await;
        assert!(self.client.process.try_wait().unwrap().is_none(), "the client has ended");
        for id in &sessions {
            let said = scene.linear.session(id).unwrap().activities;
            let responses = said.iter().filter(|one| one.kind == "response").count();
            assert_eq!(responses, 1, "{said:?}");
        }
        let deliveries = scene.linear.deliveries();
        assert_eq!(deliveries.len(), sessions.len());
        assert_eq!(scene.relay.stream_length(&self.client.stream).await, sessions.len() as u64);
        let mut repeated = 0;
        for delivery in &deliveries {
            assert_eq!(delivery.outcome, Outcome::Delivered, "{:?}", delivery.attempts);
            for attempt in &delivery.attempts {
                assert!(!matches!(attempt.status, Some(400..500)), "{:?}", delivery.attempts);
            }
            repeated += usize::from(delivery.attempts.len() > 1);
        }
        assert!(repeated > 0, "no restart refused anything: the test has shown less than it says");
        let requests = scene.linear.requests();
        let failed: Vec<_> = requests.iter().filter(|request| request.error.is_some()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        let refusals = ErrorCode::ALL.iter().filter(|code| matches!(code.status(), 401 | 403));
        for code in refusals {
            for log in [self.client.log(), scene.relay.log()] {
                assert!(!log.contains(code.as_str()), "{} in {log}", code.as_str());
            }
        }
        println!(
            "{} sessions, each answered once; {repeated} webhooks sent again; {} refreshes",
            sessions.len(),
            machine.refreshes
        );
        assert!(machine.refreshes > 5, "{}", machine.refreshes);
        machine
    }
}

impl Listening {
    async fn start(scene: &Scene) -> Self {
        let mut browser = scene.signed_in(&scene.bob).await;
        let tokens = scene.machine(&mut browser, "laptop").await;
        let directory = tempfile::tempdir().unwrap();
        let relay = scene.relay.url.clone();
        let stream = format!("{}/user:{}", scene.acme, scene.bob);
        sign_in(directory.path(), &relay, &tokens);
        let process = listen(directory.path(), &relay);
        Self { directory, relay, stream, process }
    }

    /// An hour passes for it: its access token is about to expire, and it dials.
    async fn renew(&mut self) {
        let pid = self.process.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
        assert_eq!(self.process.wait().await.unwrap().code(), Some(0));
        let mut tokens = signed_in(self.directory.path(), &self.relay);
        let old = tokens["access_token"].as_str().unwrap().to_owned();
        let keys = SigningKeys::parse(SIGNING_KEYS).unwrap();
        let mut claims: Claims = keys.read(&old, UnixMillis::new(now_ms())).unwrap();
        claims.exp = now_ms() / 1000 + 60;
        tokens["access_token"] = keys.issue(&claims).into();
        sign_in(self.directory.path(), &self.relay, &tokens);
        self.process = listen(self.directory.path(), &self.relay);
        until("the client's next tokens", async || {
            let now = signed_in(self.directory.path(), &self.relay);
            (now["refresh_token"] != tokens["refresh_token"]).then_some(())
        })
        .await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("client.log")).unwrap()
    }
}

fn listen(directory: &Path, relay: &str) -> Child {
    let log = directory.join("client.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    Command::new(client_binary())
        .args(["listen", "--exec", HANDLER, "--concurrency", "4", "--local", "off"])
        .arg("--state")
        .arg(directory.join("client.db"))
        .env("PROXY_URL", relay)
        .env("XDG_CONFIG_HOME", directory)
        .env("EDGERELAY_CREDENTIAL_STORE", "file")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn credentials_file(directory: &Path) -> PathBuf {
    directory.join("edgerelay").join("credentials.json")
}

/// Leaves what `edgerelay login` does.
fn sign_in(directory: &Path, relay: &str, tokens: &Value) {
    let file = credentials_file(directory);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let entry = json!({
        "access_token": tokens["access_token"], "refresh_token": tokens["refresh_token"],
    });
    let content = json!({ "version": 1, "relays": { relay: entry } });
    std::fs::write(&file, content.to_string()).unwrap();
    for (path, mode) in [(file.as_path(), 0o600), (file.parent().unwrap(), 0o700)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn signed_in(directory: &Path, relay: &str) -> Value {
    let content = std::fs::read_to_string(credentials_file(directory)).unwrap();
    serde_json::from_str::<Value>(&content).unwrap()["relays"][relay].clone()
}

/// Bob delegates one issue after another.
async fn delegate_on(
    (linear, bob): (FakeLinear, String),
    sessions: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
) {
    while !is_over.load(Ordering::Relaxed) {
        let issue = linear.add_issue("ENG", &bob, ("It stops", "After a restart.")).unwrap();
        sessions.lock().unwrap().push(linear.delegate(&issue, &bob).unwrap());
        sleep(SESSION_EVERY).await;
    }
}

async fn refresh_on(mut machine: Machine, is_over: Arc<AtomicBool>) -> Machine {
    while !is_over.load(Ordering::Relaxed) {
        machine.refresh().await;
        sleep(REFRESH_EVERY).await;
    }
    machine
}

/// On a slow machine a restart can outlast the first retry; the second is an hour later.
fn hurry(linear: &FakeLinear) {
    let is_late = linear
        .deliveries()
        .iter()
        .any(|delivery| delivery.outcome == Outcome::Retrying && delivery.attempts.len() > 1);
    if is_late {
        linear.advance(Duration::from_secs(360));
    }
}

/// A deployment with other settings, with webhooks coming in meanwhile.
async fn deploy(mut scene: Scene, name: &'static str, value: &str) -> Scene {
    let linear = scene.linear.clone();
    linear.hold_webhooks();
    until("an empty queue", async || {
        hurry(&linear);
        let deliveries = linear.deliveries();
        let is_under_way = |outcome| matches!(outcome, Outcome::Queued | Outcome::Retrying);
        let is_told = |body: &str| {
            let body: Value = serde_json::from_str(body).unwrap();
            let session = body["agentSession"]["id"].as_str().unwrap();
            linear.session(session).unwrap().first_response_ms.is_some()
        };
        let mut deliveries = deliveries.iter().filter(|row| row.outcome != Outcome::Held);
        deliveries.all(|row| !is_under_way(row.outcome) && is_told(&row.body)).then_some(())
    })
    .await;
    let address = scene.relay.url.trim_start_matches("http://").to_owned();
    let released = async {
        while TcpStream::connect(&address).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
        linear.release_webhooks(false);
    };
    let changed = [(name, value)];
    let (relay, ()) = tokio::join!(scene.relay.redeployed(&changed), released);
    scene.relay = relay;
    scene
}

async fn scene(vars: Vec<(&'static str, String)>) -> Scene {
    let webhook = WebhookOptions {
        time_scale: 0.1,
        resource_types: vec!["AgentSessionEvent".to_owned()],
        ..WebhookOptions::default()
    };
    let linear = LinearOptions { webhook, ..LinearOptions::default() };
    Scene::installed_with(RelayOptions { vars, ..RelayOptions::default() }, linear).await
}

#[tokio::test]
async fn the_webhook_secret_is_rotated_under_traffic() {
    let name = "LINEAR_WEBHOOK_SECRET";
    let mut scene = scene(vec![(name, SECRET_CURRENT.to_owned())]).await;
    let mut traffic = Traffic::start(&scene).await;
    traffic.flow(&scene).await;
    scene = deploy(scene, name, &format!("{SECRET_NEW},{SECRET_CURRENT}")).await;
    traffic.flow(&scene).await;
    scene.linear.set_webhook(|options| options.secret = SECRET_NEW.to_owned());
    traffic.flow(&scene).await;
    scene = deploy(scene, name, SECRET_NEW).await;
    traffic.flow(&scene).await;
    traffic.end(&scene).await;

    let body = scene.linear.deliveries().pop().unwrap().body;
    for (secret, status) in [(SECRET_CURRENT, 401), (SECRET_NEW, 200)] {
        let webhook = SignedWebhook::signed_with(secret, body.as_bytes(), "again");
        assert_eq!(scene.relay.post(&webhook).await.status(), status);
    }
}

#[tokio::test]
async fn the_signing_key_of_credentials_is_rotated_under_traffic() {
    let mut scene = scene(Vec::new()).await;
    let mut traffic = Traffic::start(&scene).await;
    let mut browser = scene.signed_in(&scene.ada).await;
    let idle = scene.machine(&mut browser, "idle").await;
    let old = scene.relay.enrol(&scene.acme, &scene.bob).await;
    traffic.flow(&scene).await;
    scene = deploy(scene, "EDGE_SECRET", &format!("{SIGNING_KEY_NEW},{SIGNING_KEYS}")).await;
    traffic.flow(&scene).await;
    traffic.client.renew().await;
    // What the old keys have signed is good until they are removed.
    Answer::to(scene.relay.as_edge(&old, Method::GET, "/events?limit=1")).await.ok();
    traffic.flow(&scene).await;
    scene = deploy(scene, "EDGE_SECRET", SIGNING_KEY_NEW).await;
    traffic.flow(&scene).await;
    let mut machine = traffic.end(&scene).await;

    let read = Answer::to(scene.relay.as_edge(&old, Method::GET, "/events?limit=1")).await;
    read.refused("a credential of an old key", ErrorCode::CredentialInvalid);
    let new = scene.relay.enrol(&scene.acme, &scene.bob).await;
    Answer::to(scene.relay.as_edge(&new, Method::GET, "/events?limit=1")).await.ok();
    let left_behind = scene.refresh(&idle["refresh_token"]).await;
    assert_eq!((left_behind.status, &left_behind.json()["error"]), (400, &json!("invalid_grant")));
    let before = machine.refreshes;
    machine.refresh().await;
    assert_eq!(machine.refreshes, before + 1);
}

#[tokio::test]
async fn the_key_of_linears_tokens_is_rotated_under_traffic() {
    let name = "TOKEN_ENCRYPTION_KEY";
    let mut scene = scene(Vec::new()).await;
    let mut traffic = Traffic::start(&scene).await;
    traffic.flow(&scene).await;
    assert_eq!(keys_of_grants(&mut scene).await, ["k1", "k1"]);
    scene = deploy(scene, name, &format!("{TOKEN_KEY_NEW},{TOKEN_KEY}")).await;
    traffic.flow(&scene).await;
    // The relay itself is what seals: it has sealed anew what it has read.
    assert_eq!(keys_of_grants(&mut scene).await, ["k2", "k2"]);
    scene = deploy(scene, name, TOKEN_KEY_NEW).await;
    traffic.flow(&scene).await;
    traffic.end(&scene).await;

    // Not only the access token is readable: a day later the refresh token is what is needed.
    scene.linear.advance(Duration::from_secs(25 * 3600));
    let edge = scene.relay.enrol(&scene.acme, &scene.ada).await;
    let issue = scene.linear.add_issue("ENG", &scene.ada, ("It stops", "Again.")).unwrap();
    let session = scene.linear.delegate(&issue, &scene.ada).unwrap();
    scene.relay.wait_for_length(&edge.stream(), 1).await;
    until("an answer with a new token", async || {
        scene.linear.session(&session).unwrap().first_response_ms
    })
    .await;

    scene.relay = scene.relay.redeployed(&[(name, TOKEN_KEY)]).await;
    let status = scene.installation(&scene.acme).await;
    assert_eq!(status["apps"][0]["state"], "needs_sign_in", "{status}");
}

/// The names of the keys that an installation's tokens are sealed with, as they stand on disk.
async fn keys_of_grants(scene: &mut Scene) -> Vec<String> {
    let query = "SELECT text FROM installation WHERE kind = 'grant'";
    let request = json!({
        "op": "sql", "class": "InstallationObject", "name": scene.acme, "query": query,
    });
    let rows = scene.relay.ask(request).await["rows"].clone();
    let text = rows[0]["text"].as_str().unwrap();
    let keys = text.split(r#""key":""#).skip(1);
    keys.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}
