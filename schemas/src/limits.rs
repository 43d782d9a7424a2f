//! Every bound of the relay in one place, with the arithmetic behind it.

/// Greatest webhook body in bytes. Linear's own SDK refuses more than 5 MiB
/// (`LINEAR_WEBHOOK_DEFAULT_MAX_BODY_BYTES`).
pub const BODY_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Greatest body that travels inside a queue message; larger ones go through R2. A message may
/// hold 128,000 bytes including about 100 of metadata; the rest is our header line.
pub const QUEUE_BODY_BYTES_MAX: usize = 112_000;

/// Nesting of a webhook body. `serde_json` and most clients stop at 128 levels; a deeper body
/// would reach the edge as a line that it can't parse.
pub const BODY_DEPTH_MAX: usize = 127;

/// Characters of an organization, user, team or edge identifier. Object names and R2 keys are
/// built from two of them and must stay below 1,024 bytes.
pub const IDENTIFIER_LENGTH_MAX: usize = 64;

/// Clock difference allowed for a webhook from the future, and the default for one from the past
/// when retries are not to be believed. Linear's documentation asks for 60 s.
pub const TIMESTAMP_WINDOW_MS: u64 = 60_000;

/// Default for how old a never-seen delivery may be: Linear retries after 1 minute, 1 hour and
/// 6 hours, perhaps byte for byte, and 10 minutes are for the way.
pub const RETRY_AGE_DEFAULT_S: u64 = 6 * 3600 + 600;

/// How long an event id is remembered for duplicates. Longer than [`RETRY_AGE_DEFAULT_S`], so
/// that a captured body can't be replayed in the time between; a configured age may not exceed
/// it less [`LATE_EVENT_MS`].
pub const DEDUPLICATION_WINDOW_MS: u64 = 7 * 3_600_000;

/// An event that waited longer than this since its receipt is looked for in the whole log, not
/// only among the ids remembered: an earlier delivery of it may be older than these.
pub const LATE_EVENT_MS: u64 = 30 * 60_000;

/// Retention of events by default, in days.
pub const RETENTION_DAYS_DEFAULT: f64 = 62.0;

/// The same in ms.
pub const RETENTION_DAYS_DEFAULT_MS: u64 = 62 * 86_400_000;

/// Bytes of records that one row of the log may hold. SQLite rows in an object may hold 2 MB; a
/// reader loads one row at a time, so this is also a reader's working memory.
pub const LOG_ROW_BYTES_MAX: usize = 256 * 1024;

/// Bytes of records up to which the newest row is extended by the next append instead of writing
/// another: a row that gathers events is deleted once for all of them. Small, because SQLite
/// writes the whole row again each time.
pub const LOG_ROW_EXTENDED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of records in the hot tail that are sealed at once, by default.
pub const SEAL_BYTES_DEFAULT: u64 = 1024 * 1024;

/// Seconds after which the oldest event of the hot tail is sealed, by default a day: R2 and KV
/// bill $9.50 per million segments' writes, so that a stream with one event an hour must gather
/// some before they are sealed.
pub const SEAL_AGE_DEFAULT_S: u64 = 24 * 3600;

/// A hot tail is sealed by age only from this share of the bytes that seal it at once, 256 KiB by
/// default. What stays below is left to retention.
pub const SEAL_AGE_SHARE: u64 = 4;

/// Bytes of records that one segment gathers; a single row may be larger. It is encoded in the
/// object's memory.
pub const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Events of one segment, so that index keys whose positions share all but the last four digits
/// are enough to find the next one.
pub const SEGMENT_EVENTS_MAX: u64 = 10_000;

/// Bytes of records that the hot tail may hold while R2 or KV is down. Beyond it appends are
/// refused and wait in the queue. An object's SQLite may hold 10 GB.
pub const HOT_TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Waiting time in ms after sealing has failed: first, and at most; doubled each time.
pub const SEAL_RETRY_MS: (u64, u64) = (2_000, 300_000);

/// How often it is looked what can be sealed of a hot tail whose events are given to single edges:
/// each finished one lets the next few be, and none is to become a segment of its own.
pub const SEAL_LOOK_MS: u64 = 20_000;

/// While a direct WebSocket reader has no credit, its rows are not sealed: how often that is looked
/// at, and for how long it may last, in ms.
pub const SEAL_READER_WAIT_MS: (u64, u64) = (1_000, 10_000);

/// Segments that an object names in one answer; what follows is found in KV, or asked for again.
pub const SEGMENTS_OFFERED_MAX: usize = 32;

