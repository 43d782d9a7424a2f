use std::{fmt, path::PathBuf, time::Duration};

use relay_schemas::Cursor;

use super::{ending::Ending, failure::Failure};

/// What an export has done. Its text is for standard error, and ends with the summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportReport {
    /// How it ended.
    pub ending: Ending,
    /// Everything from the start up to here is written; unknown before the relay has answered.
    pub cursor: Option<Cursor>,
    /// Lines written.
    pub events: u64,
    /// Bytes of these lines.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// The file that holds what was written when the export did not come to its end.
    pub part: Option<PathBuf>,
}

impl ExportReport {
    /// An export that did not begin.
    pub(super) fn of_failure(failure: Failure) -> Self {
        Self {
            ending: Ending::Failed(failure),
            cursor: None,
            events: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            part: None,
        }
    }

    /// The process' exit code.
    pub fn code(&self) -> u8 {
        self.ending.code()
    }
}

impl fmt::Display for ExportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ending {
            Ending::Complete => {}
            Ending::Stopped => writeln!(f, "stopped before the end")?,
            Ending::OutputClosed => writeln!(f, "the reader of standard output is gone")?,
            Ending::Failed(failure) => writeln!(f, "{failure}")?,
        }
        if let Some(part) = &self.part {
            writeln!(f, "{} is not complete", part.display())?;
        }
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "{} events, {} bytes, {seconds:.1} s; ", self.events, self.bytes)?;
        match (&self.ending, self.cursor) {
            (Ending::Complete, Some(cursor)) => write!(f, "complete up to {cursor}"),
            (_, Some(cursor)) => {
                write!(f, "complete up to {cursor}, go on with --from {cursor}")
            }
            (_, None) => f.write_str("the relay has not said where the start is: start as before"),
        }
    }
}
