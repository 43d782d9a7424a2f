use std::collections::{BTreeMap, BTreeSet};

use relay_schemas::{
    UnixMillis,
    limits::{LINEAR_BATCH_MAX, LINEAR_REQUESTS_MAX},
};

use super::{
    call::{Call, StandIn, Urgency},
    work_clock::Pace,
};

/// Requests that are kept free for what can't wait.
const URGENT_REQUESTS: usize = 2;

/// A call that waits, or is under way.
pub(super) struct Waiting {
    pub(super) call: Call,
    bytes: usize,
    request: Option<u64>,
    is_alone: bool,
}

/// One request under way.
pub(super) struct Request {
    pub(super) app: String,
    pub(super) generation: u64,
    pub(super) endpoint: &'static str,
    pub(super) calls: Vec<u64>,
    pub(super) is_batch: bool,
    is_urgent: bool,
}

/// The calls that wait for Linear, in memory as in storage. Which requests are under way is only
/// in memory: after a crash every call simply waits again.
#[derive(Default)]
pub(super) struct Outbox {
    calls: BTreeMap<u64, Waiting>,
    ids: BTreeSet<String>,
    requests: BTreeMap<u64, Request>,
    bytes: usize,
    last_number: u64,
}

/// When an app may send what, as far as tokens and budgets go.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    /// From when on what can't wait may go; `None`: not until somebody signs in.
    pub(super) urgent: Option<UnixMillis>,
    /// From when on the rest may go.
    pub(super) ordinary: Option<UnixMillis>,
}

impl Gate {
    fn of(self, urgency: Urgency) -> Option<UnixMillis> {
        match urgency {
            Urgency::First | Urgency::Final => self.urgent,
            Urgency::Ordinary => self.ordinary,
        }
    }
}

/// A call that no other of its lane is in the way of.
struct Head {
    number: u64,
    /// How urgent it is, and what waits behind it.
    urgency: Urgency,
    /// From when on it may go; `None`: not until somebody signs in.
    from: Option<UnixMillis>,
}