/// Bytes of one append from the consumer to an object, a bound on memory for both.
pub const APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Credit in bytes that a connection starts with; a sender stops when it is used up. The bound on
/// what lies in the Worker for one reader is this and one frame.
pub const CREDIT_BYTES: i64 = 256 * 1024;

/// Greatest credit that a reader may hold, whatever it grants. A reader that grants what it has
/// read never comes to more than it began with.
pub const CREDIT_BYTES_MAX: i64 = CREDIT_BYTES;

/// A reader without credit for this long, and this far behind, is closed as slow. It resumes from
/// its cursor.
pub const SLOW_STALL_MS: u64 = 60_000;

/// See [`SLOW_STALL_MS`].
pub const SLOW_LAG_EVENTS: u64 = 1_000;

/// Connections to one stream. The platform allows 32,768 hibernatable sockets an object; memory
/// of one isolate (128 MB) is the narrower bound.
pub const CONNECTIONS_PER_STREAM_MAX: usize = 2_000;

/// Seconds between heartbeats: default, least and greatest. Cloudflare's network cuts idle bodies
/// after about 100 s.
pub const HEARTBEAT_S: (u32, u32, u32) = (15, 5, 60);

/// Planned age of an HTTP stream in ms: between these two, drawn per connection, so that
/// reconnects spread and one invocation's CPU time stays bounded.
pub const STREAM_AGE_MS: (u64, u64) = (30 * 60_000, 55 * 60_000);

/// Events of one page of `GET /events`: default and greatest.
pub const PAGE_EVENTS: (usize, usize) = (100, 1_000);

/// Bytes of one page; a single larger event still fits alone.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Segments that one page reads at most: a page of rare kinds ends early, and the next goes on.
pub const PAGE_SEGMENTS_MAX: usize = 16;

/// Patterns of one kind filter, and characters of each.
pub const KIND_PATTERNS_MAX: usize = 20;

/// See [`KIND_PATTERNS_MAX`].
pub const KIND_PATTERN_LENGTH_MAX: usize = 100;

/// Bytes of `error` and of `message` in a status report.
pub const REPORT_TEXT_BYTES_MAX: usize = 4 * 1024;

/// Bytes of the body of any request that is not a webhook.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Days that an edge credential is valid: default and greatest.
pub const CREDENTIAL_DAYS: (u32, u32) = (90, 366);

/// Edges with a valid credential that one organization may have.
pub const EDGES_PER_ORGANIZATION_MAX: usize = 1_000;

/// Machines that one person may have signed in, of those edges: one person's scripts that sign in
/// again and again must not use up what the organization has.
pub const MACHINES_PER_PERSON_MAX: usize = 50;

/// Channels that one edge may read besides its own person's. They stand in its credential, which
/// travels in a header.
pub const CHANNELS_PER_EDGE_MAX: usize = 50;

/// Requests of one credential in [`RATE_LIMIT_PERIOD_S`], at each of the platform's places: a
/// handler that takes 50 events/s makes two reports for each.
pub const CREDENTIAL_REQUESTS_MAX: u32 = 6_000;

/// Requests of one address without a good credential in [`RATE_LIMIT_PERIOD_S`]: a few people
/// behind one address who sign in, and not somebody who tries keys.
pub const ADDRESS_REQUESTS_MAX: u32 = 300;

/// Seconds in which requests are counted. The platform's limiter knows 10 and 60.
pub const RATE_LIMIT_PERIOD_S: u32 = 60;

/// Characters of an edge's display name.
pub const EDGE_NAME_LENGTH_MAX: usize = 100;

/// How long a sign-in with Linear may take, and how long its `state` is kept.
pub const SIGN_IN_MS: u64 = 10 * 60_000;

/// How long a browser is known after the sign-in: enough to read a page and press a button.
pub const BROWSER_SESSION_MS: u64 = 15 * 60_000;

/// How long a person may take to approve a machine.
pub const DEVICE_CODE_MS: u64 = 10 * 60_000;

/// Seconds between two polls of a machine that waits to be approved: at first, and how many more
/// each time that it polls faster (RFC 8628 §3.5).
pub const DEVICE_INTERVAL_S: u64 = 5;

/// Codes that one person may look up within [`BROWSER_SESSION_MS`]. Of 20^8 codes perhaps 100 wait
/// at once: with 20 tries the chance to hit one is below 1 in 10 million.
pub const USER_CODE_ATTEMPTS_MAX: u32 = 20;

/// How long a machine's access token is valid: what a person who has left can still read.
pub const ACCESS_TOKEN_MS: u64 = 3_600_000;

/// How long a machine may be off before it must sign in again.
pub const REFRESH_TOKEN_MS: u64 = 90 * 86_400_000;

