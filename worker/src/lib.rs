//! EdgeRelay's Worker: routes, the queue's consumer, and the objects, as thin shells over the
//! platform. Decisions are made in `relay-durable` and `relay-schemas`; this crate knows no policy.

#![cfg(target_arch = "wasm32")]
// The exports that `wasm-bindgen` and the object macro write are unsafe, public and undocumented;
// no code here is unsafe.
#![allow(unsafe_code, unreachable_pub, missing_docs)]

mod admin;
mod bridge;
mod browser;
mod bucket_listing;
mod call;
mod consumer;
mod dead_letter_admin;
mod dead_letters;
mod delivery;
mod device;
mod directory_object;
mod events;
mod flow;
mod give_up;
mod history;
mod history_socket;
mod host;
mod installation_client;
mod installation_object;
mod installing;
mod linear_client;
mod loaded_stream;
mod log;
mod machines;
mod metrics;
mod oauth;
mod objects;
mod operations;
mod operations_object;
mod operator_pages;
mod pages;
mod rate_limit;
mod reading;
mod rebuild;
mod reports;
mod reroute;
mod respond;
mod router;
mod routing;
mod sealing;
mod segments;
mod settings;
mod sign_in_object;
mod sql_routing;
mod sql_storage;
mod stream_client;
mod stream_object;
mod sweep;
mod webhook;

pub use directory_object::DirectoryObject;
pub use installation_object::InstallationObject;
pub use operations_object::OperationsObject;
pub use sign_in_object::SignInObject;
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