impl Head {
    fn is_due(&self, now: UnixMillis) -> bool {
        self.from.is_some_and(|from| from <= now)
    }
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(|waiting| &waiting.call)
    }

    pub(super) fn call(&self, number: u64) -> Option<&Call> {
        self.calls.get(&number).map(|waiting| &waiting.call)
    }

    pub(super) fn call_mut(&mut self, number: u64) -> Option<&mut Call> {
        self.calls.get_mut(&number).map(|waiting| &mut waiting.call)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.last_number + 1
    }

    pub(super) fn insert(&mut self, call: Call, bytes: usize) {
        self.last_number = self.last_number.max(call.number);
        self.bytes += bytes;
        self.ids.insert(call.id.clone());
        let waiting = Waiting { bytes, request: None, is_alone: false, call };
        self.calls.insert(waiting.call.number, waiting);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Call> {
        let waiting = self.calls.remove(&number)?;
        self.bytes -= waiting.bytes;
        self.ids.remove(&waiting.call.id);
        Some(waiting.call)
    }

    /// Calls of a session in which the relay would speak for a machine, and hasn't begun to.
    pub(super) fn stand_ins(&self, lane: &str) -> Vec<(u64, StandIn)> {
        let idle = self.calls.iter().filter(|(_, waiting)| waiting.request.is_none());
        idle.filter(|(_, waiting)| waiting.call.lane == lane)
            .filter_map(|(number, waiting)| Some((*number, waiting.call.stand_in?)))
            .collect()
    }

    /// Calls that were made before `made_before`, or are of one app, and are not under way.
    pub(super) fn idle_where(&self, is_wanted: impl Fn(&Call) -> bool) -> Vec<u64> {
        let idle = self.calls.iter().filter(|(_, waiting)| waiting.request.is_none());
        idle.filter(|(_, waiting)| is_wanted(&waiting.call)).map(|(number, _)| *number).collect()
    }

    /// Thoughts and actions that have failed and wait for their next attempt, and until when they
    /// may, for the sake of what waits behind them.
    pub(super) fn holding_up(&self, now: UnixMillis) -> Vec<(u64, UnixMillis)> {
        let obstacles = self.lanes(now).into_iter().filter_map(|calls| {
            let mut calls = calls.into_iter().skip_while(|call| call.may_come_later());
            let has_failed = |call: &&Call| call.attempts > 0 && call.not_before > now;
            let obstacle = calls.next().filter(has_failed).filter(|call| !call.is_answer())?;
            Some((obstacle.number, calls.filter_map(Call::waits_until).min()?))
        });
        obstacles.collect()
    }

    /// The calls of all lanes where nothing is under way, in their order. A call in which the relay
    /// would stand in for a machine holds nobody up before its time.
    fn lanes(&self, now: UnixMillis) -> Vec<Vec<&Call>> {
        let mut lanes: BTreeMap<(&str, &str), Option<Vec<&Call>>> = BTreeMap::new();
        for Waiting { call, request, .. } in self.calls.values() {
            let lane = lanes.entry(call.lane()).or_insert_with(|| Some(Vec::new()));
            match lane {
                _ if request.is_some() => *lane = None,
                Some(calls) if !call.is_early(now) => calls.push(call),
                Some(_) | None => {}
            }
        }
        lanes.into_values().flatten().collect()
    }

    /// The calls that no other of their lane is in the way of.
    fn heads(&self, gate: &dyn Fn(&Call) -> Gate, now: UnixMillis) -> Vec<Head> {
        self.lanes(now).iter().flat_map(|calls| heads_of(calls, gate, now)).collect()
    }

    /// The next request, if any may be made now. What is urgent goes first, then what is older; a
    /// call that others wait behind is as urgent as they.
    pub(super) fn next(
        &self,
        gate: &dyn Fn(&Call) -> Gate,
        (pace, may_batch): (Pace, bool),
        now: UnixMillis,
    ) -> Option<(Vec<u64>, Urgency)> {
        let ordinary = self.requests.values().filter(|request| !request.is_urgent).count();
        let is_full = self.requests.len() >= LINEAR_REQUESTS_MAX;
        let is_full_of_ordinary = ordinary >= LINEAR_REQUESTS_MAX - URGENT_REQUESTS;
        let may_go = |head: &Head| {
            let has_room = head.urgency != Urgency::Ordinary || !is_full_of_ordinary;
            has_room && pace.allows(head.urgency) && head.is_due(now)
        };
        if is_full {
            return None;
        }
        let mut heads: Vec<Head> = self.heads(gate, now).into_iter().filter(may_go).collect();
        heads.sort_by_key(|head| (head.urgency, head.number));
        let first = heads.first()?;
        let leader = self.sociable(first.number).filter(|_| may_batch);
        let Some(leader) = leader else { return Some((vec![first.number], first.urgency)) };
        let company = heads.iter().filter_map(|head| {
            let call = self.sociable(head.number)?;
            (call.app == leader.app).then_some(call.number)
        });
        Some((company.take(LINEAR_BATCH_MAX).collect(), first.urgency))
    }

    fn sociable(&self, number: u64) -> Option<&Call> {
        let waiting = self.calls.get(&number)?;
        (!waiting.is_alone && waiting.call.is_sociable()).then_some(&waiting.call)
    }

    /// When calls may be made, if no request under way were in their way.
    pub(super) fn times(&self, gate: &dyn Fn(&Call) -> Gate, now: UnixMillis) -> Vec<UnixMillis> {
        let heads = self.heads(gate, now).into_iter().filter_map(|head| head.from);
        let early = self.calls.values().filter_map(|waiting| {
            let call = &waiting.call;
            let is_early = call.stand_in.is_some() && call.not_before > now;
            is_early.then_some(call.not_before)
        });
        heads.chain(early).collect()
    }

    /// These calls are under way from now on. A thought that an answer waits behind takes none of
    /// the places of thoughts.
    pub(super) fn begin(
        &mut self,
        id: u64,
        (app, generation): (&str, u64),
        (calls, urgency): (Vec<u64>, Urgency),
    ) {
        let endpoint = calls.first().and_then(|number| self.call(*number)).map(Call::endpoint);
        for number in &calls {
            if let Some(waiting) = self.calls.get_mut(number) {
                waiting.request = Some(id);
            }
        }
        let is_batch = calls.len() > 1;
        let is_urgent = urgency != Urgency::Ordinary;
        let (app, endpoint) = (app.to_owned(), endpoint.unwrap_or_default());
        let request = Request { app, generation, endpoint, calls, is_batch, is_urgent };
        self.requests.insert(id, request);
    }

    /// A request is over; its calls wait again until it is said what became of them.
    pub(super) fn end(&mut self, id: u64) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        for number in &request.calls {
            if let Some(waiting) = self.calls.get_mut(number) {
                waiting.request = None;
            }
        }
        Some(request)
    }

    /// It is not to share a request again.
    pub(super) fn set_apart(&mut self, number: u64) {
        if let Some(waiting) = self.calls.get_mut(&number) {
            waiting.is_alone = true;
        }
    }
}

/// The head of a lane. One that can't go now, and may come later, is stepped over for what is behind
/// it, and remains a head of its own.
fn heads_of(calls: &[&Call], gate: &dyn Fn(&Call) -> Gate, now: UnixMillis) -> Vec<Head> {
    let mut heads = Vec::new();
    let mut stepped_over: Vec<&Call> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        if stepped_over.iter().any(|before| before.would_undo(call)) {
            continue;
        }
        let behind = calls[index..].iter().map(|call| call.urgency);
        let urgency = behind.min().unwrap_or(call.urgency);
        let from = gate(call).of(urgency).map(|from| from.max(call.not_before));
        let head = Head { number: call.number, urgency, from };
        let is_last = head.is_due(now) || !call.may_come_later();
        heads.push(head);
        if is_last {
            break;
        }
        stepped_over.push(call);
    }
    heads
}
