use relay_schemas::{ByeCode, Cursor, HistoryOffer, Problem, QueueMessage, Seq, Speaker};

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
    /// Close a bridged reader's socket with `HISTORY_CLOSE_CODE`: the Worker reads on in R2.
    ReadHistory {
        /// Which.
        connection: ConnectionId,
    },
    /// Delete objects of R2 that retention has passed. What fails is left to the bucket's own
    /// lifecycle rule.
    Discard {
        /// Their names.
        keys: Vec<String>,
    },
    /// Send an event to the dead letters, then call `Stream::gave_up`. It is told again until then.
    GiveUp(Box<GivenUp>),
}

/// An event that edges were given, and none has finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Its position.
    pub seq: Seq,
    /// The message that it came in, made again from its record. The request is the event's id.
    pub message: QueueMessage,
    /// The exact body.
    pub body: String,
    /// `assignment: …`
    pub reason: String,
    /// How often it was given to an edge.
    pub attempts: u32,
    /// `Type.action`.
    pub kind: String,
    /// Who had it last and fell silent over it, or was gone. Whoever has reported a failure has
    /// been heard.
    pub silent: Option<Speaker>,
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
pub enum Connected {
    /// The reader is followed from here on.
    Live {
        /// Set when reading starts elsewhere than asked.
        resumed_from: Option<Cursor>,
        /// What to do.
        commands: Vec<Command>,
    },
    /// The position lies in history; nothing was registered.
    History(HistoryOffer),
}
