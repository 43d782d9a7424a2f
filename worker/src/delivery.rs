use base64::{Engine, engine::general_purpose::STANDARD};
use js_sys::{ArrayBuffer, Uint8Array};
use relay_schemas::{Counter, UnixMillis};
use wasm_bindgen::{JsCast, JsValue};
use worker_sys::Message as MessageSys;

use crate::metrics;

const RETRY_DELAY_S_MAX: u32 = 1_800;

/// One message of a batch, with its handle.
pub(crate) struct Delivery {
    inner: MessageSys,
    /// Its text; what is neither text nor bytes is written as JSON.
    pub(crate) text: String,
}

impl Delivery {
    /// A message as the platform hands it over.
    pub(crate) fn new(value: JsValue) -> Self {
        let inner: MessageSys = value.unchecked_into();
        let body = inner.body().unwrap_or(JsValue::UNDEFINED);
        let text = body
            .as_string()
            .or_else(|| text_of_bytes(&body))
            .or_else(|| js_sys::JSON::stringify(&body).ok().map(Into::into));
        Self { text: text.unwrap_or_default(), inner }
    }

    /// The queue's id for it.
    pub(crate) fn id(&self) -> String {
        self.inner.id().map(Into::into).unwrap_or_default()
    }

    /// How often it has been delivered, this time included.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and whole")]
    pub(crate) fn attempts(&self) -> u32 {
        let attempts = js_sys::Reflect::get(&self.inner, &"attempts".into()).ok();
        attempts.and_then(|value| value.as_f64()).unwrap_or(1.0) as u32
    }

    /// When the queue took it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds")]
    pub(crate) fn sent_at(&self) -> UnixMillis {
        UnixMillis::new(self.inner.timestamp().map_or(0.0, |date| date.get_time()) as u64)
    }

    /// Takes the message off the queue.
    pub(crate) fn acknowledge(&self) {
        let _ = self.inner.ack();
    }

    /// Gives the message back, for later.
    pub(crate) fn retry(&self) {
        self.retry_after(2_u32.saturating_pow(self.attempts()).min(RETRY_DELAY_S_MAX));
    }

    /// The same, for as long as may be.
    pub(crate) fn retry_late(&self) {
        self.retry_after(RETRY_DELAY_S_MAX);
    }

    fn retry_after(&self, delay_s: u32) {
        let options = js_sys::Object::new();
        let _ = js_sys::Reflect::set(&options, &"delaySeconds".into(), &delay_s.into());
        let _ = self.inner.retry(options.into());
        metrics::add(Counter::Retried, 1);
    }
}

/// Bytes as text, so that a dead letter keeps what came: as it is where it is UTF-8, else as
/// base64 with that word in front.
fn text_of_bytes(body: &JsValue) -> Option<String> {
    let bytes = match (body.dyn_ref::<ArrayBuffer>(), body.dyn_ref::<Uint8Array>()) {
        (Some(buffer), _) => Uint8Array::new(buffer).to_vec(),
        (None, Some(array)) => array.to_vec(),
        (None, None) => return None,
    };
    let text = String::from_utf8(bytes);
    Some(text.unwrap_or_else(|error| format!("base64:{}", STANDARD.encode(error.as_bytes()))))
}
