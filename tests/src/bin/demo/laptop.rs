//! Bob's laptop: the real client with a directory of its own.

use std::{fs::File, path::PathBuf, process::Stdio};

use relay_tests::{Scene, client_binary};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// What Bob's machine does with each event.
const HANDLER: &str = include_str!("handler.sh");

pub(crate) struct Laptop {
    home: TempDir,
    relay: String,
}

impl Laptop {
    pub(crate) fn new(scene: &Scene) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("handler.sh"), HANDLER).unwrap();
        Self { home, relay: scene.relay.url.clone() }
    }

    /// Signs it in as its person would: the code that the client shows is compared with the one on
    /// the page, and approved there. Gives back what the client says then.
    pub(crate) async fn sign_in(&self, scene: &Scene, user: &str) -> String {
        let mut login = self.client(&["login", "--name", "laptop"]);
        let mut login = login.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut shown = BufReader::new(login.stderr.take().unwrap()).lines();
        let code = loop {
            let line = shown.next_line().await.unwrap().expect("the client shows a code");
            println!("            | {line}");
            if let Some((_, code)) = line.split_once("compare the code:") {
                break json!({ "user_code": code.trim() });
            }
        };
        let mut browser = scene.signed_in(user).await;
        let page = browser.decide(scene, &code, "approve").await;
        assert_eq!(page.status, 200, "{}", page.text());
        println!("browser     signed in with Linear, compared the code, approved");
        output_of(login).await
    }

    /// What the client says that it is.
    pub(crate) async fn who_am_i(&self) -> Value {
        let whoami = self.client(&["whoami", "--json"]).stdout(Stdio::piped()).spawn();
        serde_json::from_str(&output_of(whoami.unwrap()).await).unwrap()
    }

    /// Starts to work on events.
    pub(crate) fn listen(&self) -> Child {
        // In the place of the shell around it: that one would end at a stop, and the handler with
        // it, before its last word.
        let handler = format!("exec sh {}", self.path("handler.sh").display());
        let mut client =
            self.client(&["listen", "--exec", &handler, "--local", "off", "--log", "debug"]);
        client.args(["--kind", "AgentSessionEvent", "--concurrency", "4"]);
        client.arg("--state").arg(self.path("state.db"));
        let log = File::options().create(true).append(true).open(self.path("client.log"));
        client.stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(client_binary());
        command
            .args(arguments)
            .args(["--credential-store", "file"])
            .env("PROXY_URL", &self.relay)
            .env("XDG_CONFIG_HOME", self.home.path())
            .env_remove("EDGE_API_KEY")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

impl Drop for Laptop {
    /// A story that ended badly tells what the client had to say.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("client.log"));
            eprintln!("the client's log:\n{}", log.unwrap_or_default());
        }
    }
}

async fn output_of(process: Child) -> String {
    let output = process.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
