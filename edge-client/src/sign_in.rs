//! Signing this machine in and out, and saying who it is. The device flow of RFC 8628: the machine
//! shows a code, a person approves it in a browser.

mod device;
mod login;
mod logout;
mod whoami;

use std::fmt;

use serde_json::Value;

pub use self::{
    login::{LoginOrder, login},
    logout::logout,
    whoami::whoami,
};
use crate::{
    access::AccessError,
    credential::CredentialStoreError,
    fault::{Fault, Refusal, RefusalKind},
};

/// What a command has to say at its end: a sentence for people, or JSON for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// For people; may have several lines.
    pub text: String,
    /// For scripts.
    pub json: Value,
}

/// A command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no credential, or it can't be read or kept.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// The store of sign-ins.
    #[error("{0}")]
    Store(#[from] CredentialStoreError),
    /// HTTP or TLS.
    #[error("can't set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
    /// The relay refuses for good.
    #[error("{0}")]
    Refused(RefusedWords),
    /// It may work later.
    #[error("the relay did not answer as it should: {0}")]
    Passing(String),
    /// Nobody approved the sign-in.
    #[error("{0}")]
    NotApproved(&'static str),
    /// Another machine has the event.
    #[error("{0} has this event now: what this machine has to say about it is not taken")]
    Reassigned(String),
    /// It was told to end.
    #[error("ended before anybody approved the sign-in")]
    Interrupted,
}

/// A refusal, with what to do.
#[derive(Debug)]
pub struct RefusedWords(Refusal);

impl fmt::Display for RefusedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::fault::Exit::Refused(self.0.clone()).fmt(f)
    }
}

impl CommandError {
    /// The process' exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Access(error) => error.code(),
            Self::Refused(RefusedWords(Refusal { kind: RefusalKind::Request, .. }))
            | Self::Reassigned(_) => 2,
            Self::Refused(RefusedWords(Refusal { kind: RefusalKind::Credential, .. }))
            | Self::NotApproved(_) => 3,
            Self::Store(_) | Self::Http(_) | Self::Passing(_) | Self::Interrupted => 1,
        }
    }
}

impl From<Fault> for CommandError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Passing { message, .. } => Self::Passing(message),
            Fault::Terminal(refusal) => Self::Refused(RefusedWords(refusal)),
        }
    }
}
