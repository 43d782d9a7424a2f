//! What two processes, or two versions, of EdgeRelay agree on.
//!
//! In scope: identifiers, the cursor, the frames of a stream, the queue message, the commands
//! between the Worker and its objects, storage keys, error codes, limits, the part of Linear's
//! payloads that is read, and the checks of signatures and credentials.
//!
//! Out of scope: clocks, randomness, input and output. Time comes in as [`UnixMillis`]; the log
//! and the routing are in `durable`; sockets are in `worker` and `edge-client`.

mod activity;
mod base32;
mod bridge;
mod byte_range;
mod command;
mod credential;
mod cursor;
mod dead_letter_query;
mod device;
mod error;
mod filter;
mod form;
mod frame;
mod identifier;
mod installation;
mod json_object;
mod kept_letter;
mod keys;
pub mod limits;
mod linear;
pub mod linear_api;
mod machine;
mod message;
mod metrics;
mod oauth;
mod read_query;
mod record;
mod routes;
mod routing_query;
mod segment;
mod signature;
mod sse;
mod status;
mod strategy;
mod time;

pub use activity::{
    Activity, ActivityContent, ActivityOption, ActivityRequest, PlanStatus, PlanStep, SessionUrl,
    is_uuid_v4,
};
pub use bridge::{BridgeMessage, HISTORY_CLOSE_CODE, Position};
pub use byte_range::Wanted;
pub use command::{
    Append, AppendError, AppendReply, Attendance, ClientMessage, Connect, Dialect, Disposition,
    HistoryOffer, NewEvent, PageCommand, ReportReply, Resume, StatusCommand,
};
pub use credential::{
    BrowserClaims, Claims, CredentialError, RefreshClaims, Scope, SigningKey, SigningKeys, Token,
};
pub use cursor::{Cursor, CursorError, Epoch, Seq};
pub use dead_letter_query::{DeadLettersQuery, PutBackQuery};
pub use device::{
    DEVICE_GRANT_TYPE, DeviceCode, DeviceCodeReply, DeviceFields, DeviceRequest, TokenEdge,
    TokenError, TokenReply, UserCode, UserCodeError,
};
pub use error::{ErrorBody, ErrorCode, ErrorFields, Problem};
pub use filter::{KindFilter, KindPattern, ReadFilter};
pub use form::{read_form, write_form};
pub use frame::{
    Bye, ByeCode, Frame, FrameError, Gap, GapReason, Heartbeat, Open, Signal, Webhook,
    write_attempt_frame, write_webhook_frame,
};
pub use identifier::{
    Channel, EdgeId, EventId, IdentifierError, OrganizationId, StreamKey, UserId,
};
pub use installation::{
    Abandoned, ActivityCommand, ActivityReply, Announce, Announcement, AnsweredIn, AppState,
    AppStatus, BudgetStatus, GivenUpCall, GivenUpList, Granted, InstallationStatus,
    InstalledOrganization, OutboxStatus, Person, PersonQuery, PersonTeam, ReportCommand, Revoked,
    RevokedReply, SecretText, SessionsStatus, Speaker, ToldOfEnd,
};
pub use kept_letter::{KeptLetter, KeptLetterError, LetterSummary};
pub use keys::{DEAD_LETTERS_PREFIX, DeadLetterId, DeadLetterIdError, oversize_body_key};
pub use linear::{Envelope, EnvelopeError, Identity, WebhookKind};
pub use machine::{ConfirmedPerson, ConfirmedTeam, PersonCheck};
pub use message::{DeadLetter, MessageError, QueueMessage, Reroute, Returned, StoredBody};
pub use metrics::{
    Counter, Histogram, HistogramDelta, InstallationTouch, MetricsDelta, StreamTouch,
};
pub use oauth::{
    AuthorizeRequest, LinearTokens, ReturnTo, SecretDigest, SignInPurpose, VIEWER_QUERY, Viewer,
    ViewerOrganization, Words, content_digest, secret_text,
};
pub use read_query::{OnGap, Order, PageQuery, PlanQuery, Start, StreamQuery, parse_channel};
pub use record::{
    BodyMode, Record, RecordParts, Subject, record_id, record_is_own, record_kind,
    record_received_at, rewrite_body,
};
pub use routes::{Access, Route};
pub use routing_query::{AuditQuery, RerouteRequest};
pub use segment::{
    SegmentEntry, SegmentName, SegmentOrigin, index_key, index_prefix, segments_prefix,
};
pub use signature::{SecretList, SecretListError, Sha256Digest, SignatureError, sign, verify};
pub use sse::{sse_event, sse_preamble};
pub use status::{Report, ReportStatus, StoredReport};
pub use strategy::{MultiEdgeMode, RoutingStrategy};
pub use time::UnixMillis;
