//! A person's home with a sign-in in it, and the program that uses it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Child,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    fake_relay::FakeRelay,
    harness::{Recorder, Running, signed_in, within},
    sign_in::signed_out,
};

/// Seconds since the epoch, so many from now.
pub(crate) fn in_seconds(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    now.saturating_add_signed(seconds)
}

/// A home with a sign-in of this access token and the refresh token `first`.
pub(crate) struct Home {
    pub(crate) directory: TempDir,
    pub(crate) relay: FakeRelay,
}

impl Home {
    pub(crate) async fn new(access: &str) -> Self {
        let home =
            Self { directory: tempfile::tempdir().unwrap(), relay: FakeRelay::start().await };
        fs::create_dir(home.path("")).unwrap();
        home.write(access, "first");
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("edgerelay").join(name)
    }

    pub(crate) fn write(&self, access: &str, refresh: &str) {
        let entry = json!({ "access_token": access, "refresh_token": refresh });
        let content = json!({ "version": 1, "relays": { self.relay.url(): entry } });
        fs::write(self.path("credentials.json"), content.to_string()).unwrap();
        set_mode(&self.path("credentials.json"), 0o600);
        set_mode(&self.path(""), 0o700);
    }

    pub(crate) fn stored(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path("credentials.json")).unwrap();
        let content: Value = serde_json::from_str(&text).unwrap();
        content["relays"][self.relay.url()][name].as_str().unwrap().to_owned()
    }

    pub(crate) fn listen(&self, flags: &[&str]) -> (Running, Recorder) {
        let state = self.directory.path().join("state.db");
        let recorder = Recorder::new();
        let settings = signed_in(&self.relay, &state, self.directory.path(), flags);
        (Running::start(settings, recorder.clone()), recorder)
    }

    /// The refresh tokens that the relay was asked with, in order.
    pub(crate) fn refreshes(&self) -> Vec<String> {
        self.relay.seen(|seen| {
            let bodies = seen.device.iter().filter(|(path, _)| path == "/device/token");
            let prefix = "grant_type=refresh_token&refresh_token=";
            bodies.map(|(_, body)| body.strip_prefix(prefix).unwrap().to_owned()).collect()
        })
    }

    pub(crate) fn last_credential(&self) -> String {
        self.relay.seen(|seen| seen.credentials.last().cloned()).unwrap()
    }
}

/// The program, until it is dropped: then it is killed.
pub(crate) struct Listening(Child);

impl Listening {
    pub(crate) fn start(home: &Home) -> Self {
        Self(signed_out(&home.relay, home.directory.path(), &["listen"]).spawn().unwrap())
    }

    /// Reads standard error until it says this.
    pub(crate) async fn wait_for_line(&mut self, words: &'static str) {
        let mut lines = BufReader::new(self.0.stderr.take().unwrap());
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            while !line.contains(words) {
                line.clear();
                assert!(lines.read_line(&mut line).unwrap() > 0, "{words} was never said");
            }
            lines.into_inner()
        });
        // Still open, so that nothing ends because nobody reads.
        self.0.stderr = Some(within(reading).await.unwrap());
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[cfg(unix)]
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
pub(crate) fn set_mode(_path: &Path, _mode: u32) {}
