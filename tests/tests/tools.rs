//! Goal: what everybody has at hand reads a stream: `curl` with `jq`, and a browser's EventSource,
//! which resumes by itself.
//! Method: the tools as processes against workerd, cut off by planned ends and by the loss of the
//! object, while events go on.

#![allow(clippy::unwrap_used)]

use std::process::Stdio;

use relay_durable::samples::sized_body;
use relay_tests::{EnrolledEdge, Relay, RelayOptions, WAIT_LIMIT, node_binary, now_ms, root};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const USER: &str = "user-tools";

async fn start_with_age(age_max_s: u32) -> Relay {
    let vars = vec![("STREAM_AGE_MAX_S", age_max_s.to_string())];
    Relay::start_with(RelayOptions { vars, ..RelayOptions::default() }).await
}

async fn deliver(relay: &Relay, edge: &EnrolledEdge, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let body = sized_body(&edge.organization, USER, number, now_ms(), 0);
        relay.deliver(&body, "d").await;
    }
}

fn is_installed(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
}

#[tokio::test]
async fn curl_and_jq_read_a_stream_to_its_end() {
    if !(is_installed("curl") && is_installed("jq")) {
        println!("skipped: curl and jq are not both installed");
        return;
    }
    let relay = start_with_age(2).await;
    let edge = relay.enrol("org-curl", USER).await;
    deliver(&relay, &edge, 1..=2).await;
    relay.wait_for_length(&edge.stream(), 2).await;
    let command = "curl -sN -H \"Authorization: Bearer $EDGE_API_KEY\" \
        \"$PROXY_URL/events/stream?cursor=earliest\" | jq -c '[.type, .n, .data.data.number]'";
    let child = Command::new("sh")
        .args(["-c", command])
        .env("EDGE_API_KEY", &edge.credential)
        .env("PROXY_URL", &relay.url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = timeout(WAIT_LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    let expected =
        "[\"open\",null,null]\n[\"webhook\",1,1]\n[\"webhook\",2,2]\n[\"bye\",null,null]\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(output.status.success());
}

/// The `eventsource` package in a Node.js process.
struct EventSource {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    numbers: Vec<u64>,
}

impl EventSource {
    fn open(relay: &Relay, edge: &EnrolledEdge) -> Self {
        let mut child = Command::new(node_binary())
            .arg(root().join("tests/relay/eventsource.mjs"))
            .arg(format!("{}/events/stream?cursor=earliest", relay.url))
            .arg(&edge.credential)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines, numbers: Vec::new() }
    }

    /// Reads what it prints until `is_enough`; keeps the numbers of the events.
    async fn read_until(&mut self, is_enough: impl Fn(&Value, &[u64]) -> bool) {
        timeout(WAIT_LIMIT, self.read_lines_until(is_enough)).await.expect("waited in vain");
    }

    async fn read_lines_until(&mut self, is_enough: impl Fn(&Value, &[u64]) -> bool) {
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            self.numbers.extend(line["message"]["data"]["data"]["number"].as_u64());
            if is_enough(&line, &self.numbers) {
                return;
            }
        }
    }
}

/// In each round one event comes over an open connection, which is then cut, and two more come
/// while there is none.
async fn check_resumes(relay: &mut Relay, edge: &EnrolledEdge, cuts_by_eviction: bool) {
    let mut source = EventSource::open(relay, edge);
    let mut number = 0;
    for _ in 0..3 {
        number += 1;
        deliver(relay, edge, number..=number).await;
        source.read_until(|_, numbers| numbers.last() == Some(&number)).await;
        if cuts_by_eviction {
            relay.cut_stream(&edge.stream()).await;
        }
        source.read_until(|line, _| line["lost"] == true).await;
        deliver(relay, edge, number + 1..=number + 2).await;
        number += 2;
        source.read_until(|_, numbers| numbers.last() == Some(&number)).await;
    }
    assert!(source.numbers.iter().copied().eq(1..=number), "{:?}", source.numbers);
}

#[tokio::test]
async fn a_browser_resumes_after_planned_ends() {
    let mut relay = start_with_age(3).await;
    let edge = relay.enrol("org-planned-ends", USER).await;
    check_resumes(&mut relay, &edge, false).await;
}

#[tokio::test]
async fn a_browser_resumes_after_the_loss_of_the_object() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-lost-object", USER).await;
    check_resumes(&mut relay, &edge, true).await;
}
