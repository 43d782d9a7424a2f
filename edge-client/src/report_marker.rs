use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use relay_schemas::{EventId, ReportStatus};

use crate::activity::uuid_v4;

/// In a handler's environment: where the marker is.
pub(crate) const VARIABLE: &str = "EDGERELAY_REPORT_FILE";

/// The event that a handler runs for.
const EVENT_VARIABLE: &str = "EDGERELAY_EVENT_ID";

/// A file that is there once a handler has told the relay by itself how it ended. Its client then
/// reports nothing of its own: the handler's words would be replaced. A file, because a handler may
/// be of any language, in a sandbox, and close every descriptor that it does not know.
#[derive(Debug)]
pub(crate) struct ReportMarker {
    path: PathBuf,
}

impl ReportMarker {
    /// Not set. Nobody can guess its name.
    pub(crate) fn new() -> Self {
        Self { path: env::temp_dir().join(format!("edgerelay-{}", uuid_v4())) }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the handler has set it.
    pub(crate) fn is_set(&self) -> bool {
        self.path.exists()
    }
}

impl Drop for ReportMarker {
    fn drop(&mut self) {
        // Mostly there is none.
        let _ = fs::remove_file(&self.path);
    }
}

/// Sets the marker of the handler that this process runs in, if it runs in that event's.
pub(crate) fn set(event: EventId, status: ReportStatus) -> io::Result<()> {
    let is_meant = env::var(EVENT_VARIABLE).is_ok_and(|text| text == event.to_string());
    let is_final = matches!(status, ReportStatus::Completed | ReportStatus::Failed);
    let Some(path) = env::var_os(VARIABLE).filter(|_| is_meant && is_final) else { return Ok(()) };
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(status.as_str().as_bytes()),
        // It was told before.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
