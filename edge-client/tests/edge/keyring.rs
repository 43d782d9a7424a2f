//! Goal: a keyring that can't be used for a moment ends nothing. Method: a keyring of the test's own
//! in the place of the operating system's, with an entry for each relay.

use std::{
    any::Any,
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, Once},
};

use keyring::{
    Credential, Error, Result,
    credential::{CredentialApi, CredentialBuilderApi},
};
use serde_json::json;

use crate::{
    fake_relay::FakeRelay,
    harness::{Recorder, Running, credential, signed_in_with, within},
    sign_in::grant,
};

/// What is wrong with an entry's keyring.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Locked,
    Gone,
}

#[derive(Default)]
struct Entry {
    secret: Option<Vec<u8>>,
    trouble: Option<Trouble>,
    refused: usize,
}

static ENTRIES: Mutex<BTreeMap<String, Entry>> = Mutex::new(BTreeMap::new());

fn entries() -> MutexGuard<'static, BTreeMap<String, Entry>> {
    ENTRIES.lock().unwrap()
}

fn with_entry<T>(user: &str, read: impl FnOnce(&mut Entry) -> T) -> T {
    read(entries().entry(user.to_owned()).or_default())
}

struct TestKeyring;

impl CredentialBuilderApi for TestKeyring {
    fn build(&self, _target: Option<&str>, _service: &str, user: &str) -> Result<Box<Credential>> {
        Ok(Box::new(TestEntry(user.to_owned())))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct TestEntry(String);

impl TestEntry {
    fn open<T>(&self, read: impl FnOnce(&mut Entry) -> Result<T>) -> Result<T> {
        with_entry(&self.0, |entry| {
            let Some(trouble) = entry.trouble else { return read(entry) };
            entry.refused += 1;
            Err(match trouble {
                Trouble::Locked => Error::NoStorageAccess("locked".into()),
                Trouble::Gone => Error::PlatformFailure("no service".into()),
            })
        })
    }
}

impl CredentialApi for TestEntry {
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        self.open(|entry| {
            entry.secret = Some(secret.to_vec());
            Ok(())
        })
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        self.open(|entry| entry.secret.clone().ok_or(Error::NoEntry))
    }

    fn delete_credential(&self) -> Result<()> {
        self.open(|entry| entry.secret.take().map(drop).ok_or(Error::NoEntry))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A sign-in in the keyring.
fn sign_in(relay: &FakeRelay, access: &str, refresh: &str) {
    static TEST_KEYRING: Once = Once::new();
    TEST_KEYRING.call_once(|| keyring::set_default_credential_builder(Box::new(TestKeyring)));
    let secret = json!({ "access_token": access, "refresh_token": refresh }).to_string();
    with_entry(&relay.url(), |entry| entry.secret = Some(secret.into_bytes()));
}

fn listen(relay: &FakeRelay, directory: &Path) -> (Running, Recorder) {
    let recorder = Recorder::new();
    let flags = ["--report", "on"];
    let settings = signed_in_with("auto", relay, &directory.join("state.db"), directory, &flags);
    (Running::start(settings, recorder.clone()), recorder)
}

#[tokio::test]
async fn a_keyring_that_can_not_be_used_for_a_moment_is_waited_for() {
    for trouble in [Trouble::Locked, Trouble::Gone] {
        let relay = FakeRelay::start().await;
        let directory = tempfile::tempdir().unwrap();
        sign_in(&relay, &credential("edge_1"), "first");
        relay.push(&["s"]);
        let (client, recorder) = listen(&relay, directory.path());
        recorder.wait_for(1).await;

        with_entry(&relay.url(), |entry| entry.trouble = Some(trouble));
        let next = credential("edge_1");
        relay.accept_only(&next);
        relay.plan_device(grant(&next, "second"));
        relay.push(&["s"]);
        // Asked more than once: the client has not ended at the first refusal.
        let url = relay.url();
        within(relay.wait_for(|_| with_entry(&url, |entry| entry.refused >= 2))).await;
        with_entry(&url, |entry| entry.trouble = None);
        within(relay.wait_for(|seen| seen.reports.len() == 4)).await;
        client.stop().await;
        assert_eq!(relay.seen(|seen| seen.device.len()), 1, "{trouble:?}");
        let stored = with_entry(&url, |entry| entry.secret.clone()).unwrap();
        assert!(String::from_utf8(stored).unwrap().contains("second"));
    }
}

#[tokio::test]
async fn only_a_keyring_that_is_not_there_is_one_without_a_sign_in() {
    for (trouble, code, words) in
        [(Trouble::Locked, 1, "the keyring is locked"), (Trouble::Gone, 3, "not signed in")]
    {
        let relay = FakeRelay::start().await;
        let directory = tempfile::tempdir().unwrap();
        sign_in(&relay, &credential("edge_1"), "first");
        with_entry(&relay.url(), |entry| entry.trouble = Some(trouble));
        let (client, _) = listen(&relay, directory.path());
        let error = client.result().await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(words), "{error}");
    }
}
