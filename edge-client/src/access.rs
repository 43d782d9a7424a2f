//! What requests to the relay are made with: a credential that somebody wrote down, or one that a
//! sign-in left, which is refreshed in time.

mod http;
mod renewal;
mod tokens;

use std::sync::Arc;

pub use self::http::Http;
use self::renewal::Renewal;
pub(crate) use self::tokens::{Grant, TokenAnswer, ask_for_tokens, refused_words};
use crate::{
    config::{Setting, Settings, Source},
    credential::{Credential, CredentialStore, CredentialStoreError, Place},
    fault::Fault,
    relay::{self, Relay},
};

/// Who this machine is to its relay, now and later. Clones are the same.
#[derive(Clone, Debug)]
pub struct Access {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Fixed(Box<Credential>, Source),
    Renewed(Arc<Renewal>),
}

/// There is no credential to begin with.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Neither written down nor signed in.
    #[error(
        "this machine is not signed in at {0}: run edgerelay login, or write this machine's \
         credential as EDGE_API_KEY=eyJ… in the environment"
    )]
    SignedOut(String),
    /// The sign-in can't be read.
    #[error("the sign-in can't be read: {0}")]
    Store(#[from] CredentialStoreError),
    /// What is stored is not a credential.
    #[error("the stored sign-in is broken: run edgerelay login")]
    Broken,
    /// HTTP or TLS.
    #[error("can't set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
}

impl AccessError {
    /// The process' exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::SignedOut(_) | Self::Broken => 3,
            Self::Store(_) | Self::Http(_) => 1,
        }
    }
}

impl Access {
    /// With a credential that is written down, or else with the sign-in that is stored.
    pub async fn open(settings: &Settings) -> Result<Self, AccessError> {
        if let Some(Setting { value, source }) = &settings.credential {
            return Ok(Self { kind: Kind::Fixed(Box::new(value.clone()), source.clone()) });
        }
        let relay = Relay::new(&settings.relay.value);
        let store = store(settings)?;
        let (stored, name) = (store.clone(), relay.base().to_owned());
        let found = blocking(move || stored.load(&name)).await?;
        let Some((sign_in, place)) = found else {
            return Err(AccessError::SignedOut(relay.base().to_owned()));
        };
        let credential = sign_in.credential().map_err(|_| AccessError::Broken)?;
        let client = relay::plain_client()?;
        let renewal = Renewal::new(client, relay, store, place, credential);
        Ok(Self { kind: Kind::Renewed(Arc::new(renewal)) })
    }

    /// With this credential, for as long as it lasts.
    pub fn fixed(credential: Credential) -> Self {
        Self { kind: Kind::Fixed(Box::new(credential), Source::Default) }
    }

    /// The credential as it is now.
    pub fn credential(&self) -> Credential {
        match &self.kind {
            Kind::Fixed(credential, _) => credential.as_ref().clone(),
            Kind::Renewed(renewal) => renewal.current(),
        }
    }

    /// Whether an expired credential is followed by another.
    pub fn is_renewed(&self) -> bool {
        matches!(self.kind, Kind::Renewed(_))
    }

    /// Where the credential comes from, for people.
    pub fn origin(&self) -> String {
        match &self.kind {
            Kind::Fixed(_, source) => source.to_string(),
            Kind::Renewed(renewal) => renewal.place().as_str().to_owned(),
        }
    }

    /// A credential to make a request with; refreshed when it would soon expire.
    pub(crate) async fn fresh(&self) -> Result<Credential, Fault> {
        match &self.kind {
            Kind::Fixed(credential, _) => Ok(credential.as_ref().clone()),
            Kind::Renewed(renewal) => Renewal::fresh(renewal).await,
        }
    }

    /// The credential after this one, which the relay calls expired; `None` when there is none.
    pub(crate) async fn after(&self, expired: &Credential) -> Result<Option<Credential>, Fault> {
        match &self.kind {
            Kind::Fixed(..) => Ok(None),
            Kind::Renewed(renewal) => Renewal::renew(renewal, expired).await.map(Some),
        }
    }

    /// Waits until nothing is being refreshed any more, so that no new pair is lost with the
    /// process.
    pub(crate) async fn settled(&self) {
        if let Kind::Renewed(renewal) = &self.kind {
            renewal.settled().await;
        }
    }
}

/// The sign-ins that these settings mean.
pub(crate) fn store(settings: &Settings) -> Result<CredentialStore, CredentialStoreError> {
    let directory = settings.credential_directory.as_deref();
    CredentialStore::new(settings.credential_store.value, directory)
}

/// Files and keyrings wait for disks and people.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A sign-in's place is named in what people read.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
