use std::borrow::Cow;

use serde::Deserialize;

/// How the relay spreads a stream's events over its machines.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Mode<'a> {
    #[serde(borrow, default)]
    mode: Option<Cow<'a, str>>,
    #[serde(default)]
    capacity: Option<u32>,
}

impl<'a> Mode<'a> {
    /// What an `open` frame tells of it.
    pub(crate) fn read(line: &'a str) -> Self {
        serde_json::from_str(line).unwrap_or_default()
    }

    /// Its name where each event is given to one machine, which must then say what became of it.
    pub(crate) fn assigned(&self) -> Option<&str> {
        self.mode.as_deref().filter(|mode| *mode != "broadcast")
    }

    /// Whether this machine is given none, as the relay sees it.
    pub(crate) fn gives_nothing(&self) -> bool {
        self.capacity == Some(0)
    }
}
