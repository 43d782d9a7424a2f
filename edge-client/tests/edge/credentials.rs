//! Goal: a sign-in is kept alive without anybody noticing, and is never burnt: not by two at once,
//! not by a relay that is away, not by a crash. Method: a file as a login leaves it, and a relay
//! that counts how often it is asked.

use std::{fs, path::Path};

use relay_schemas::{ByeCode, ErrorCode};

use crate::{
    events::event_id,
    fake_relay::Plan,
    harness::{credential, credential_until, within},
    home::{Home, Listening, in_seconds, set_mode},
    http::Answer,
    program::{output, program, text},
    sign_in::{grant, signed_out},
};

#[tokio::test]
async fn less_than_five_minutes_are_refreshed_before_the_dial_and_more_are_not() {
    for (left, refreshes) in [(3_600, 0), (310, 0), (290, 1), (-10, 1)] {
        let home = Home::new(&credential_until("edge_1", in_seconds(left))).await;
        let next = credential("edge_1");
        home.relay.push(&["s"]);
        home.relay.plan_device(grant(&next, "second"));
        let (client, recorder) = home.listen(&["--exit-when-caught-up"]);
        assert_eq!(client.exit().await.code(), 0);
        assert_eq!(recorder.events(), [event_id(1)]);
        assert_eq!(home.refreshes().len(), refreshes, "{left}");
        if refreshes > 0 {
            assert_eq!(home.last_credential(), format!("Bearer {next}"));
            assert_eq!(
                (home.stored("access_token"), home.stored("refresh_token")),
                (next, "second".into())
            );
        }
    }
}

/// The earlier system threw its refresh token away, and later used it only once for each process.
#[tokio::test]
async fn a_refresh_works_more_than_once() {
    let home = Home::new(&credential_until("edge_1", in_seconds(3_600))).await;
    home.relay.push(&["s"]);
    let (client, recorder) = home.listen(&["--report", "on"]);
    recorder.wait_for(1).await;
    let mut count = 1;
    for (before, after) in [("first", "second"), ("second", "third"), ("third", "fourth")] {
        let next = credential("edge_1");
        home.relay.accept_only(&next);
        home.relay.plan_device(grant(&next, after));
        home.relay.push(&["s"]);
        count += 1;
        let reports = count * 2;
        within(home.relay.wait_for(|seen| seen.reports.len() == reports)).await;
        assert_eq!(home.refreshes().last().unwrap(), before);
        assert_eq!(home.stored("refresh_token"), after);
    }
    client.stop().await;
    assert_eq!(home.refreshes().len(), 3);
}

#[tokio::test]
async fn a_goodbye_to_an_expired_credential_is_followed_with_the_next() {
    for transport in ["ws", "ndjson"] {
        let home = Home::new(&credential_until("edge_1", in_seconds(3_600))).await;
        home.relay.push(&["s"; 3]);
        let bye = Some((ByeCode::Expired, 0));
        home.relay.plan(Plan { frames_max: Some(2), bye, ..Plan::default() });
        let (client, recorder) = home.listen(&["--transport", transport]);
        // By the relay's clock it has expired, by this machine's it lasts an hour.
        let next = credential("edge_1");
        recorder.wait_for(1).await;
        home.relay.accept_only(&next);
        home.relay.plan_device(grant(&next, "second"));
        recorder.wait_for(3).await;
        client.stop().await;
        assert_eq!(home.refreshes().first().unwrap(), "first");
        assert_eq!(home.last_credential(), format!("Bearer {next}"));
    }
}

