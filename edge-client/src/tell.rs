use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use tracing::warn;

use crate::{
    access::Access,
    config::Settings,
    courier::{Courier, Delivery},
    dispatch::Dispatch,
    fault::Fault,
    limits::{DIAL_BACKOFF_BASE_MS, TELL_ATTEMPTS_MAX, TELL_WAIT_CAP_MS},
    report_marker,
    session::Backoff,
    sign_in::{CommandError, Said},
};

/// Tells the relay one thing about an event, and waits until it has taken it. Tried a few times:
/// an activity has an id, and a status may be told twice.
pub async fn tell(settings: &Settings, dispatch: Dispatch) -> Result<Said, CommandError> {
    let access = Access::open(settings).await?;
    let courier = Courier::new(settings, &access)?;
    let mut backoff = Backoff::new(DIAL_BACKOFF_BASE_MS, TELL_WAIT_CAP_MS);
    let mut random = fastrand::Rng::new();
    let dispatch = match dispatch {
        Dispatch::Activity(mut report) => {
            report.activity = crate::activity::identified(report.activity);
            Dispatch::Activity(report)
        }
        dispatch @ Dispatch::Status(_) => dispatch,
    };
    let result = loop {
        let (message, asked_ms) = match courier.deliver(&dispatch).await {
            Delivery::Taken => {
                mark(&dispatch);
                break Ok(said(&dispatch));
            }
            Delivery::Useless(words) | Delivery::Unshown(words) => {
                break Err(Fault::request(words).into());
            }
            Delivery::Reassigned(owner) => {
                let owner = owner.unwrap_or_else(|| "another machine".into());
                break Err(CommandError::Reassigned(owner));
            }
            Delivery::Failed(Fault::Passing { message, retry_after_ms }) => {
                (message, retry_after_ms)
            }
            Delivery::Failed(fault) => break Err(fault.into()),
        };
        let wait_ms = backoff.next_ms(&mut random, asked_ms);
        if backoff.failures() >= TELL_ATTEMPTS_MAX || wait_ms > TELL_WAIT_CAP_MS {
            break Err(CommandError::Passing(message));
        }
        sleep(Duration::from_millis(wait_ms)).await;
    };
    access.settled().await;
    result
}

/// In a handler, whose client then has nothing to add.
fn mark(dispatch: &Dispatch) {
    let Dispatch::Status(report) = dispatch else { return };
    if let Err(error) = report_marker::set(report.event_id, report.status) {
        warn!("the report of the client's own follows: {error}");
    }
}

fn said(dispatch: &Dispatch) -> Said {
    let (event, kind) = (dispatch.event_id(), dispatch.kind());
    let mut json = json!({ "event": event.to_string(), "told": kind });
    if let Dispatch::Activity(report) = dispatch {
        json["id"] = json!(report.activity.id);
    }
    Said { text: format!("told the relay: {event} {kind}"), json }
}
