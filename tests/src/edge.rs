use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{WAIT_LIMIT, paths, relay::Relay};

/// A machine with a credential.
#[derive(Clone, Debug)]
pub struct EnrolledEdge {
    /// Its id.
    pub id: String,
    /// Its organization.
    pub organization: String,
    /// Its person.
    pub user: String,
    /// What it reads with.
    pub credential: String,
}

impl EnrolledEdge {
    /// The stream that it reads.
    pub fn stream(&self) -> String {
        format!("{}/user:{}", self.organization, self.user)
    }
}

/// The real client as a process of its own.
pub struct ClientProcess {
    /// The process.
    pub child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl ClientProcess {
    /// Starts `edgerelay listen` with further arguments; its state is in `state`.
    pub fn listen(relay: &Relay, edge: &EnrolledEdge, state: &Path, arguments: &[&str]) -> Self {
        let log = state.with_extension("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut child = Command::new(paths::client_binary())
            .arg("listen")
            .arg("--state")
            .arg(state)
            .args(arguments)
            .env("PROXY_URL", &relay.url)
            .env("EDGE_API_KEY", &edge.credential)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout }
    }

    /// The next event that it prints.
    pub async fn next_event(&mut self) -> Value {
        let line = timeout(WAIT_LIMIT, self.stdout.next_line()).await;
        let line = line.expect("waited in vain for an event").unwrap();
        serde_json::from_str(&line.expect("the client has ended")).unwrap()
    }

    /// The next event, unless the client has ended.
    pub async fn try_next_line(&mut self) -> Option<String> {
        timeout(WAIT_LIMIT, self.stdout.next_line()).await.expect("waited in vain").unwrap()
    }

    /// Ends it without warning.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