/// How long a person whom Linear has confirmed is believed to be active while Linear can't be asked.
pub const PERSON_BELIEVED_MS: u64 = 24 * 3_600_000;

/// How long a machine is listed after it was revoked or has expired.
pub const ENDED_EDGE_LISTED_MS: u64 = 30 * 86_400_000;

/// Default of `EDGE_TIMEOUT_MS`: how long a machine may be silent on an event that was given to it
/// alone, before another gets it.
pub const EDGE_TIMEOUT_DEFAULT_MS: u64 = 60_000;

/// Default of `ANSWER_AFTER_MS`: how long the relay leaves the first word in an agent session to the
/// machine. Linear shows an agent as unresponsive after 10 s.
pub const ANSWER_AFTER_DEFAULT_MS: u64 = 4_000;

/// Times that the queue offers a message before it goes to the dead letters: the first and
/// `max_retries` more; a test compares it with `wrangler.toml`.
pub const DELIVERY_ATTEMPTS_MAX: u32 = 11;

/// Dead letters of one page: default and greatest. R2 lists at most 1,000 objects in one call.
pub const DEAD_LETTERS_LISTED: (usize, usize) = (100, 1_000);

/// Characters of the reason that a list of dead letters shows. R2 keeps 8,192 bytes of metadata
/// with an object, and lists fewer objects at once the more of it they have.
pub const LISTED_REASON_LENGTH_MAX: usize = 200;

/// Length of a taken `X-Request-Id`; a longer or stranger one is replaced.
pub const REQUEST_ID_LENGTH_MAX: usize = 64;

/// Event ids that a stream remembers in memory, about 64 bytes each (16 MB of an isolate's 128).
/// A stream with more events in [`DEDUPLICATION_WINDOW_MS`] remembers the newest; an older
/// duplicate would be delivered again, which handlers must expect anyway.
pub const DEDUPLICATION_IDS_MAX: usize = 250_000;

/// Leases that an edge may have without having reported on them, so that a backlog isn't given to
/// the first edge that comes. Each is one row of storage.
pub const ASSIGNMENT_WINDOW: usize = 16;

/// Leases that an edge may have in all. Their positions stand in its sockets' attachments, which
/// hold 16 KiB, and they are sent again on each new connection.
pub const ASSIGNED_PER_EDGE_MAX: usize = 256;

/// Events that a reader may say it works on at once.
pub const CAPACITY_MAX: usize = ASSIGNED_PER_EDGE_MAX;

/// Events of one stream that have been considered and are not finished. They are loaded when the
/// object wakes, about 400 bytes each; beyond this, nothing further is considered.
pub const ASSIGNMENT_OPEN_MAX: usize = 4_096;

/// How many of them may wait for edges that are away, so that those that are there are not kept
/// waiting: what comes for absent ones beyond this goes to the dead letters.
pub const ASSIGNMENT_ABSENT_MAX: usize = ASSIGNMENT_OPEN_MAX / 2;

/// How often an event is given to an edge before it goes to the dead letters.
pub const ASSIGNMENT_ATTEMPTS_MAX: u32 = 5;

/// How long an event that failed waits to be given again: so many twelfths of the time that an edge
/// may be silent, after the first failure, the second … One that fails at once would otherwise have
/// used up its attempts in a second.
pub const FAILED_PAUSES: [u64; 4] = [1, 3, 6, 12];

/// How long an edge that works on an event keeps it without another report, in ms. Agents work for
/// hours; who is connected is believed to work.
pub const LEASE_MS_MAX: u64 = 6 * 3_600_000;

/// Events in a row over which an edge has to be silent to count as unhealthy.
pub const EDGE_TIMEOUTS_MAX: u32 = 3;

/// How long an edge that has gone is expected back: events that only it reads wait for it.
pub const EDGE_REMEMBERED_MS: u64 = 7 * 86_400_000;

/// How long a session or an issue stays with an edge that reports nothing of it.
pub const HOLDER_REMEMBERED_MS: u64 = 86_400_000;

/// How often a holder's time is written again.
pub const HOLDER_REFRESH_MS: u64 = 3_600_000;

/// How long after it was told an edge is told of a stop again when it connects anew: a dead
/// connection is noticed after 2.5 of the longest heartbeats.
pub const STOP_REPEATED_MS: u64 = 150_000;

/// Stops that one edge may have yet to hear, the newest.
pub const STOPS_PER_EDGE_MAX: usize = 32;

/// When an event that could not be sent to the dead letters is tried again.
pub const GIVE_UP_RETRY_MS: u64 = 30_000;

