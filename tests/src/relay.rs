use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{WAIT_LIMIT, edge::EnrolledEdge, paths, until, webhook::SignedWebhook};

/// The webhook secret that signs now.
pub const SECRET_CURRENT: &str = "lin_whs_current";
/// The webhook secret that is still accepted.
pub const SECRET_PREVIOUS: &str = "lin_whs_previous";
/// The keys of edge credentials: the current one and the one before.
pub const SIGNING_KEYS: &str = "k2:new-signing-key-0123456789,k1:old-signing-key-0123456789";
/// The operator's token.
pub const ADMIN_TOKEN: &str = "operator-token-0123456789";

/// How a relay is started.
#[derive(Clone, Debug, Default)]
pub struct RelayOptions {
    /// Variables and secrets that differ from the usual.
    pub vars: Vec<(&'static str, String)>,
    /// Also start the floor Worker of the benchmarks.
    pub floor: bool,
    /// Bindings of `wrangler.toml` that the Worker doesn't get, as if what they name were gone.
    pub unbound: Vec<&'static str>,
}

impl RelayOptions {
    /// Nothing is sealed: everything stays in the hot tail.
    pub fn unsealed() -> Self {
        Self { vars: vec![("SEAL_BYTES", u32::MAX.to_string())], ..Self::default() }
    }

