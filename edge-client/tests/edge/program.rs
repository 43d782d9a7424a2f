//! Goal: the program itself: exit codes, standard output, signals, `check`.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use relay_schemas::ErrorCode;

use crate::{
    events::event_id,
    fake_relay::{FakeRelay, Plan},
    harness::{credential, state},
};

pub(crate) fn program(relay: &str, state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgerelay"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PROXY_URL", relay)
        .env("EDGE_API_KEY", credential("edge_1"))
        .env("EDGERELAY_STATE", state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end, beside the relay in this process.
pub(crate) async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads so many lines, then gives the rest back.
pub(crate) async fn lines(child: &mut Child, count: usize) -> Vec<String> {
    let output = child.stdout.take().unwrap();
    let (lines, output) = tokio::task::spawn_blocking(move || {
        let mut reader = BufReader::with_capacity(1, output);
        let mut lines = Vec::new();
        for _ in 0..count {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            lines.push(line);
        }
        (lines, reader.into_inner())
    })
    .await
    .unwrap();
    child.stdout = Some(output);
    lines
}

pub(crate) async fn wait(mut child: Child) -> (Option<i32>, String) {
    tokio::task::spawn_blocking(move || {
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (child.wait().unwrap().code(), stderr)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn stdout_is_events_and_stderr_the_rest() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 3]);
    let (_directory, state) = state();
    let output = output(program(&relay.url(), &state, &["listen", "--exit-when-caught-up"])).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3].map(|seq| event_id(seq).to_string()));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("local http://127.0.0.1:"), "{stderr}");
    assert!(stderr.contains("first start"), "{stderr}");
    assert!(!stderr.contains(credential("edge_1").rsplit_once('.').unwrap().1));
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_does_not_see_the_credential() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (_directory, state) = state();
    let flags = ["listen", "--exec", "env", "--exit-when-caught-up"];
    let output = output(program(&relay.url(), &state, &flags)).await;
    let stdout = text(&output.stdout);
    assert!(stdout.contains("EDGERELAY_ATTEMPT=1"), "{stdout}");
    assert!(!stdout.contains("EDGE_API_KEY"), "{stdout}");
}

#[tokio::test]
async fn exit_codes_are_those_of_the_help() {
    let relay = FakeRelay::start().await;
    let (_directory, state) = state();
    let wrong = program(&relay.url(), &state, &["listen", "--concurrency", "0"]);
    assert_eq!(output(wrong).await.status.code(), Some(2));
    assert_eq!(output(program(&relay.url(), &state, &["listn"])).await.status.code(), Some(2));
    relay.plan(Plan { refuse: Some((ErrorCode::CredentialRevoked, None)), ..Plan::default() });
    let refused = output(program(&relay.url(), &state, &["listen"])).await;
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("ask for a new one"), "{}", text(&refused.stderr));
    let version = output(program("", &state, &["--version"])).await;
    assert_eq!(text(&version.stdout), format!("edgerelay {}\n", env!("CARGO_PKG_VERSION")));
}

#[cfg(unix)]
#[tokio::test]
async fn signals_end_it_and_a_kill_loses_nothing() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 2]);
    let (_directory, state) = state();
    for (signal, code) in
        [(Signal::SIGTERM, Some(0)), (Signal::SIGINT, Some(0)), (Signal::SIGKILL, None)]
    {
        let command = ["listen", "--reset", "--local", "off"];
        let mut child = program(&relay.url(), &state, &command).spawn().unwrap();
        assert_eq!(lines(&mut child, 2).await.len(), 2);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let (status, stderr) = wait(child).await;
        assert_eq!(status, code, "{signal}: {stderr}");
    }
    relay.push(&["s"]);
    let next = output(program(&relay.url(), &state, &["listen", "--exit-when-caught-up"])).await;
    assert_eq!(next.status.code(), Some(0), "the lock of the killed one is gone");
    assert!(text(&next.stdout).contains(&event_id(3).to_string()));
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 2]);
    let (_directory, state) = state();
    let mut child = program(&relay.url(), &state, &["listen"]).spawn().unwrap();
    assert_eq!(lines(&mut child, 2).await.len(), 2);
    drop(child.stdout.take());
    // A process that another test is just starting may still have the reading end for a moment.
    let mut count = 2;
    let pushing = async {
        loop {
            relay.push(&["s"]);
            count += 1;
            relay.wait_for(|seen| seen.events_sent >= count).await;
        }
    };
    let (status, stderr) = tokio::select! {
        ended = wait(child) => ended,
        () = pushing => unreachable!("there is always another event"),
    };
    assert_eq!(status, Some(0), "{stderr}");
    assert!(!stderr.contains("WARN"), "{stderr}");
    // What nobody read comes again.
    let next = output(program(&relay.url(), &state, &["listen", "--exit-when-caught-up"])).await;
    assert!(text(&next.stdout).contains(&event_id(count as u64).to_string()));
}

#[tokio::test]
async fn check_says_what_would_be_used_and_whether_it_works() {
    let relay = FakeRelay::start().await;
    let (_directory, state) = state();
    let good = output(program(&relay.url(), &state, &["check", "--concurrency", "2"])).await;
    let stdout = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{stdout}");
    for expected in [
        "[the environment variable PROXY_URL]",
        "edge_1, organization org-1, user u-1, expires at 2096",
        "concurrency    2  [the flag --concurrency]",
        "this would be a first start",
        "relay answers  ok, version 9",
        "credential     ok, the relay accepts it",
    ] {
        assert!(stdout.contains(expected), "{expected:?} in {stdout}");
    }
    assert!(!state.exists(), "a check leaves nothing behind");
    relay.plan(Plan { refuse: Some((ErrorCode::CredentialExpired, None)), ..Plan::default() });
    let bad = output(program(&relay.url(), &state, &["check"])).await;
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).contains("credential     FAILED"), "{}", text(&bad.stdout));
    let away = output(program("http://127.0.0.1:1", &state, &["check"])).await;
    assert_eq!(away.status.code(), Some(1));
    assert!(text(&away.stdout).contains("relay answers  FAILED: can't connect"));
}
