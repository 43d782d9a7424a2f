//! EdgeRelay's Worker: routes, the queue's consumer, and the objects, as thin shells over the
//! platform. Decisions are made in `relay-durable` and `relay-schemas`; this crate knows no policy.

#![cfg(target_arch = "wasm32")]
// The exports that `wasm-bindgen` and the object macro write are unsafe, public and undocumented;
// no code here is unsafe.
#![allow(unsafe_code, unreachable_pub, missing_docs)]

mod admin;
mod bridge;
mod bucket_listing;
mod call;
mod consumer;
mod dead_letter_admin;
mod dead_letters;
mod directory_object;
mod events;
mod flow;
mod history;
mod history_socket;
mod host;
mod loaded_stream;
mod log;
mod metrics;
mod operations;
mod operations_object;
mod rate_limit;
mod reading;
mod rebuild;
mod respond;
mod router;
mod sealing;
mod segments;
mod settings;
mod sql_storage;
mod stream_client;
mod stream_object;
mod sweep;
mod webhook;

pub use directory_object::DirectoryObject;
pub use operations_object::OperationsObject;
pub use stream_object::StreamObject;

use worker::{Context, Env, Request, Response, ScheduleContext, ScheduledEvent, event};

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    router::answer(request, env, context).await
}

#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    if let Err(error) = sweep::run(&env, false).await {
        log::platform_error("sweep_failed", "", &error);
    }
}
