use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use futures::{StreamExt, stream};
use relay_schemas::EventId;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, error, warn};

use crate::{
    client::ClientHandle,
    courier::{Courier, Delivery},
    fault::Fault,
    limits::{DIAL_BACKOFF_BASE_MS, DIAL_BACKOFF_CAP_MS, REPORTS_IN_FLIGHT_MAX, REPORTS_PAGE},
    session::Backoff,
    store::{Keeper, StoreError, Waiting},
};

/// Sends the outbox: each entry at least once, those of one event in order. An entry leaves the
/// outbox only after the relay has answered, so one whose answer is lost goes twice.
#[derive(Debug)]
pub(crate) struct Reporter {
    courier: Courier,
    keeper: Keeper,
    reassigned: Reassigned,
    is_unshown_told: bool,
}

/// Events that another machine has now, so that one warning is said about each. Bounded: the
/// oldest are forgotten.
#[derive(Debug, Default)]
struct Reassigned(VecDeque<EventId>);

#[derive(Default)]
struct Delivered {
    done: Vec<i64>,
    reassigned: Vec<(EventId, Option<String>)>,
    /// Why no activity is taken, in the relay's words.
    unshown: Option<String>,
    fault: Option<Fault>,
}

impl Reporter {
    pub(crate) fn new(courier: Courier, keeper: Keeper) -> Self {
        Self { courier, keeper, reassigned: Reassigned::default(), is_unshown_told: false }
    }

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
                all.unshown = all.unshown.or(one.unshown);
                all.fault = worse(all.fault, one.fault);
                all
            })
            .await;
        for (event, owner) in &delivered.reassigned {
            self.reassigned.tell(*event, owner.as_deref());
        }
        if let Some(words) = &delivered.unshown
            && !mem::replace(&mut self.is_unshown_told, true)
        {
            warn!("nothing that handlers show reaches Linear: {words}");
        }
        self.keeper.forget_waiting(delivered.done.clone()).await?;
        Ok(Some(delivered))
    }

    async fn deliver_in_order(&self, entries: Vec<Waiting>) -> Delivered {
        let mut delivered = Delivered::default();
        for Waiting { number, dispatch } in entries {
            let event = dispatch.event_id();
            match self.courier.deliver(&dispatch).await {
                Delivery::Taken => debug!("reported {event} {}", dispatch.kind()),
                Delivery::Useless(words) => {
                    warn!("the relay does not take a report about {event}: {words}");
                }
                Delivery::Unshown(words) => delivered.unshown = Some(words),
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
