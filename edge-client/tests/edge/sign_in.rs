//! Goal: a person signs a machine in and out, and asks who it is, without ever seeing a token.
//! Method: the program against a relay that follows a script.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    fake_relay::FakeRelay,
    harness::credential,
    http::Answer,
    program::{output, program, text},
};

/// The program with nothing but this directory.
pub(crate) fn signed_out(relay: &FakeRelay, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = program(&relay.url(), &directory.join("state.db"), arguments);
    command
        .env_remove("EDGE_API_KEY")
        .env("XDG_CONFIG_HOME", directory)
        .env("EDGERELAY_CREDENTIAL_STORE", "file");
    command
}

pub(crate) fn grant(access: &str, refresh: &str) -> Answer {
    let body = json!({
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": refresh,
        "scope": "read:events write:status",
        "edge": { "id": "edge_1", "name": "laptop", "organization": "org-1", "user": "u-1" },
    });
    Answer::ok(&body.to_string())
}

fn code() -> Answer {
    let body = json!({
        "device_code": "d3v1ce",
        "user_code": "ABCD-EFGH",
        "verification_uri": "https://relay.example.com/device",
        "verification_uri_complete": "https://relay.example.com/device?code=ABCD-EFGH",
        "expires_in": 600,
        "interval": 1,
    });
    Answer::ok(&body.to_string())
}

fn stored(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join("edgerelay/credentials.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn login_shows_a_code_waits_and_keeps_the_sign_in() {
    let relay = FakeRelay::start().await;
    let directory = tempfile::tempdir().unwrap();
    let access = credential("edge_1");
    relay.plan_device(code());
    relay.plan_device(Answer::oauth("authorization_pending", None));
    relay.plan_device(grant(&access, "r3fresh"));
    let arguments = [
        "login",
        "--name",
        "desk",
        "--channel",
        "team:t",
        "--channel",
        "org",
        "--scope",
        "read:events",
    ];
    let output = output(signed_out(&relay, directory.path(), &arguments)).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("https://relay.example.com/device?code=ABCD-EFGH"), "{stderr}");
    assert!(stderr.contains("code:  ABCD-EFGH"), "{stderr}");
    assert!(stdout.contains("signed in at http://127.0.0.1"), "{stdout}");
    assert!(stdout.contains("credentials.json"), "{stdout}");
    for secret in [access.as_str(), "r3fresh", "d3v1ce"] {
        assert!(!stdout.contains(secret) && !stderr.contains(secret), "{stdout}{stderr}");
    }
    relay.seen(|seen| {
        let asked: Value = serde_json::from_str(&seen.device[0].1).unwrap();
        let expected =
            json!({ "client_name": "desk", "scopes": ["read:events"], "channels": ["team:t", "org"] });
        assert_eq!(asked, expected);
        let polled = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=d3v1ce";
        assert_eq!(seen.device[1..], [("/device/token".into(), polled.into()), ("/device/token".into(), polled.into())]);
    });
    let entry = &stored(directory.path())["relays"][relay.url()];
    assert_eq!(entry["access_token"], access.as_str());
    assert_eq!(entry["refresh_token"], "r3fresh");
}

#[cfg(unix)]
#[tokio::test]
async fn a_sign_in_is_for_its_owner_alone_and_beside_others() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let mut urls = Vec::new();
    for refresh in ["one", "two"] {
        let relay = FakeRelay::start().await;
        relay.plan_device(code());
        relay.plan_device(grant(&credential("edge_1"), refresh));
        let output = output(signed_out(&relay, directory.path(), &["login"])).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        urls.push((relay.url(), refresh));
    }
    let own = directory.path().join("edgerelay");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&own), 0o700);
    assert_eq!(mode(&own.join("credentials.json")), 0o600);
    for (url, refresh) in urls {
        assert_eq!(stored(directory.path())["relays"][url]["refresh_token"], refresh);
    }
    let names: Vec<_> =
        fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its lock: {names:?}");
}

