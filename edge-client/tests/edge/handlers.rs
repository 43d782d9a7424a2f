//! Goal: a handler gets the exact bytes, in order where order matters, as often as it must and no
//! more; and nothing that it starts outlives the client.

use std::{collections::BTreeMap, fs, path::Path};

use edgerelay::{Exit, WriteHandler};
use relay_schemas::{Frame, SecretList, verify};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    events::{SECRET, event_id},
    fake_relay::FakeRelay,
    harness::{Recorder, Running, settings, state, within},
    http::Request,
};

/// Bodies that a careless hand would change.
fn bodies() -> Vec<String> {
    vec![
        r#"{"type":"AgentSessionEvent","a":1.0,"b":"\u0000\ud800 é😀"}"#.into(),
        "{\n  \"type\": \"Issue\",\r\n  \"indented\": true\n}\n".into(),
        format!(r#"{{"text":"{}"}}"#, "x".repeat(300_000)),
    ]
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn a_command_gets_the_exact_body_and_everything_else_in_variables() {
    let relay = FakeRelay::start().await;
    relay.push_bodies(&bodies());
    let (directory, state) = state();
    let at = directory.path().display();
    let command = format!(
        "cat > {at}/$EDGERELAY_EVENT_ID.body; env | grep ^EDGERELAY_ > {at}/$EDGERELAY_EVENT_ID.env"
    );
    let flags = ["--exec", &command, "--exit-when-caught-up"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    assert_eq!(client.exit().await, Exit::CaughtUp);
    for (index, body) in bodies().iter().enumerate() {
        let id = event_id(index as u64 + 1).to_string();
        let received = fs::read(directory.path().join(format!("{id}.body"))).unwrap();
        assert_eq!(received, body.as_bytes());
        let text = read(&directory.path().join(format!("{id}.env")));
        let variables: BTreeMap<_, _> =
            text.lines().filter_map(|line| line.split_once('=')).collect();
        let headers: Vec<(String, String)> =
            serde_json::from_str(variables["EDGERELAY_HEADERS"]).unwrap();
        let signature = headers.iter().find(|(name, _)| name == "Linear-Signature").unwrap();
        let secrets = SecretList::parse(std::str::from_utf8(SECRET).unwrap()).unwrap();
        assert_eq!(verify(&secrets, &received, Some(&signature.1)), Ok(()));
        for (name, expected) in [
            ("EDGERELAY_EVENT_ID", id.as_str()),
            ("EDGERELAY_KIND", "AgentSessionEvent.created"),
            ("EDGERELAY_ORGANIZATION", "org-1"),
            ("EDGERELAY_CHANNEL", "user:u-1"),
            ("EDGERELAY_DELIVERY", "delivery-1"),
            ("EDGERELAY_SOURCE", "linear"),
            ("EDGERELAY_ATTEMPT", "1"),
        ] {
            assert_eq!(variables[name], expected, "{name}");
        }
        assert!(variables["EDGERELAY_TIMESTAMP"].starts_with("2026-09-21T"));
        assert_eq!(variables["EDGERELAY_CURSOR"].len(), 23);
    }
}

#[tokio::test]
async fn a_command_that_reads_nothing_is_no_failure() {
    let relay = FakeRelay::start().await;
    relay.push_bodies(&bodies());
    let (_directory, state) = state();
    let flags = ["--exec", "true", "--exit-when-caught-up", "--attempts", "1"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    assert_eq!(client.exit().await, Exit::CaughtUp);
}

#[tokio::test]
async fn a_failing_command_is_tried_again_and_then_stops_the_client() {
    let relay = FakeRelay::start().await;
    relay.push(&["s", "s"]);
    let (directory, state) = state();
    let log = directory.path().join("log");
    let command =
        format!("echo $EDGERELAY_EVENT_ID $EDGERELAY_ATTEMPT >> {}; exit 7", log.display());
    let flags = ["--exec", &command, "--attempts", "2"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    let exit = client.exit().await;
    assert_eq!(exit.code(), 4);
    assert!(exit.to_string().contains("exit status: 7"), "{exit}");
    let first = event_id(1);
    assert_eq!(read(&log), format!("{first} 1\n{first} 2\n"));

    // The cursor stayed before it: the next start tries it again, before the second event.
    let recorder = Recorder::new();
    let flags = ["--exit-when-caught-up"];
    Running::start(settings(&relay, &state, &flags), recorder.clone()).exit().await;
    assert_eq!(recorder.events(), [event_id(1), event_id(2)]);
}

#[tokio::test]
async fn a_failing_command_can_be_passed_over() {
    let relay = FakeRelay::start().await;
    relay.push(&["s", "s", "s"]);
    let (_directory, state) = state();
    let command = format!("test $EDGERELAY_EVENT_ID != {}", event_id(2));
    let flags =
        ["--exec", &command, "--attempts", "1", "--on-failure", "skip", "--exit-when-caught-up"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    assert_eq!(client.exit().await, Exit::CaughtUp);
    let reports: Vec<_> = relay.seen(|seen| {
        seen.reports.iter().map(|report| (report.event_id, report.status.as_str())).collect()
    });
    let of = |seq| -> Vec<&str> {
        reports.iter().filter(|(id, _)| *id == event_id(seq)).map(|(_, status)| *status).collect()
    };
    assert_eq!(of(1), ["processing", "completed"]);
    assert_eq!(of(2), ["processing", "failed"]);
    assert_eq!(of(3), ["processing", "completed"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_that_takes_too_long_ends_with_all_that_it_started() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (directory, state) = state();
    let pid = directory.path().join("pid");
    let command = format!("sleep 1000 & echo $! > {}; wait", pid.display());
    let flags = ["--exec", &command, "--exec-timeout", "1s", "--attempts", "1"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    let exit = client.exit().await;
    assert_eq!(exit.code(), 4);
    assert!(exit.to_string().contains("too long"), "{exit}");
    within(gone(read(&pid).trim().parse().unwrap())).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_that_runs_beyond_the_grace_ends_with_the_client() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (directory, state) = state();
    let pid = directory.path().join("pid");
    // Deaf to the polite request.
    let command = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", pid.display());
    let flags = ["--exec", &command, "--grace", "0"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    while read(&pid).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.stop().await, Exit::Stopped);
    within(gone(read(&pid).trim().parse().unwrap())).await;
}

/// Waits until a process is gone, or only waits for its parent.
#[cfg(unix)]
async fn gone(pid: u32) {
    loop {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn commands_of_one_session_run_in_order_and_others_beside_them() {
    let relay = FakeRelay::start().await;
    relay.push(&["a", "a", "b", "a", "b"]);
    let (directory, state) = state();
    let log = directory.path().join("log");
    let go = directory.path().join("go");
    // Session a's first command waits for session b's last one: without concurrency, for ever.
    let command = format!(
        "if test $EDGERELAY_EVENT_ID = {first}; then while ! test -e {go}; do sleep 0.02; done; fi
         echo $EDGERELAY_EVENT_ID >> {log}
         if test $EDGERELAY_EVENT_ID = {last}; then touch {go}; fi",
        first = event_id(1),
        last = event_id(5),
        go = go.display(),
        log = log.display(),
    );
    let flags = ["--exec", &command, "--concurrency", "3", "--exit-when-caught-up"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    assert_eq!(client.exit().await, Exit::CaughtUp);
    let expected: String = [3, 5, 1, 2, 4].map(|seq| format!("{}\n", event_id(seq))).concat();
    assert_eq!(read(&log), expected);
}

/// Answers one request after another with the next status, then with 200.
async fn receiver(
    statuses: &'static [u16],
) -> (String, tokio::sync::mpsc::UnboundedReceiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut statuses = statuses.iter();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(request) = Request::read(&mut stream).await else { continue };
            let status = statuses.next().unwrap_or(&200);
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = sender.send(request);
        }
    });
    (url, requests)
}

#[tokio::test]
async fn forwarding_keeps_bytes_and_headers_and_tries_again() {
    let relay = FakeRelay::start().await;
    relay.push_bodies(&bodies());
    let (_directory, state) = state();
    let (url, mut requests) = receiver(&[500, 302]).await;
    let flags = ["--forward", &url, "--exit-when-caught-up"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    let mut expected = bodies();
    let first = expected[0].clone();
    expected.splice(0..0, [first.clone(), first]);
    for body in expected {
        let request = within(requests.recv()).await.unwrap();
        assert_eq!(request.path, "/hook?x=1");
        assert_eq!(request.body, body.as_bytes());
        let secrets = SecretList::parse(std::str::from_utf8(SECRET).unwrap()).unwrap();
        let signature = request.header("Linear-Signature");
        assert_eq!(verify(&secrets, &request.body, signature.as_deref()), Ok(()));
        assert_eq!(request.header("content-type").unwrap(), "application/json; charset=utf-8");
        assert!(request.header("edgerelay-event-id").unwrap().starts_with("evt_"));
        assert_eq!(request.header("authorization"), None, "the credential is for the relay only");
    }
    assert_eq!(client.exit().await, Exit::CaughtUp);
}

#[tokio::test]
async fn a_receiver_that_is_away_holds_the_cursor() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (_directory, state) = state();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let flags = ["--forward", &url, "--attempts", "1"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    let exit = client.exit().await;
    assert_eq!(exit.code(), 4);
    assert!(exit.to_string().contains("can't connect"), "{exit}");
}

#[tokio::test]
async fn printed_lines_are_the_relays_own() {
    let relay = FakeRelay::start().await;
    relay.push_bodies(&bodies());
    let (directory, state) = state();
    let path = directory.path().join("out");
    let handler = WriteHandler::new(fs::File::create(&path).unwrap()).unwrap();
    let flags = ["--exit-when-caught-up"];
    let client = Running::start(settings(&relay, &state, &flags), handler);
    assert_eq!(client.exit().await, Exit::CaughtUp);
    let text = read(&path);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), bodies().len());
    for (line, body) in lines.iter().zip(bodies()) {
        let Ok(Frame::Webhook(webhook)) = Frame::parse(line) else { panic!("{line}") };
        assert_eq!(webhook.body_bytes().unwrap(), body.as_bytes());
    }
}
