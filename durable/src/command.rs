use relay_schemas::{ByeCode, Cursor, Problem};

/// A connection's number, unique within its stream for as long as it is open.
pub type ConnectionId = u64;

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send a text message.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// What.
        text: String,
    },
    /// Keep the subscription with its socket, where it outlives the object's memory.
    Remember {
        /// Whose.
        connection: ConnectionId,
    },
    /// Close the socket.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why; its close code is the socket's.
        code: ByeCode,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E: std::fmt::Display> {
    /// Storage failed: what is in memory may be wrong and must be loaded again.
    #[error("storage: {0}")]
    Storage(E),
    /// The caller asked for something that it can't have; nothing has changed.
    #[error(transparent)]
    Refused(Problem),
}

impl<E: std::fmt::Display> From<E> for StreamError<E> {
    fn from(error: E) -> Self {
        Self::Storage(error)
    }
}

/// The answer to a connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Set when reading starts elsewhere than asked.
    pub resumed_from: Option<Cursor>,
    /// What to do.
    pub commands: Vec<Command>,
}