/// The only test that may meet a keyring; it is told that there is none.
#[tokio::test]
async fn auto_falls_back_to_the_file_where_there_is_no_keyring() {
    let relay = FakeRelay::start().await;
    let directory = tempfile::tempdir().unwrap();
    relay.plan_device(code());
    relay.plan_device(grant(&credential("edge_1"), "r3fresh"));
    let without_keyring = |arguments: &[&str]| {
        let mut command = signed_out(&relay, directory.path(), arguments);
        let nowhere = directory.path().join("nowhere");
        command
            .env("EDGERELAY_CREDENTIAL_STORE", "auto")
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", nowhere.display()))
            .env("XDG_RUNTIME_DIR", &nowhere);
        command
    };
    let started = std::time::Instant::now();
    let login = output(without_keyring(&["login", "--json"])).await;
    assert_eq!(login.status.code(), Some(0), "{}", text(&login.stderr));
    assert!(!text(&login.stderr).contains("panicked"), "{}", text(&login.stderr));
    let stdout = text(&login.stdout);
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["user_code"], "ABCD-EFGH");
    assert_eq!(
        (&lines[1]["kept_in"], &lines[1]["edge"]["name"]),
        (&json!("file"), &json!("laptop"))
    );
    let whoami = output(without_keyring(&["whoami", "--json"])).await;
    let said: Value = serde_json::from_str(&text(&whoami.stdout)).unwrap();
    assert_eq!(
        (&said["edge"], &said["credential"]),
        (&json!("edge_1"), &json!("the credentials file"))
    );
    let explicit = {
        let mut command = without_keyring(&["whoami"]);
        command.env("EDGERELAY_CREDENTIAL_STORE", "keyring");
        output(command).await
    };
    assert_eq!(explicit.status.code(), Some(1));
    assert!(
        text(&explicit.stderr).contains("--credential-store file"),
        "{}",
        text(&explicit.stderr)
    );
    assert!(started.elapsed().as_secs() < 30, "a keyring that is not there holds up nobody");
}

#[tokio::test]
async fn a_sign_in_that_is_not_approved_says_why() {
    for (error, words) in
        [("access_denied", "was denied"), ("expired_token", "nobody approved the sign-in in time")]
    {
        let relay = FakeRelay::start().await;
        let directory = tempfile::tempdir().unwrap();
        relay.plan_device(code());
        relay.plan_device(Answer::oauth(error, None));
        let output = output(signed_out(&relay, directory.path(), &["login"])).await;
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
        assert!(!directory.path().join("edgerelay/credentials.json").exists());
    }
}

#[tokio::test]
async fn logout_tells_the_relay_and_forgets_also_without_it() {
    for is_away in [false, true] {
        let relay = FakeRelay::start().await;
        let directory = tempfile::tempdir().unwrap();
        relay.plan_device(code());
        relay.plan_device(grant(&credential("edge_1"), "r3fresh"));
        output(signed_out(&relay, directory.path(), &["login"])).await;
        if !is_away {
            relay.plan_device(Answer::ok("{}"));
        }
        let logout = output(signed_out(&relay, directory.path(), &["logout", "--json"])).await;
        assert_eq!(logout.status.code(), Some(0), "{}", text(&logout.stderr));
        let said: Value = serde_json::from_str(&text(&logout.stdout)).unwrap();
        assert_eq!((&said["was_signed_in"], &said["revoked"]), (&json!(true), &json!(!is_away)));
        let last = relay.seen(|seen| seen.device.last().cloned()).unwrap();
        assert_eq!(last, ("/device/revoke".into(), "token=r3fresh".into()));
        assert!(stored(directory.path())["relays"].as_object().unwrap().is_empty());
        let whoami = output(signed_out(&relay, directory.path(), &["whoami"])).await;
        assert_eq!(whoami.status.code(), Some(3));
        assert!(text(&whoami.stderr).contains("run edgerelay login"), "{}", text(&whoami.stderr));
        let again = output(signed_out(&relay, directory.path(), &["logout"])).await;
        assert!(text(&again.stdout).contains("was not signed in"), "{}", text(&again.stdout));
    }
}

#[tokio::test]
async fn whoami_works_with_a_written_credential_too() {
    let relay = FakeRelay::start().await;
    let directory = tempfile::tempdir().unwrap();
    let output =
        output(program(&relay.url(), &directory.path().join("state.db"), &["whoami"])).await;
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for expected in ["edge           edge_1", "channels       user:u-1", "EDGE_API_KEY"] {
        assert!(stdout.contains(expected), "{expected} in {stdout}");
    }
    assert!(!stdout.contains("eyJ"), "{stdout}");
}

#[tokio::test]
async fn without_a_credential_every_command_says_what_to_do() {
    let relay = FakeRelay::start().await;
    let directory = tempfile::tempdir().unwrap();
    for (arguments, expected) in
        [(&["listen"][..], 3), (&["export"], 3), (&["whoami"], 3), (&["check"], 1)]
    {
        let output = output(signed_out(&relay, directory.path(), arguments)).await;
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {all}");
        assert!(all.contains("run edgerelay login") && all.contains("EDGE_API_KEY="), "{all}");
    }
}
