//! How webhooks are signed, repeated, held back and given up.

use std::time::{Duration, Instant};

use relay_schemas::{SecretList, verify};
use relay_tests::{
    linear::{Outcome, RetryStamp, WebhookOptions},
    now_ms, until,
};
use serde_json::json;

use crate::stage::{Arrived, BEN, Receiver, Stage};

const SECRET: &str = "lin_whs_fake-webhook-secret";

fn is_signed(webhook: &Arrived, secret: &str) -> bool {
    let secrets = SecretList::parse(secret).unwrap();
    verify(&secrets, &webhook.bytes, Some(webhook.header("Linear-Signature"))).is_ok()
}

fn comment(stage: &Stage, body: &str) {
    stage.linear.comment("ENG-1", BEN, body, None).unwrap();
}

fn scaled(time_scale: f64) -> WebhookOptions {
    WebhookOptions { time_scale, ..WebhookOptions::default() }
}

fn said(receiver: &Receiver) -> Vec<String> {
    let bodies = receiver.arrived();
    bodies.iter().map(|it| it.body()["data"]["body"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_webhook_carries_linears_headers_and_signature() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    comment(&stage, "Hello");
    let webhook = receiver.wait_for(1).await.remove(0);
    for (name, value) in [
        ("Content-Type", "application/json; charset=utf-8"),
        ("User-Agent", "Linear-Webhook"),
        ("Linear-Event", "Comment"),
        ("Accept-Charset", "utf-8"),
    ] {
        assert_eq!(webhook.header(name), value);
    }
    assert!(is_signed(&webhook, SECRET) && !is_signed(&webhook, "another"));
    let stamp_ms = webhook.body()["webhookTimestamp"].as_u64().unwrap();
    assert_eq!(webhook.header("Linear-Timestamp"), stamp_ms.to_string());
    assert!(now_ms().abs_diff(stamp_ms) < 5_000);
    stage.linear.settled().await;
    let delivery = stage.linear.deliveries().remove(0);
    assert_eq!((delivery.outcome, delivery.kind.as_str()), (Outcome::Delivered, "Comment.create"));
    assert_eq!(webhook.header("Linear-Delivery"), delivery.id);
}

async fn retry(retry_stamp: RetryStamp) -> (Arrived, Arrived) {
    let (stage, receiver) =
        Stage::receiving(WebhookOptions { retry_stamp, ..WebhookOptions::default() }, &[503, 200])
            .await;
    comment(&stage, "Hello");
    stage.linear.settled().await;
    assert_eq!(stage.linear.deliveries()[0].outcome, Outcome::Retrying);
    let first_ms = now_ms();
    until("the next millisecond", async || (now_ms() > first_ms).then_some(())).await;
    stage.linear.advance(Duration::from_secs(60));
    let mut arrived = receiver.wait_for(2).await;
    let (second, first) = (arrived.remove(1), arrived.remove(0));
    assert_eq!(first.header("Linear-Delivery"), second.header("Linear-Delivery"));
    assert!(is_signed(&first, SECRET) && is_signed(&second, SECRET));
    (first, second)
}

#[tokio::test]
async fn a_retry_may_be_the_same_to_the_byte() {
    let (first, second) = retry(RetryStamp::Kept).await;
    assert_eq!(first.bytes, second.bytes);
    assert_eq!(first.header("Linear-Signature"), second.header("Linear-Signature"));
}

#[tokio::test]
async fn a_retry_may_be_stamped_and_signed_anew() {
    let (first, second) = retry(RetryStamp::Renewed).await;
    let (mut first, mut second) = (first.body(), second.body());
    assert_ne!(first["webhookTimestamp"], second["webhookTimestamp"]);
    first["webhookTimestamp"] = json!(0);
    second["webhookTimestamp"] = json!(0);
    assert_eq!(first, second);
}

#[tokio::test]
async fn retries_come_after_a_minute_an_hour_and_six() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[500]).await;
    comment(&stage, "Hello");
    stage.linear.settled().await;
    for (count, pause_s) in [(2, 60), (3, 3600), (4, 21_600)] {
        stage.linear.advance(Duration::from_secs(pause_s - 5));
        until("the waiting to go on", async || {
            (receiver.arrived().len() == count - 1).then_some(())
        })
        .await;
        stage.linear.advance(Duration::from_secs(5));
        receiver.wait_for(count).await;
        until("the attempt's note", async || {
            (stage.linear.deliveries()[0].attempts.len() == count).then_some(())
        })
        .await;
    }
    let delivery = stage.linear.deliveries().remove(0);
    assert_eq!(delivery.outcome, Outcome::Failed);
    assert!(delivery.attempts.iter().all(|attempt| attempt.status == Some(500)));
    let pauses: Vec<u64> =
        delivery.attempts.windows(2).map(|pair| (pair[1].at_ms - pair[0].at_ms) / 1000).collect();
    assert_eq!(pauses, [60, 3600, 21_600]);
}