/// Connections that one edge may have to one stream. A client has one; those that it has lost are
/// noticed with the next heartbeat, and a bad network can lose some in that time.
pub const CONNECTIONS_PER_EDGE_MAX: usize = 64;

/// Reports that the state of a stream looks at for the response times of its edges.
pub const REPORTS_SHOWN_MAX: usize = 500;

/// Reports of one edge that its median response time is taken of.
pub const RESPONSES_SHOWN_MAX: usize = 20;

/// Teams that one event is looked at for: a project can have many. Channels of an edge are as many.
pub const TEAMS_PER_EVENT_MAX: usize = 50;

/// Where the sessions on one issue go at most, the newest of them. Each is a copy of every event
/// about the issue.
pub const OWNERS_PER_ISSUE_MAX: usize = 8;

/// How long the owner of a session or issue is remembered without an event about it, in ms: as long
/// as events are.
pub const OWNER_AGE_MS: u64 = 62 * DAY_MS;

/// How old the remembered time of the last event may be, in ms: an owner's row is written once a
/// day, not for each event.
pub const OWNER_TOUCH_MS: u64 = DAY_MS;

/// Days that decisions are kept for operators.
pub const AUDIT_DAYS: u64 = 30;

/// Bytes of decisions up to which the newest row is extended instead of writing another: SQLite
/// writes the whole row again each time.
pub const AUDIT_ROW_EXTENDED_BYTES_MAX: usize = 16 * 1024;

/// Decisions of one page of the audit: default and greatest.
pub const AUDIT_LISTED: (usize, usize) = (100, 1_000);

/// Decisions that a directory finds again for redeliveries, about 64 bytes of memory each. An
/// organization with more events in [`DEDUPLICATION_WINDOW_MS`] has the newest; an older redelivery
/// is decided anew, and could go elsewhere than the first delivery.
pub const DECISIONS_REMEMBERED_MAX: usize = 100_000;

/// App users that are known of one organization. There is one for each app and installation.
pub const APP_USERS_MAX: usize = 100;

const DAY_MS: u64 = 86_400_000;

/// Bytes of an activity's text. A request has `REQUEST_BYTES_MAX` in all.
pub const ACTIVITY_BODY_BYTES_MAX: usize = 32 * 1024;

/// Bytes of an activity's short fields: a verb, a label, a step.
pub const ACTIVITY_FIELD_BYTES_MAX: usize = 2 * 1024;

/// Answers to choose from in one question.
pub const ACTIVITY_OPTIONS_MAX: usize = 25;

/// Steps of a plan.
pub const PLAN_STEPS_MAX: usize = 100;

/// Links of a session.
pub const SESSION_URLS_MAX: usize = 20;

/// Requests to Linear that one organization has open at once. Linear allows 5,000 in an hour.
pub const LINEAR_REQUESTS_MAX: usize = 6;

/// First activities in one request: 200 sessions at once are answered in two rounds.
pub const LINEAR_BATCH_MAX: usize = 20;

/// Calls that wait for Linear in one organization. They are held in memory: 8 MiB as they are
/// made from reports, and `OUTBOX_BYTES_MAX` in any case.
pub const OUTBOX_CALLS_MAX: usize = 10_000;

/// Bytes of the calls that wait, of an object's 128 MiB.
pub const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reports that wait for the announcement of their event, in one organization.
pub const PARKED_REPORTS_MAX: usize = 1_000;

/// How long a report waits for the announcement of its event: the queue retries for minutes.
pub const PARKED_MS: u64 = 3_600_000;

/// How long a call to Linear is tried.
pub const CALL_AGE_MS_MAX: u64 = 24 * 3_600_000;

/// How long a call that was given up is listed.
pub const GIVEN_UP_MS: u64 = 7 * 24 * 3_600_000;

/// How long a finished call is remembered, so that a report that comes twice makes nothing new:
/// as long as a second delivery of the event is recognised, and an hour.
pub const CALL_REMEMBERED_MS: u64 = DEDUPLICATION_WINDOW_MS + 3_600_000;

/// The first pause before a call is tried again, and the longest. It doubles.
pub const CALL_RETRY_MS: (u64, u64) = (500, 300_000);

/// Linear shows an agent as unresponsive that hasn't spoken so long after it was called.
pub const FIRST_ACTIVITY_MS: u64 = 10_000;

/// When the relay speaks at the latest for machines that don't: leaves 2 s for the call.
pub const SPEAK_MS_MAX: u64 = 8_000;

/// How long Linear repeats its answer to a refresh whose answer was lost.
pub const REFRESH_REPLAY_MS: u64 = 30 * 60_000;
