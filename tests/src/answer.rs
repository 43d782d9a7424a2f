use relay_schemas::{ErrorBody, ErrorCode};
use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use crate::WAIT_LIMIT;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The answer to a request.
    pub async fn to(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = timeout(WAIT_LIMIT, answer.bytes()).await;
        let body = body.unwrap_or_else(|_| panic!("the body of a {status} has no end"));
        Self { status, headers, body: body.unwrap().to_vec() }
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// Asserts success, and gives the body as JSON.
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text());
        self.json()
    }

    /// Asserts a refusal in all that clients rely on; `case` names it in a failure. Gives the
    /// error object.
    pub fn refused(&self, case: &str, code: ErrorCode) -> Value {
        let text = self.text();
        let Ok(body) = serde_json::from_str::<ErrorBody>(&text) else {
            panic!("{case}: {} {text}", self.status)
        };
        assert_eq!(body.error.code, code.as_str(), "{case}: {text}");
        assert_eq!(self.status, code.status(), "{case}: {text}");
        assert_eq!(body.error.retryable, code.is_retryable(), "{case}");
        assert!(!body.error.message.is_empty(), "{case}");
        assert_eq!(self.header("Retry-After").is_some(), code.is_retryable(), "{case}");
        assert_eq!(self.header("Content-Type"), Some("application/json"), "{case}");
        assert!(self.header("X-Request-Id").is_some_and(|id| !id.is_empty()), "{case}");
        self.json()["error"].clone()
    }
}
