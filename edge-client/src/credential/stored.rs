use serde::{Deserialize, Serialize};

use super::{Credential, secret::Secret};

/// What a sign-in leaves on this machine, for one relay. Stored format: fields may be added, none
/// is ever given another meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignIn {
    /// For requests; lives an hour.
    pub(crate) access_token: Secret,
    /// Gets the next pair, once.
    pub(crate) refresh_token: Secret,
}

impl SignIn {
    /// The access token as a credential.
    pub(crate) fn credential(&self) -> Result<Credential, String> {
        Credential::parse(self.access_token.expose())
    }
}

/// Which of the stores holds sign-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// The operating system's keyring where there is one, else the file.
    Auto,
    /// The operating system's keyring.
    Keyring,
    /// A file that only its owner can read.
    File,
}

/// Where a sign-in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The operating system's keyring.
    Keyring,
    /// The file.
    File,
}

impl Place {
    /// For scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyring => "keyring",
            Self::File => "file",
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keyring => "the operating system's keyring",
            Self::File => "the credentials file",
        }
    }
}
