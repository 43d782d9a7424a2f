use std::{sync::mpsc, thread, time::Duration};

use keyring::{Entry, Error};

use super::stored::SignIn;

const SERVICE: &str = "edgerelay";

/// The keyring can't be used. Its own words are left out: some name the item's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// None on this machine, or its service does not run.
    #[error("there is no keyring that can be used")]
    Unavailable,
    /// Somebody has to unlock it.
    #[error("the keyring is locked")]
    Locked,
    /// It waits, for a password perhaps.
    #[error("the keyring did not answer")]
    Silent,
    /// What is stored is not ours.
    #[error("the keyring's entry for edgerelay can't be read: remove it")]
    Foreign,
}

/// The operating system's keyring, one entry for each relay. Each call has a thread of its own:
/// some keyrings block until somebody types a password, and some deadlock within an async runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyring {
    pub(crate) timeout: Duration,
}

impl Keyring {
    pub(crate) fn load(self, relay: &str) -> Result<Option<SignIn>, KeyringError> {
        let secret = self.ask(relay, |entry| match entry.get_secret() {
            Err(Error::NoEntry) => Ok(None),
            found => found.map(Some),
        })?;
        let Some(secret) = secret else { return Ok(None) };
        serde_json::from_slice(&secret).map(Some).map_err(|_| KeyringError::Foreign)
    }

    pub(crate) fn save(self, relay: &str, sign_in: &SignIn) -> Result<(), KeyringError> {
        let secret = serde_json::to_vec(sign_in).expect("plain fields serialise");
        self.ask(relay, move |entry| entry.set_secret(&secret))
    }

    /// Whether there was an entry.
    pub(crate) fn forget(self, relay: &str) -> Result<bool, KeyringError> {
        self.ask(relay, |entry| match entry.delete_credential() {
            Err(Error::NoEntry) => Ok(false),
            deleted => deleted.map(|()| true),
        })
    }

    fn ask<T: Send + 'static>(
        self,
        relay: &str,
        question: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, KeyringError> {
        let relay = relay.to_owned();
        let (answer, answered) = mpsc::sync_channel(1);
        let asking = thread::Builder::new().name("keyring".into()).spawn(move || {
            let result = Entry::new(SERVICE, &relay).and_then(|entry| question(&entry));
            let _ = answer.send(result);
        });
        if asking.is_err() {
            return Err(KeyringError::Unavailable);
        }
        match answered.recv_timeout(self.timeout) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Error::NoStorageAccess(_))) => Err(KeyringError::Locked),
            // A thread that panicked has dropped its sender.
            Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(KeyringError::Unavailable)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(KeyringError::Silent),
        }
    }
}
