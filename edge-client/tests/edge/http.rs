//! HTTP as far as the tests need it: requests read, answers written.

use relay_schemas::{ErrorCode, Problem};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(body: &str) -> Self {
        Self { status: 200, retry_after_s: None, body: body.into() }
    }

    /// As RFC 6749 spells errors.
    pub(crate) fn oauth(error: &str, code: Option<&str>) -> Self {
        let body = serde_json::json!({ "error": error, "code": code });
        Self { status: 400, retry_after_s: None, body: body.to_string() }
    }

    pub(crate) fn problem((code, retry_after_s): (ErrorCode, Option<u64>)) -> Self {
        let body = Problem::new(code, "as planned").to_json();
        Self { status: code.status(), retry_after_s, body }
    }
}

pub(crate) async fn respond(stream: &mut TcpStream, answer: &Answer) {
    let retry_after = answer
        .retry_after_s
        .map(|seconds| format!("Retry-After: {seconds}\r\n"))
        .unwrap_or_default();
    let text = format!(
        "HTTP/1.1 {} X\r\nContent-Type: application/json\r\n{retry_after}Content-Length: {}\r\n\r\n{}",
        answer.status,
        answer.body.len(),
        answer.body
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

/// A request as far as tests look at it; also used by the receivers of `--forward`.
pub(crate) struct Request {
    pub(crate) path: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let mut body = bytes.split_off(end);
        let head = String::from_utf8(bytes).unwrap();
        let path = head.split(' ').nth(1)?.to_owned();
        let mut request = Self { path, head, body: Vec::new() };
        let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
        while body.len() < length {
            if stream.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        request.body = body;
        Some(request)
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}
