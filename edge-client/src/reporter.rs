use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures::{StreamExt, stream};
use relay_schemas::EventId;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, error, warn};

use crate::{
    access::Http,
    client::ClientHandle,
    connection::Answer,
    dispatch::Dispatch,
    fault::Fault,
    limits::{DIAL_BACKOFF_BASE_MS, DIAL_BACKOFF_CAP_MS, REPORTS_IN_FLIGHT_MAX, REPORTS_PAGE},
    relay::Relay,
    session::Backoff,
    store::{Keeper, StoreError, Waiting},
};

/// How long the relay may take for one report.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends the outbox: each entry at least once, those of one event in order. An entry leaves the
/// outbox only after the relay has answered, so one whose answer is lost goes twice.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) http: Http,
    pub(crate) relay: Relay,
    pub(crate) keeper: Keeper,
    pub(crate) reassigned: Reassigned,
}

/// Events that another machine has now, so that one warning is said about each. Bounded: the
/// oldest are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Reassigned(VecDeque<EventId>);

#[derive(Default)]
struct Delivered {
    done: Vec<i64>,
    reassigned: Vec<(EventId, Option<String>)>,
    fault: Option<Fault>,
}

pub(crate) enum Delivery {
    Taken,
    /// The relay's words.
    Useless(String),
    /// Who has the event now.
    Reassigned(Option<String>),
    Failed(Fault),
}

impl Reporter {
    /// Runs until `finish` is true and nothing waits any more, or the relay refuses for good.
    pub(crate) async fn run(mut self, handle: ClientHandle, mut finish: watch::Receiver<bool>) {
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
    async fn deliver_page(&mut self) -> Result<Option<Delivered>, StoreError> {
        let page = self.keeper.outbox(REPORTS_PAGE).await?;
        if page.is_empty() {
            return Ok(None);
        }
        let mut by_event: BTreeMap<EventId, Vec<Waiting>> = BTreeMap::new();
        for waiting in page {
            by_event.entry(waiting.dispatch.event_id()).or_default().push(waiting);
        }
        let this = &*self;
        let delivered = stream::iter(by_event.into_values())
            .map(|waiting| this.deliver_in_order(waiting))
            .buffer_unordered(REPORTS_IN_FLIGHT_MAX)
            .fold(Delivered::default(), |mut all, one| async move {
                all.done.extend(one.done);
                all.reassigned.extend(one.reassigned);
                all.fault = worse(all.fault, one.fault);
                all
            })
            .await;
        for (event, owner) in &delivered.reassigned {
            self.reassigned.tell(*event, owner.as_deref());
        }
        self.keeper.forget_waiting(delivered.done.clone()).await?;
        Ok(Some(delivered))
    }

    async fn deliver_in_order(&self, entries: Vec<Waiting>) -> Delivered {
        let mut delivered = Delivered::default();
        for Waiting { number, dispatch } in entries {
            let event = dispatch.event_id();
            match deliver(&self.http, &self.relay, &dispatch).await {
                Delivery::Taken => debug!("reported {event} {}", dispatch.kind()),
                Delivery::Useless(words) => {
                    warn!("the relay does not take a report about {event}: {words}");
                }
                Delivery::Reassigned(owner) => delivered.reassigned.push((event, owner)),
                Delivery::Failed(fault) => {
                    delivered.fault = Some(fault);
                    return delivered;
                }
            }
            delivered.done.push(number);
        }
        delivered
    }
}

/// Posts one.
pub(crate) async fn deliver(http: &Http, relay: &Relay, dispatch: &Dispatch) -> Delivery {
    let request = http.post(relay.route(dispatch.path())).timeout(ANSWER_TIMEOUT);
    let request = match dispatch {
        Dispatch::Status(report) => request.json(report),
        Dispatch::Activity(report) => request.json(report),
    };
    let response = match http.send(request).await {
        Ok(response) if response.status().is_success() => return Delivery::Taken,
        Ok(response) => response,
        Err(fault) => return Delivery::Failed(fault),
    };
    let answer = Answer::read(response).await;
    if let Some(owner) = answer.reassigned_to() {
        return Delivery::Reassigned(owner);
    }
    match answer.final_words() {
        Some(words) => Delivery::Useless(words),
        None => Delivery::Failed(answer.fault()),
    }
}

impl Reassigned {
    fn tell(&mut self, event: EventId, owner: Option<&str>) {
        if self.0.contains(&event) {
            return;
        }
        if self.0.len() >= REPORTS_PAGE {
            self.0.pop_front();
        }
        self.0.push_back(event);
        let owner = owner.unwrap_or("another machine");
        warn!("{owner} has {event} now: what this machine has to say about it is not taken");
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
