use super::failure::Failure;

/// How an export ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything up to the tail of the first plan is written.
    Complete,
    /// It was asked to end.
    Stopped,
    /// The reader of standard output is gone.
    OutputClosed,
    /// It could not go on.
    Failed(Failure),
}

impl Ending {
    /// The process' exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Complete | Self::Stopped | Self::OutputClosed => 0,
            Self::Failed(failure) => failure.code(),
        }
    }
}
