use std::collections::VecDeque;

use relay_durable::Stream;
use relay_schemas::{
    Append, AppendReply, Disposition, EventId, NewEvent, Record, RecordParts, StreamKey, Subject,
    UnixMillis,
};

use crate::{
    coverage::Mark,
    platform::{CallError, Platform},
    profile::{HOUR_MS, MINUTE_MS, SECOND_MS, one_of},
};

pub(crate) const KINDS: [&str; 4] =
    ["Issue.update", "Issue.create", "Comment.create", "Project.update"];

#[derive(Clone, Debug)]
struct Batch {
    events: Vec<NewEvent>,
    not_before: UnixMillis,
    is_acknowledged: bool,
}

/// The queue's consumer for one stream: what was not acknowledged comes again, what was, now and
/// then too.
#[derive(Debug)]
pub(crate) struct Consumer {
    stream: usize,
    batches: VecDeque<Batch>,
    /// Events sent lately, to be sent again by their source.
    recent: VecDeque<Sent>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    kind: &'static str,
    received_at: UnixMillis,
    bytes: usize,
}

impl Consumer {
    pub(crate) fn new(stream: usize) -> Self {
        Self { stream, batches: VecDeque::new(), recent: VecDeque::new() }
    }

    pub(crate) fn waits_until(&self) -> Option<UnixMillis> {
        self.batches.iter().map(|batch| batch.not_before).min()
    }

    /// Webhooks arrive.
    pub(crate) fn receive(&mut self, platform: &mut Platform) {
        let count = platform.rng.usize(1..=platform.profile.batch_max);
        let sent: Vec<Sent> = (0..count).map(|_| self.sent(platform)).collect();
        let key = &platform.objects[self.stream].key;
        let events = sent.iter().map(|sent| sent.event(key)).collect();
        self.recent.extend(sent);
        let surplus = self.recent.len().saturating_sub(40);
        self.recent.drain(..surplus);
        self.batches.push_back(Batch { events, not_before: platform.now, is_acknowledged: false });
    }

    /// A new event, or another delivery of an old one: as it was, or received anew.
    fn sent(&self, platform: &mut Platform) -> Sent {
        let now = platform.now;
        if !self.recent.is_empty() && platform.rng.u32(..8) == 0 {
            let sent = self.recent[platform.rng.usize(..self.recent.len())];
            let received_at = if platform.rng.bool() { now } else { sent.received_at };
            return Sent { received_at, ..sent };
        }
        // Receipts are not in the order of the positions, and some wait long.
        let waited_ms = match platform.rng.u32(..12) {
            0 => platform.rng.u64(..6 * HOUR_MS),
            1..4 => platform.rng.u64(..5 * MINUTE_MS),
            _ => platform.rng.u64(..SECOND_MS),
        };
        let bytes = if platform.one_in(platform.profile.large) {
            platform.rng.usize(20_000..platform.profile.large_bytes_max)
        } else {
            platform.rng.usize(..400)
        };
        let kind = *one_of(&mut platform.rng, &KINDS);
        Sent { number: platform.unique_number(), kind, received_at: now - waited_ms, bytes }
    }

    /// Delivers one batch, if one is due.
    pub(crate) fn step(&mut self, platform: &mut Platform) {
        let now = platform.now;
        let due: Vec<usize> =
            (0..self.batches.len()).filter(|at| self.batches[*at].not_before <= now).collect();
        if due.is_empty() {
            return;
        }
        let at = due[platform.rng.usize(..due.len())];
        let batch = self.batches.remove(at).expect("it is due");
        if self.deliver(&batch, platform) {
            platform.mark_if(batch.is_acknowledged, Mark::Redelivered);
            if platform.one_in(platform.profile.call_fails) && !batch.is_acknowledged {
                self.put_back(Batch { is_acknowledged: true, ..batch }, platform);
            }
        } else {
            self.put_back(batch, platform);
        }
    }

    fn put_back(&mut self, batch: Batch, platform: &mut Platform) {
        let waits_ms = *one_of(&mut platform.rng, &[0, SECOND_MS, 5 * MINUTE_MS, 8 * HOUR_MS]);
        self.batches.push_back(Batch { not_before: platform.now + waits_ms, ..batch });
    }

    fn deliver(&self, batch: &Batch, platform: &mut Platform) -> bool {
        if platform.one_in(platform.profile.call_fails) {
            platform.mark(Mark::CallNeverArrived);
            return false;
        }
        let stream = platform.objects[self.stream].key.clone();
        let append = Append { stream, events: batch.events.clone() };
        let text = append.encode();
        let append = Append::decode(&text).expect("what was encoded");
        let run = |stream: &mut Stream<_>, now| stream.append(&append, now);
        let known = platform.oracles[self.stream].now();
        let known = known.filter(|_| !platform.objects[self.stream].begins_anew);
        let before = known.map_or(0, |known| known.tail());
        match platform.call(self.stream, &append.events, run) {
            Ok(reply) => self.acknowledge(&append, &reply, before, platform),
            Err(CallError::Refused(_)) => {
                platform.mark(Mark::StreamFull);
                false
            }
            Err(CallError::Failed) => false,
        }
    }

    fn acknowledge(
        &self,
        append: &Append,
        reply: &AppendReply,
        before: u64,
        platform: &mut Platform,
    ) -> bool {
        platform.trace.note(format_args!("{} appended {:?}", self.stream, reply.dispositions));
        let incarnation = platform.incarnation(self.stream);
        incarnation.check_acknowledged(&append.events, &reply.dispositions);
        assert_eq!(reply.tail, incarnation.cursor(incarnation.tail()));
        let new = reply.dispositions.iter().filter(|one| **one == Disposition::Appended).count();
        assert_eq!(before + new as u64, incarnation.tail(), "said to be new");
        let has_duplicate = reply.dispositions.contains(&Disposition::Duplicate);
        let busy = platform.busy[self.stream];
        platform.mark_if(has_duplicate, Mark::DuplicateRefused);
        platform.mark_if(busy.sealing, Mark::AppendUnderSeal);
        platform.mark_if(busy.in_history, Mark::AppendUnderReplay);
        platform.mark_if(busy.following, Mark::AppendUnderFollower);
        if platform.one_in(platform.profile.call_fails) {
            platform.mark(Mark::AnswerLost);
            return false;
        }
        true
    }
}

pub(crate) fn event_id(number: u64) -> EventId {
    EventId::from_bytes(u128::from(number).to_be_bytes())
}

impl Sent {
    fn event(&self, stream: &StreamKey) -> NewEvent {
        let Self { number, kind, received_at, bytes } = *self;
        let id = event_id(number);
        let fill = format!("{number} of {stream} ").repeat(bytes / 20);
        let record = Record::new(&RecordParts {
            id,
            received_at,
            kind,
            organization: &stream.organization,
            channel: &stream.channel,
            delivery: None,
            headers: &[],
            subject: Subject::default(),
            own: false,
            body: &format!(r#"{{"number":{number},"fill":"{fill}"}}"#),
        });
        NewEvent { id, kind: kind.into(), received_at, signal: None, record: record.into_string() }
    }
}
