use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use relay_schemas::{EventId, Report};
use reqwest::{Client, Url};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, error, warn};

use crate::{
    client::ClientHandle,
    connection::{Answer, describe},
    fault::Fault,
    limits::{DIAL_BACKOFF_BASE_MS, DIAL_BACKOFF_CAP_MS, REPORTS_IN_FLIGHT_MAX, REPORTS_PAGE},
    session::Backoff,
    store::{Keeper, StoreError, WaitingReport},
};

/// How long the relay may take for one report.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends the outbox: each report at least once, those of one event in order. A report leaves the
/// outbox only after the relay has answered, so one whose answer is lost goes twice.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) client: Client,
    pub(crate) url: Url,
    pub(crate) keeper: Keeper,
}

#[derive(Default)]
struct Delivered {
    done: Vec<i64>,
    fault: Option<Fault>,
}

enum Delivery {
    Taken,
    Useless(String),
    Failed(Fault),
}

impl Reporter {
    /// Runs until `finish` is true and nothing waits any more, or the relay refuses for good.
    pub(crate) async fn run(self, handle: ClientHandle, mut finish: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(DIAL_BACKOFF_BASE_MS, DIAL_BACKOFF_CAP_MS);
        let mut random = fastrand::Rng::new();
        loop {
            match self.deliver_page().await {
                Ok(None) if *finish.borrow() => return,
                Ok(None) => tokio::select! {
                    () = handle.reports_stored() => {}
                    _ = finish.changed() => {}
                },
                Ok(Some(Delivered { fault: None, .. })) => backoff.reset(),
                Ok(Some(Delivered { fault: Some(Fault::Terminal(refusal)), .. })) => {
                    return handle.refused(refusal).await;
                }
                Ok(Some(Delivered {
                    fault: Some(Fault::Passing { message, retry_after_ms }),
                    ..
                })) => {
                    let wait_ms = backoff.next_ms(&mut random, retry_after_ms);
                    warn!("status reports wait: {message}; again in {wait_ms} ms");
                    if *finish.borrow() {
                        return;
                    }
                    tokio::select! {
                        () = sleep(Duration::from_millis(wait_ms)) => {}
                        _ = finish.changed() => {}
                    }
                }
                // The client itself meets the same error, and ends.
                Err(error) => return error!("status reports can't be read: {error}"),
            }
        }
    }

    /// `None` when nothing waits.
    async fn deliver_page(&self) -> Result<Option<Delivered>, StoreError> {
        let page = self.keeper.reports(REPORTS_PAGE).await?;
        if page.is_empty() {
            return Ok(None);
        }
        let mut by_event: BTreeMap<EventId, Vec<WaitingReport>> = BTreeMap::new();
        for waiting in page {
            by_event.entry(waiting.report.event_id).or_default().push(waiting);
        }
        let delivered = stream::iter(by_event.into_values())
            .map(|reports| self.deliver_in_order(reports))
            .buffer_unordered(REPORTS_IN_FLIGHT_MAX)
            .fold(Delivered::default(), |mut all, one| async move {
                all.done.extend(one.done);
                all.fault = worse(all.fault, one.fault);
                all
            })
            .await;
        self.keeper.forget_reports(delivered.done.clone()).await?;
        Ok(Some(delivered))
    }

    async fn deliver_in_order(&self, reports: Vec<WaitingReport>) -> Delivered {
        let mut delivered = Delivered::default();
        for WaitingReport { number, report } in reports {
            match self.deliver(&report).await {
                Delivery::Taken => {}
                Delivery::Useless(words) => {
                    warn!("the relay does not take a report about {}: {words}", report.event_id);
                }
                Delivery::Failed(fault) => {
                    delivered.fault = Some(fault);
                    return delivered;
                }
            }
            delivered.done.push(number);
        }
        delivered
    }

    async fn deliver(&self, report: &Report) -> Delivery {
        let request = self.client.post(self.url.clone()).timeout(ANSWER_TIMEOUT).json(report);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Delivery::Failed(Fault::passing(describe(&error))),
        };
        if response.status().is_success() {
            debug!("reported {} {}", report.event_id, report.status.as_str());
            return Delivery::Taken;
        }
        let answer = Answer::read(response).await;
        match answer.final_words() {
            Some(words) => Delivery::Useless(words),
            None => Delivery::Failed(answer.fault()),
        }
    }
}

/// A refusal for good outweighs what may pass; of two waits the longer counts.
fn worse(left: Option<Fault>, right: Option<Fault>) -> Option<Fault> {
    match (left, right) {
        (None, fault) | (fault, None) => fault,
        (Some(Fault::Terminal(refusal)), _) | (_, Some(Fault::Terminal(refusal))) => {
            Some(Fault::Terminal(refusal))
        }
        (
            Some(Fault::Passing { message, retry_after_ms: left }),
            Some(Fault::Passing { retry_after_ms: right, .. }),
        ) => Some(Fault::Passing { message, retry_after_ms: left.max(right) }),
    }
}
