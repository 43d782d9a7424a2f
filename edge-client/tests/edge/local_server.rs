//! Goal: people and scripts on this machine can ask and act; web pages can't.

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{
    events::cursor,
    fake_relay::FakeRelay,
    harness::{Recorder, Running, settings, state, within},
};

async fn start() -> (FakeRelay, Running, String, tempfile::TempDir) {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 3]);
    let (directory, state) = state();
    let probe = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = probe.local_addr().unwrap().to_string();
    drop(probe);
    let recorder = Recorder::new();
    let flags = ["--local", &address];
    let client = Running::start(settings(&relay, &state, &flags), recorder.clone());
    recorder.wait_for(3).await;
    (relay, client, format!("http://{address}"), directory)
}

async fn status(url: &str) -> Value {
    Client::new().get(format!("{url}/status")).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn it_tells_how_things_stand_and_reconnects() {
    let (relay, client, url, _directory) = start().await;
    let health = Client::new().get(format!("{url}/health")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let status = status(&url).await;
    for (name, expected) in [
        ("link", Value::from("open")),
        ("events_handled", 3.into()),
        ("events_held", 0.into()),
        ("lag_events", 0.into()),
        ("gaps", 0.into()),
        ("reports_waiting", 0.into()),
        ("edge", "edge_1".into()),
        ("cursor", cursor(3).to_string().into()),
    ] {
        assert_eq!(status[name], expected, "{name} of {status}");
    }
    let answer = Client::new().post(format!("{url}/admin/reconnect")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    within(relay.wait_for(|seen| seen.dials.len() == 2)).await;
    client.stop().await;
}

#[tokio::test]
async fn web_pages_are_refused() {
    let (relay, client, url, _directory) = start().await;
    let http = Client::new();
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        for path in ["/status", "/admin/reconnect"] {
            let request = http.post(format!("{url}{path}")).header(name, value);
            assert_eq!(
                request.send().await.unwrap().status(),
                StatusCode::FORBIDDEN,
                "{name} {path}"
            );
        }
    }
    let get = http.get(format!("{url}/admin/reconnect")).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(relay.seen(|seen| seen.dials.len()), 1);
    client.stop().await;
}
