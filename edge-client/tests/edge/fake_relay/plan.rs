use relay_schemas::{ByeCode, ErrorCode};

/// What happens to one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Answer with this instead of a stream.
    pub(crate) refuse: Option<(ErrorCode, Option<u64>)>,
    /// Answer with a page that is no relay's.
    pub(crate) portal: bool,
    /// Break the connection after so many frames, `open` included.
    pub(crate) frames_max: Option<usize>,
    /// Break it within the next frame, rather than before it.
    pub(crate) mid_line: bool,
    /// Instead of breaking it, say goodbye.
    pub(crate) bye: Option<(ByeCode, u64)>,
    /// Instead of breaking it, close it with this code (WebSocket only).
    pub(crate) close: Option<u16>,
    /// Instead of breaking it, say nothing more, and answer no ping.
    pub(crate) silent: bool,
    /// A gap frame comes first.
    pub(crate) gap: bool,
    /// This event is left out, but counted.
    pub(crate) lose: Option<u64>,
    /// A line that is no frame comes in place of this event.
    pub(crate) garble: Option<u64>,
    /// Serve from after this event, whatever was asked for.
    pub(crate) from: Option<u64>,
    /// Events come as given to so many machines.
    pub(crate) attempt: Option<u32>,
    /// This line comes after `open`.
    pub(crate) extra: Option<String>,
}
