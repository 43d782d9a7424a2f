use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    file::{CredentialsFile, FileError, prepare_directory},
    keyring::{Keyring, KeyringError},
    stored::{Place, SignIn, StoreChoice},
};

/// Where no keyring was asked for, one that does not answer soon is as good as none.
const KEYRING_PROBE: Duration = Duration::from_secs(3);

/// Where it was asked for, somebody may have to type a password.
const KEYRING_PATIENCE: Duration = Duration::from_secs(30);

/// Sign-ins can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialStoreError {
    /// The file.
    #[error("{0}")]
    File(#[from] FileError),
    /// The keyring.
    #[error("{0}; --credential-store file does without it")]
    Keyring(#[from] KeyringError),
    /// Nowhere to put them.
    #[error("there is no home directory: set HOME or XDG_CONFIG_HOME")]
    Homeless,
}

/// The sign-ins of this machine's user, one for each relay.
#[derive(Clone, Debug)]
pub struct CredentialStore {
    choice: StoreChoice,
    file: CredentialsFile,
    keyring: Keyring,
    lock: PathBuf,
}

/// Held while a sign-in is changed, by one process at a time; falls with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl CredentialStore {
    /// Keeps them there. `directory` holds the file and, for either store, the lock.
    pub fn new(
        choice: StoreChoice,
        directory: Option<&Path>,
    ) -> Result<Self, CredentialStoreError> {
        let directory = directory.ok_or(CredentialStoreError::Homeless)?;
        let timeout = match choice {
            StoreChoice::Auto => KEYRING_PROBE,
            StoreChoice::Keyring | StoreChoice::File => KEYRING_PATIENCE,
        };
        Ok(Self {
            choice,
            file: CredentialsFile::new(directory.join("credentials.json")),
            keyring: Keyring { timeout },
            lock: directory.join("credentials.lock"),
        })
    }

    /// The sign-in for this relay, and where it is. The file comes first, because it costs
    /// nothing to look: where one store takes a sign-in, the other forgets its own.
    pub(crate) fn load(
        &self,
        relay: &str,
    ) -> Result<Option<(SignIn, Place)>, CredentialStoreError> {
        self.find(relay, self.choice == StoreChoice::Auto)
    }

    /// The same for a sign-in that was in this place before: a keyring that had it and can't be
    /// used now is not one that has it no more.
    pub(crate) fn reload(
        &self,
        relay: &str,
        place: Place,
    ) -> Result<Option<(SignIn, Place)>, CredentialStoreError> {
        self.find(relay, self.choice == StoreChoice::Auto && place == Place::File)
    }

    fn find(
        &self,
        relay: &str,
        does_without_keyring: bool,
    ) -> Result<Option<(SignIn, Place)>, CredentialStoreError> {
        if self.choice != StoreChoice::Keyring
            && let Some(sign_in) = self.file.load(relay)?
        {
            return Ok(Some((sign_in, Place::File)));
        }
        if self.choice == StoreChoice::File {
            return Ok(None);
        }
        let found = match self.keyring.load(relay) {
            Err(KeyringError::Unavailable) if does_without_keyring => None,
            found => found?,
        };
        Ok(found.map(|sign_in| (sign_in, Place::Keyring)))
    }

    /// Keeps a new sign-in, durably when it returns.
    pub(crate) fn save(
        &self,
        relay: &str,
        sign_in: &SignIn,
    ) -> Result<Place, CredentialStoreError> {
        let place = match self.choice {
            StoreChoice::File => None,
            StoreChoice::Keyring => Some(self.keyring.save(relay, sign_in)?),
            StoreChoice::Auto => self.keyring.save(relay, sign_in).ok(),
        };
        match place {
            Some(()) => {
                self.file.forget(relay)?;
                Ok(Place::Keyring)
            }
            None => {
                self.file.save(relay, sign_in)?;
                Ok(Place::File)
            }
        }
    }

    /// Replaces a sign-in where it is.
    pub(crate) fn replace(
        &self,
        relay: &str,
        sign_in: &SignIn,
        place: Place,
    ) -> Result<(), CredentialStoreError> {
        match place {
            Place::File => self.file.save(relay, sign_in)?,
            Place::Keyring => self.keyring.save(relay, sign_in)?,
        }
        Ok(())
    }

    /// Forgets the sign-in for this relay, wherever it is.
    pub(crate) fn forget(&self, relay: &str) -> Result<bool, CredentialStoreError> {
        let in_file = self.choice != StoreChoice::Keyring && self.file.forget(relay)?;
        let in_keyring = match self.choice {
            StoreChoice::File => false,
            StoreChoice::Keyring => self.keyring.forget(relay)?,
            StoreChoice::Auto => match self.keyring.forget(relay) {
                Err(KeyringError::Unavailable) => false,
                forgotten => forgotten?,
            },
        };
        Ok(in_file || in_keyring)
    }

    /// The file's path, for people.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Takes the lock, unless another process has it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, CredentialStoreError> {
        let failed = |error: io::Error| FileError::Io(self.lock.display().to_string(), error);
        if let Some(directory) = self.lock.parent() {
            prepare_directory(directory)?;
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.lock).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error).into()),
        }
    }
}