    /// The hot tail is sealed whenever it has so many bytes.
    pub fn sealed_at(bytes: u64) -> Self {
        Self { vars: vec![("SEAL_BYTES", bytes.to_string())], ..Self::default() }
    }
}

/// The relay on real workerd, with storage of its own. Ended when dropped.
pub struct Relay {
    /// Where it listens.
    pub url: String,
    /// Where the floor Worker listens.
    pub floor_url: Option<String>,
    /// The process id of workerd.
    pub workerd_pid: u32,
    /// How long the first answer took: the wasm is compiled and started for it.
    pub first_answer: Duration,
    /// For requests to it.
    pub http: reqwest::Client,
    options: RelayOptions,
    state: Arc<TempDir>,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Relay {
    /// Starts with the usual settings.
    pub async fn start() -> Self {
        Self::start_with(RelayOptions::default()).await
    }

    /// Starts with other settings.
    pub async fn start_with(options: RelayOptions) -> Self {
        Self::start_on(options, Arc::new(tempfile::tempdir().unwrap()), 0).await
    }

    async fn start_on(options: RelayOptions, state: Arc<TempDir>, port: u16) -> Self {
        let mut vars = json!({
            "LINEAR_WEBHOOK_SECRET": format!("{SECRET_CURRENT},{SECRET_PREVIOUS}"),
            "EDGE_SECRET": SIGNING_KEYS,
            "ADMIN_TOKEN": ADMIN_TOKEN,
        });
        for (name, value) in &options.vars {
            vars[*name] = value.as_str().into();
        }
        let settings = json!({
            "port": port,
            "state": state.path(),
            "vars": vars,
            "floor": options.floor,
            "unbound": options.unbound,
        });
        let mut child = spawn(&settings, &state.path().join("relay.log"));
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = stdout.next_line().await.unwrap().expect("the relay ended before it was ready");
        let ready: Value = serde_json::from_str(&ready).unwrap();
        assert_eq!(ready["ready"], true, "{ready}");
        let mut relay = Self {
            first_answer: Duration::ZERO,
            url: ready["url"].as_str().unwrap().to_owned(),
            floor_url: ready["floor_url"].as_str().map(str::to_owned),
            workerd_pid: u32::try_from(ready["workerd_pid"].as_u64().unwrap()).unwrap(),
            http: http_client(),
            options,
            state,
            child,
            stdin,
            stdout,
        };
        let asked = Instant::now();
        until("the relay's health", async || {
            let answer = relay.http.get(format!("{}/health", relay.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        relay.first_answer = asked.elapsed();
        relay
    }

    /// Kills workerd without warning, and all around it, then starts anew on the same storage and
    /// the same port.
    /// What waits in the local queue is lost with it: that queue lives in memory, unlike the
    /// platform's.
    pub async fn kill_and_restart(self) -> Self {
        let options = self.options.clone();
        self.kill_and_restart_with(options).await
    }

    /// The same, with other settings.
    pub async fn kill_and_restart_with(mut self, options: RelayOptions) -> Self {
        kill_process(self.workerd_pid);
        self.child.kill().await.unwrap();
        let state = Arc::clone(&self.state);
        let port = self.url.rsplit(':').next().unwrap().parse().unwrap();
        drop(self);
        Self::start_on(options, state, port).await
    }

    /// The same, with some variables and secrets changed: what a deployment would change.
    pub async fn redeployed(self, vars: &[(&'static str, &str)]) -> Self {
        let mut options = self.options.clone();
        options.vars.retain(|(name, _)| vars.iter().all(|(changed, _)| changed != name));
        options.vars.extend(vars.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.kill_and_restart_with(options).await
    }

    /// Kills workerd without warning. Miniflare starts another on the same storage and the same
    /// port: see [`Relay::restarted`]. What waits in the local queue is lost here, too.
    pub fn kill_workerd(&self) {
        kill_process(self.workerd_pid);
    }

    /// Waits until another workerd answers in the place of the one that was killed.
    pub async fn restarted(&mut self) {
        let (killed, started) = (u64::from(self.workerd_pid), Instant::now());
        self.workerd_pid = loop {
            let info = self.ask(json!({ "op": "info" })).await;
            if let Some(pid) = info["workerd_pid"].as_u64().filter(|pid| *pid != killed) {
                break u32::try_from(pid).unwrap();
            }
            assert!(started.elapsed() < WAIT_LIMIT, "no other workerd was started");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        until("the relay's health after a restart", async || {
            let answer = self.http.get(format!("{}/health", self.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// The directory that holds what is stored, and the log, `relay.log`.
    pub fn state_path(&self) -> &Path {
        self.state.path()
    }

    /// Everything that the relay has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state.path().join("relay.log")).unwrap()
    }

    /// Asks the process around workerd; `tests/relay/requests.mjs` lists what.
    pub async fn ask(&mut self, request: Value) -> Value {
        // Node.js takes these two for the ends of lines as well.
        let line =
            request.to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let answer = self.stdout.next_line().await.unwrap().expect("the relay has ended");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["ok"], true, "{request}: {answer}");
        answer
    }

    /// Drops a stream's object from memory, where its sockets hibernate, and answers whether it was
    /// there.
    pub async fn evict_stream(&mut self, stream: &str) -> bool {
        self.evict("StreamObject", stream, "hibernate").await
    }

    /// Drops a stream's object from memory, and its sockets with it.
    pub async fn cut_stream(&mut self, stream: &str) {
        self.evict("StreamObject", stream, "close").await;
    }

    /// Drops an object from memory, and answers whether it was there.
    pub async fn evict(&mut self, class: &str, name: &str, web_sockets: &str) -> bool {
        let request =
            json!({ "op": "evict", "class": class, "name": name, "webSockets": web_sockets });
        self.ask(request).await["was_running"] == true
    }

    /// Ends workerd and deletes what an object has stored, as if its storage were lost. The relay
    /// must be restarted afterwards.
    pub async fn lose_storage(&mut self, class: &str, name: &str) {
        let request = json!({ "op": "storage_file", "class": class, "name": name });
        let file = self.ask(request).await["file"].as_str().unwrap().to_owned();
        kill_process(self.workerd_pid);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{file}{suffix}"));
        }
    }

    /// Resident memory of workerd in bytes.
    pub async fn memory_bytes(&mut self) -> u64 {
        self.ask(json!({ "op": "memory" })).await["rss_bytes"].as_u64().unwrap()
    }

    /// Posts a webhook.
    pub async fn post(&self, webhook: &SignedWebhook) -> reqwest::Response {
        let mut request =
            self.http.post(format!("{}/webhook", self.url)).body(webhook.body.clone());
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }

    /// Posts a body that the relay must take.
    pub async fn deliver(&self, body: &str, delivery: &str) {
        let answer = self.post(&SignedWebhook::new(body, delivery)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// Enrols a machine.
    pub async fn enrol(&self, organization: &str, user: &str) -> EnrolledEdge {
        self.enrol_with(json!({ "organization": organization, "user": user })).await
    }

    /// Enrols a machine with more to say.
    pub async fn enrol_with(&self, request: Value) -> EnrolledEdge {
        let answer = self.as_operator(reqwest::Method::POST, "/admin/edges").json(&request).send();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 201);
        let edge: Value = answer.json().await.unwrap();
        EnrolledEdge {
            id: edge["id"].as_str().unwrap().to_owned(),
            organization: edge["organization"].as_str().unwrap().to_owned(),
            user: edge["user"].as_str().unwrap().to_owned(),
            credential: edge["credential"].as_str().unwrap().to_owned(),
        }
    }

    /// Revokes a machine's credential.
    pub async fn revoke(&self, edge: &EnrolledEdge) {
        let path = format!("/admin/edges/{}?organization={}", edge.id, edge.organization);
        let answer = self.as_operator(reqwest::Method::DELETE, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// A request with the operator's token.
    pub fn as_operator(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(ADMIN_TOKEN)
    }

    /// A request with an edge's credential.
    pub fn as_edge(
        &self,
        edge: &EnrolledEdge,
        method: reqwest::Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&edge.credential)
    }

    /// What `GET /state/{organization}/{channel}` answers.
    pub async fn stream_state(&self, stream: &str) -> Value {
        let path = format!("/state/{stream}");
        let answer = self.as_operator(reqwest::Method::GET, &path).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// How many events a stream has; none when there is no such stream.
    pub async fn stream_length(&self, stream: &str) -> u64 {
        self.stream_state(stream).await["events"].as_u64().unwrap_or(0)
    }

    /// Waits until a stream has so many events.
    pub async fn wait_for_length(&self, stream: &str, length: u64) {
        until(&format!("{length} events in {stream}"), async || {
            (self.stream_length(stream).await >= length).then_some(())
        })
        .await;
    }

    /// Waits until a stream has so many connections.
    pub async fn wait_for_connections(&self, stream: &str, count: usize) {
        until(&format!("{count} connections to {stream}"), async || {
            let state = self.stream_state(stream).await;
            (state["connections"].as_array()?.len() >= count).then_some(())
        })
        .await;
    }

    /// The value of a series of `/metrics`; zero when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let answer = self.as_operator(reqwest::Method::GET, "/metrics").send().await.unwrap();
        let text = answer.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Relay {
    /// The end of its standard input would end it too; this doesn't wait for that.
    fn drop(&mut self) {
        kill_process(self.workerd_pid);
        let _ = self.child.start_kill();
    }
}

/// TLS is not used on loopback, but the client that is tested brings no default for it.
fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

fn spawn(settings: &Value, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    Command::new(paths::node_binary())
        .arg(paths::root().join("tests/relay/serve.mjs"))
        .arg(settings.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Ends a process at once, by its id.
fn kill_process(pid: u32) {
    let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
}