#[tokio::test]
async fn only_200_is_a_success() {
    for status in [201, 202, 204, 301, 400] {
        let (stage, _receiver) = Stage::receiving(WebhookOptions::default(), &[status]).await;
        comment(&stage, "Hello");
        stage.linear.settled().await;
        assert_eq!(stage.linear.deliveries()[0].outcome, Outcome::Retrying, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_late_or_never_comes_is_a_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let options = WebhookOptions { timeout_ms: 50, url: Some(url), ..WebhookOptions::default() };
    let (stage, _receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    stage.linear.set_webhook(|webhook| *webhook = options);
    let began = Instant::now();
    comment(&stage, "Hello");
    stage.linear.settled().await;
    let delivery = stage.linear.deliveries().remove(0);
    assert_eq!((delivery.outcome, delivery.attempts[0].status), (Outcome::Retrying, None));
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(WebhookOptions::default().timeout_ms, 5_000);
}

#[tokio::test]
async fn a_webhook_that_keeps_failing_is_disabled() {
    let (stage, receiver) =
        Stage::receiving(WebhookOptions { failures_max: 2, ..scaled(1e-6) }, &[500]).await;
    for count in 1..=2 {
        assert!(stage.linear.webhook_enabled());
        comment(&stage, "Hello");
        receiver.wait_for(4 * count).await;
        until("the end of a delivery", async || {
            (stage.linear.deliveries()[count - 1].outcome == Outcome::Failed).then_some(())
        })
        .await;
    }
    assert!(!stage.linear.webhook_enabled());
    comment(&stage, "Lost");
    stage.linear.settled().await;
    assert_eq!(stage.linear.deliveries()[2].outcome, Outcome::Dropped);
    stage.linear.enable_webhook();
    comment(&stage, "Back");
    receiver.wait_for(9).await;
    assert_eq!(said(&receiver)[8], "Back");
}

#[tokio::test]
async fn webhooks_come_twice_or_in_another_order_on_request() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    stage.linear.duplicate_next_webhooks(1);
    comment(&stage, "Twice");
    comment(&stage, "Once");
    receiver.wait_for(3).await;
    assert_eq!(said(&receiver), ["Twice", "Twice", "Once"]);
    let arrived = receiver.arrived();
    assert_eq!(arrived[0].header("Linear-Delivery"), arrived[1].header("Linear-Delivery"));
    assert_eq!(arrived[0].bytes, arrived[1].bytes);
    stage.linear.redeliver(arrived[2].header("Linear-Delivery"));
    receiver.wait_for(4).await;
    stage.linear.hold_webhooks();
    ["1", "2", "3"].iter().for_each(|body| comment(&stage, body));
    stage.linear.settled().await;
    assert_eq!(receiver.arrived().len(), 4);
    stage.linear.release_webhooks(true);
    receiver.wait_for(7).await;
    assert_eq!(said(&receiver)[3..], ["Once", "3", "2", "1"]);
}

#[tokio::test]
async fn a_rotated_secret_is_invalid_at_once() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    let new = stage.linear.rotate_webhook_secret();
    comment(&stage, "Hello");
    let webhook = receiver.wait_for(1).await.remove(0);
    assert!(is_signed(&webhook, &new) && !is_signed(&webhook, SECRET));
}

#[tokio::test]
async fn webhooks_may_claim_to_be_old() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    stage.linear.set_webhook_age(Duration::from_secs(3600));
    comment(&stage, "Hello");
    let webhook = receiver.wait_for(1).await.remove(0);
    let age_ms = now_ms() - webhook.body()["webhookTimestamp"].as_u64().unwrap();
    assert!((3_600_000..3_605_000).contains(&age_ms), "{age_ms}");
    assert!(is_signed(&webhook, SECRET));
}

#[tokio::test]
async fn only_what_is_subscribed_and_authorized_is_sent() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    stage.linear.add_organization("other", "Other");
    stage.linear.add_user("other", "Olga", "olga@other.example", true).unwrap();
    stage.linear.add_team("other", ("OTH", "Other"), &[], false).unwrap();
    stage.linear.add_issue("OTH", "olga@other.example", ("Not ours", "")).unwrap();
    stage.linear.set_webhook(|webhook| webhook.resource_types = vec!["Reaction".to_owned()]);
    comment(&stage, "Not subscribed");
    stage.linear.react("ENG-1", BEN, "eyes", None).unwrap();
    receiver.wait_for(1).await;
    stage.linear.settled().await;
    assert_eq!(receiver.kinds(), ["Reaction.create"]);
}