/// The earlier system's processes refreshed at the same time; the second burnt the first's token.
#[tokio::test]
async fn two_at_once_do_not_burn_the_refresh_token() {
    let home = Home::new(&credential_until("edge_1", in_seconds(10))).await;
    let next = credential("edge_1");
    home.relay.plan_device(grant(&next, "second"));
    let whoami = || output(signed_out(&home.relay, home.directory.path(), &["whoami"]));
    let all = futures::future::join_all((0..6).map(|_| whoami())).await;
    for output in all {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    assert_eq!(home.refreshes(), ["first"]);
    assert_eq!(home.last_credential(), format!("Bearer {next}"));
}

#[tokio::test]
async fn many_requests_of_one_process_refresh_once() {
    let home = Home::new(&credential_until("edge_1", in_seconds(3_600))).await;
    let sessions: Vec<String> = (0..30).map(|session| session.to_string()).collect();
    let sessions: Vec<&str> = sessions.iter().map(String::as_str).collect();
    let next = credential("edge_1");
    home.relay.accept_only(&next);
    home.relay.plan_device(grant(&next, "second"));
    home.relay.push(&sessions);
    let (client, _) = home.listen(&["--report", "on", "--concurrency", "8"]);
    within(home.relay.wait_for(|seen| seen.reports.len() == 60)).await;
    client.stop().await;
    assert_eq!(home.refreshes(), ["first"]);
}

#[tokio::test]
async fn a_relay_that_is_away_is_asked_again_with_the_same_token() {
    let home = Home::new(&credential_until("edge_1", in_seconds(-10))).await;
    let next = credential("edge_1");
    home.relay.plan_device(Answer::problem((ErrorCode::Unavailable, None)));
    home.relay.plan_device(Answer { status: 502, retry_after_s: None, body: "<html>".into() });
    home.relay.plan_device(grant(&next, "second"));
    home.relay.push(&["s"]);
    let (client, recorder) = home.listen(&[]);
    recorder.wait_for(1).await;
    client.stop().await;
    assert_eq!(home.refreshes(), ["first"; 3]);
}

#[tokio::test]
async fn a_credential_that_still_lasts_is_used_while_it_can_not_be_refreshed() {
    let home = Home::new(&credential_until("edge_1", in_seconds(200))).await;
    let first = home.stored("access_token");
    home.relay.plan_device(Answer::problem((ErrorCode::Unavailable, None)));
    home.relay.push(&["s"; 3]);
    let (client, recorder) = home.listen(&["--report", "on"]);
    recorder.wait_for(3).await;
    within(home.relay.wait_for(|seen| seen.reports.len() == 6)).await;
    client.stop().await;
    assert_eq!(home.last_credential(), format!("Bearer {first}"));
    assert_eq!(home.refreshes().len(), 1, "not with every request");
}

#[tokio::test]
async fn a_new_pair_is_stored_before_it_is_used() {
    let home = Home::new(&credential_until("edge_1", in_seconds(-10))).await;
    let next = credential("edge_1");
    home.relay.plan_device(grant(&next, "second"));
    home.relay.push(&["s"]);
    // The store takes nothing.
    fs::create_dir(home.path("credentials.json.new")).unwrap();
    let mut listen = Listening::start(&home);
    listen.wait_for_line("can't be stored").await;
    assert_eq!(home.stored("refresh_token"), "first");
    assert!(home.relay.seen(|seen| seen.dials.is_empty()), "nothing is asked with it yet");
    fs::remove_dir(home.path("credentials.json.new")).unwrap();
    within(home.relay.wait_for(|seen| !seen.dials.is_empty())).await;
    drop(listen);
    assert_eq!(home.stored("refresh_token"), "second");
    assert_eq!(home.last_credential(), format!("Bearer {next}"));
    assert_eq!(
        home.refreshes(),
        ["first"],
        "the pair that was at hand is kept, not asked for anew"
    );
}

/// Another process, or a person, has changed the sign-in since.
#[tokio::test]
async fn a_pair_that_was_not_stored_in_time_replaces_nothing_newer() {
    for is_signed_out in [false, true] {
        let home = Home::new(&credential_until("edge_1", in_seconds(-10))).await;
        home.relay.plan_device(grant(&credential("edge_1"), "second"));
        home.relay.push(&["s"]);
        fs::create_dir(home.path("credentials.json.new")).unwrap();
        let mut listen = Listening::start(&home);
        listen.wait_for_line("can't be stored").await;
        let newer = credential("edge_1");
        match is_signed_out {
            true => fs::remove_file(home.path("credentials.json")).unwrap(),
            false => home.write(&newer, "third"),
        }
        fs::remove_dir(home.path("credentials.json.new")).unwrap();
        if is_signed_out {
            listen.wait_for_line("logout was run").await;
            assert!(!home.path("credentials.json").exists());
        } else {
            within(home.relay.wait_for(|seen| !seen.dials.is_empty())).await;
            assert_eq!(home.stored("refresh_token"), "third");
            assert_eq!(home.last_credential(), format!("Bearer {newer}"));
        }
        assert_eq!(home.refreshes(), ["first"]);
    }
}

#[tokio::test]
async fn after_a_crash_between_answer_and_store_the_old_token_is_tried_again() {
    let home = Home::new(&credential_until("edge_1", in_seconds(-10))).await;
    home.relay.plan_device(grant(&credential("edge_1"), "lost"));
    home.relay.push(&["s"]);
    fs::create_dir(home.path("credentials.json.new")).unwrap();
    let mut listen = Listening::start(&home);
    listen.wait_for_line("can't be stored").await;
    drop(listen);
    fs::remove_dir(home.path("credentials.json.new")).unwrap();
    let next = credential("edge_1");
    home.relay.plan_device(grant(&next, "second"));
    let (client, recorder) = home.listen(&[]);
    recorder.wait_for(1).await;
    client.stop().await;
    assert_eq!(home.refreshes(), ["first", "first"]);
    assert_eq!(home.stored("access_token"), next);
}

#[tokio::test]
async fn a_sign_in_that_has_ended_ends_the_client_and_says_why() {
    for (code, words) in [
        (Some("refresh_reused"), "used elsewhere"),
        (Some("person_inactive"), "no longer active in Linear"),
        (None, "revoked, or not used for too long"),
    ] {
        let home = Home::new(&credential_until("edge_1", in_seconds(-10))).await;
        home.relay.plan_device(Answer::oauth("invalid_grant", code));
        let output = output(signed_out(&home.relay, home.directory.path(), &["listen"])).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(words) && stderr.contains("run edgerelay login"), "{stderr}");
        assert_eq!(home.refreshes().len(), 1, "asked once");
        assert!(!stderr.contains("first\""), "{stderr}");
    }
}

