//! Calls from the Worker to objects.

use js_sys::Uint8Array;
use relay_schemas::{Append, AppendReply, Connect, ErrorCode, Problem, StreamKey};
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;
use worker::{Env, Headers, Method, Request, RequestInit, Response, Stub};

use crate::{log, respond};

/// The header that a connect command travels in; the upgrade request has no body.
pub(crate) const CONNECT_HEADER: &str = "X-Relay-Connect";
/// Where reading starts, when elsewhere than asked.
pub(crate) const RESUMED_FROM_HEADER: &str = "Relay-Resumed-From";

fn stub(env: &Env, binding: &str, name: &str) -> worker::Result<Stub> {
    env.durable_object(binding)?.get_by_name(name)
}

/// Posts to an object and fails unless it answers 200.
pub(crate) async fn post_to_object(
    env: &Env,
    binding: &str,
    name: &str,
    path: &str,
    body: String,
) -> worker::Result<Response> {
    accepted(post(env, binding, name, path, body.into()).await?, binding, path)
}

fn accepted(response: Response, binding: &str, path: &str) -> worker::Result<Response> {
    if response.status_code() == 200 {
        return Ok(response);
    }
    Err(worker::Error::RustError(format!("{binding}{path} answered {}", response.status_code())))
}

/// Posts to an object.
pub(crate) async fn post(
    env: &Env,
    binding: &str,
    name: &str,
    path: &str,
    body: JsValue,
) -> worker::Result<Response> {
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(body));
    let request = Request::new_with_init(&format!("https://object{path}"), &init)?;
    stub(env, binding, name)?.fetch_with_request(request).await
}

/// Asks an object and hands its answer, good or bad, to the caller of the relay.
pub(crate) async fn relay_answer(
    env: &Env,
    binding: &str,
    name: &str,
    path: &str,
    body: String,
    request_id: &str,
) -> Result<Response, Problem> {
    let unavailable = |error: worker::Error| {
        log::platform_error("object_unavailable", request_id, &error);
        respond::unavailable()
    };
    let response = post(env, binding, name, path, body.into()).await.map_err(unavailable)?;
    hand_on(response).await.map_err(unavailable)
}

/// An object's answer as the relay's own.
pub(crate) async fn hand_on(mut response: Response) -> worker::Result<Response> {
    let text = response.text().await?;
    let answer = respond::build(response.status_code(), "application/json", text)?;
    for name in ["Retry-After", "WWW-Authenticate", RESUMED_FROM_HEADER] {
        if let Some(value) = response.headers().get(name)? {
            answer.headers().set(name, &value)?;
        }
    }
    Ok(answer)
}

/// Asks an object for a value.
pub(crate) async fn ask<T: DeserializeOwned>(
    env: &Env,
    binding: &str,
    name: &str,
    path: &str,
    body: String,
) -> worker::Result<T> {
    post_to_object(env, binding, name, path, body).await?.json().await
}

/// Appends to a stream. The command travels as bytes: a string would be converted to UTF-16 and
/// back on its way.
pub(crate) async fn append(env: &Env, append: &Append) -> Result<AppendReply, AppendFailure> {
    let body = Uint8Array::from(append.encode().as_bytes());
    let mut response =
        post(env, "STREAMS", &append.stream.to_string(), "/append", body.into()).await?;
    if response.status_code() == 503 {
        let error: serde_json::Value = response.json().await?;
        if error["error"]["code"] == ErrorCode::StreamFull.as_str() {
            return Err(AppendFailure::Full);
        }
        return Err(worker::Error::RustError("STREAMS/append answered 503".into()).into());
    }
    Ok(accepted(response, "STREAMS", "/append")?.json().await?)
}

/// Why a batch isn't in its stream.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    /// The stream can hold no more until sealing succeeds.
    Full,
    /// It couldn't be asked, or has failed.
    Failed(worker::Error),
}

impl From<worker::Error> for AppendFailure {
    fn from(error: worker::Error) -> Self {
        Self::Failed(error)
    }
}

/// Opens a WebSocket to a stream's object.
pub(crate) async fn connect(
    env: &Env,
    stream: &StreamKey,
    connect: &Connect,
) -> worker::Result<Response> {
    let headers = Headers::new();
    headers.set("Upgrade", "websocket")?;
    headers.set(CONNECT_HEADER, &ascii_json(&serde_json::to_string(connect)?))?;
    let mut init = RequestInit::new();
    init.with_method(Method::Get).with_headers(headers);
    let request = Request::new_with_init("https://object/connect", &init)?;
    stub(env, "STREAMS", &stream.to_string())?.fetch_with_request(request).await
}

/// Headers hold bytes, not text: what isn't ASCII is written as JSON escapes.
fn ascii_json(json: &str) -> String {
    use std::fmt::Write;
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}
