//! What the end-to-end tests, the demo and the benchmarks share: the relay on real workerd, the
//! sender of signed webhooks, plain readers of every dialect.
//!
//! Nothing here replaces a part of the product. The relay is the built Worker; the platform around
//! it is workerd with its own Durable Objects, KV, R2 and Queues.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails where it stands")]

mod answer;
mod asked;
mod authorization;
mod browser;
mod edge;
mod frames;
mod history;
pub mod linear;
mod paths;
mod reader;
mod relay;
mod scene;
mod wait;
mod webhook;

pub use answer::Answer;
pub use asked::{Asked, Mine, Own};
pub use authorization::{Caller, Outcome, authorization_page, expected_outcome};
pub use browser::{Browser, csrf_of};
pub use edge::{ClientProcess, EnrolledEdge};
pub use frames::{Ended, FrameReader, ReadFrame};
pub use history::{SentEvent, StoredHistory, bulk_plan, page_through, planned_entry};
pub use paths::{client_binary, node_binary, root};
pub use reader::{HttpReader, ReaderLine, SocketReader};
pub use relay::{ADMIN_TOKEN, Relay, RelayOptions, SECRET_CURRENT, SECRET_PREVIOUS, SIGNING_KEYS};
pub use scene::{Scene, TOKEN_KEY};
pub use wait::{WAIT_LIMIT, until};
pub use webhook::{SignedWebhook, now_ms};