#[tokio::test]
async fn a_credential_that_is_written_down_wins() {
    let home = Home::new(&credential_until("edge_1", in_seconds(-10))).await;
    home.relay.push(&["s"]);
    let mut command =
        signed_out(&home.relay, home.directory.path(), &["listen", "--exit-when-caught-up"]);
    let written = credential("edge_1");
    command.env("EDGE_API_KEY", &written);
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(home.last_credential(), format!("Bearer {written}"));
    assert_eq!(home.refreshes(), [] as [&str; 0]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_others_may_read_or_replace_is_refused() {
    let access = credential("edge_1");
    let home = Home::new(&access).await;
    for (file, directory, words) in [
        (0o640, 0o700, "others may read"),
        (0o604, 0o700, "chmod 600"),
        (0o600, 0o770, "chmod 700"),
    ] {
        set_mode(&home.path("credentials.json"), file);
        set_mode(&home.path(""), directory);
        let output = output(signed_out(&home.relay, home.directory.path(), &["logout"])).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(words) && !stderr.contains(&access), "{stderr}");
    }
    assert!(home.relay.seen(|seen| seen.device.is_empty()));
    for text_of_file in ["{", "[]", r#"{"version":99}"#] {
        fs::write(home.path("credentials.json"), text_of_file).unwrap();
        set_mode(&home.path("credentials.json"), 0o600);
        set_mode(&home.path(""), 0o700);
        let output = output(signed_out(&home.relay, home.directory.path(), &["whoami"])).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert_eq!(fs::read_to_string(home.path("credentials.json")).unwrap(), text_of_file);
    }
}

#[tokio::test]
async fn another_sign_in_on_the_way_ends_the_client() {
    for (changed, words) in [(Some("edge_2"), "another machine is signed in"), (None, "logout")] {
        let home = Home::new(&credential_until("edge_1", in_seconds(3_600))).await;
        home.relay.push(&["s"]);
        let (client, recorder) = home.listen(&["--report", "on"]);
        recorder.wait_for(1).await;
        within(home.relay.wait_for(|seen| seen.reports.len() == 2)).await;
        match changed {
            Some(edge) => home.write(&credential(edge), "other"),
            None => fs::remove_file(home.path("credentials.json")).unwrap(),
        }
        home.relay.accept_only("nobody's");
        home.relay.push(&["s"]);
        let exit = client.exit().await;
        assert_eq!(exit.code(), 3);
        assert!(exit.to_string().contains(words), "{exit}");
        assert_eq!(home.refreshes(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn handlers_see_no_credential() {
    let home = Home::new(&credential("edge_1")).await;
    home.relay.push(&["s"]);
    let flags = ["listen", "--exec", "env", "--exit-when-caught-up"];
    let output = output(signed_out(&home.relay, home.directory.path(), &flags)).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.contains("EDGERELAY_ATTEMPT=1"), "{stdout}{stderr}");
    let access = home.stored("access_token");
    assert!(!stdout.contains(&access) && !stderr.contains(&access), "{stdout}{stderr}");
}

#[tokio::test]
async fn check_says_where_the_sign_in_is() {
    let home = Home::new(&credential_until("edge_1", in_seconds(3_000))).await;
    let check = output(signed_out(&home.relay, home.directory.path(), &["check"])).await;
    let stdout = text(&check.stdout);
    assert_eq!(check.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("minutes  [the credentials file]"), "{stdout}");
    let written = output(program(&home.relay.url(), Path::new("no.db"), &["check"])).await;
    assert!(text(&written.stdout).contains("[the environment variable EDGE_API_KEY]"));
}
