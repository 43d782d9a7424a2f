use std::time::Duration;

use futures::FutureExt;
use relay_schemas::{
    Bye, ClientMessage, Cursor, Gap, GapReason, Heartbeat, Open, UnixMillis, write_attempt_frame,
};
use tokio::time::{Interval, interval};
use tokio_tungstenite::tungstenite::Message;

use super::{FakeRelay, Plan};
use crate::{
    events::cursor,
    stream_out::{Broken, Out},
};

/// One connection's place.
pub(super) struct Reader<'a> {
    relay: &'a FakeRelay,
    plan: Plan,
    next: u64,
    n: u64,
    frames: usize,
    lines: usize,
    credit: Option<i64>,
    heartbeats: Interval,
}

impl<'a> Reader<'a> {
    pub(super) fn new(relay: &'a FakeRelay, plan: Plan, query: &str, has_credit: bool) -> Self {
        let state = relay.state();
        let start = query.split('&').find_map(|pair| pair.split_once('='));
        let tail = state.records.len() as u64;
        let after = match start {
            Some(("cursor", "earliest")) => state.trimmed,
            Some(("cursor", text)) => text.parse::<Cursor>().unwrap().seq.get(),
            Some(("since", "now")) => tail,
            Some(("tail", count)) => tail.saturating_sub(count.parse().unwrap()),
            other => panic!("no such start: {other:?}"),
        };
        let after = plan.from.unwrap_or(after);
        Self {
            relay,
            plan,
            next: after + 1,
            n: 0,
            frames: 0,
            lines: state.lines.len(),
            credit: has_credit.then_some(state.credit),
            heartbeats: interval(Duration::from_secs(u64::from(state.heartbeat_s))),
        }
    }

    pub(super) async fn run(mut self, out: &mut Out) -> Result<(), Broken> {
        let (open, gap) = {
            let state = self.relay.state();
            let requested = cursor(self.next - 1);
            let oldest = cursor(state.trimmed);
            let is_trimmed = self.next <= state.trimmed;
            if is_trimmed {
                self.next = state.trimmed + 1;
            }
            let open = Open {
                cursor: cursor(self.next - 1),
                epoch: requested.epoch,
                oldest,
                tail: cursor(state.records.len() as u64),
                heartbeat_s: state.heartbeat_s,
                credit: self.credit,
                mode: None,
                capacity: None,
            };
            let gap = Gap {
                requested: requested.to_string(),
                resumed_from: open.cursor,
                oldest,
                reason: GapReason::Trimmed,
            };
            (open, (is_trimmed || self.plan.gap).then_some(gap))
        };
        self.frame(out, &open.to_line()).await?;
        if let Some(gap) = gap {
            self.frame(out, &gap.to_line()).await?;
        }
        if let Some(line) = self.plan.extra.take() {
            out.text(&line).await?;
        }
        loop {
            let changed = self.relay.changed.notified();
            while let Some(line) = self.next_extra() {
                out.text(&line).await?;
            }
            while let Some(line) = self.next_line() {
                let length = line.len() as i64;
                self.frame(out, &line).await?;
                self.credit = self.credit.map(|credit| credit - length);
                self.relay.state().seen.events_sent += 1;
                self.listen(out).await?;
            }
            tokio::select! {
                () = changed => {}
                message = out.message() => self.hear(out, message).await?,
                _ = self.heartbeats.tick(), if !out.is_websocket() => {
                    let tail = self.relay.state().records.len() as u64;
                    let now = UnixMillis::new(1);
                    let heartbeat = Heartbeat::new(cursor(self.next - 1), cursor(tail), self.n, now);
                    self.frame(out, &heartbeat.to_line()).await?;
                }
            }
        }
    }

    /// Takes what the client has said so far.
    async fn listen(&mut self, out: &mut Out) -> Result<(), Broken> {
        while let Some(message) = out.message().now_or_never() {
            self.hear(out, message).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, out: &mut Out, message: Option<Message>) -> Result<(), Broken> {
        let Some(message) = message else { return Err(Broken) };
        let Message::Text(text) = message else { return Ok(()) };
        if text.as_str() == "ping" {
            self.relay.state().seen.pings += 1;
            return out.text("pong").await;
        }
        if let Ok(ClientMessage::Credit { bytes }) = serde_json::from_str(&text) {
            self.credit = self.credit.map(|credit| credit + bytes);
            self.relay.state().seen.bytes_granted += bytes;
        }
        Ok(())
    }

    fn next_extra(&mut self) -> Option<String> {
        let line = self.relay.state().lines.get(self.lines).cloned()?;
        self.lines += 1;
        Some(line)
    }

    fn next_line(&mut self) -> Option<String> {
        if self.credit.is_some_and(|credit| credit <= 0) {
            return None;
        }
        let state = self.relay.state();
        let record = state.records.get(usize::try_from(self.next).unwrap() - 1)?.clone();
        drop(state);
        let seq = self.next;
        self.next += 1;
        self.n += 1;
        if self.plan.lose == Some(seq) {
            return self.next_line();
        }
        let mut line = String::new();
        let attempt = self.plan.attempt.unwrap_or(1);
        write_attempt_frame(cursor(seq), self.n, attempt, &record, &mut line);
        if self.plan.garble == Some(seq) {
            line.truncate(line.len() - 1);
        }
        Some(line)
    }

    async fn frame(&mut self, out: &mut Out, line: &str) -> Result<(), Broken> {
        if self.plan.frames_max == Some(self.frames) {
            self.end(out, line).await;
            return Err(Broken);
        }
        self.frames += 1;
        out.text(line).await
    }

    async fn end(&mut self, out: &mut Out, line: &str) {
        if self.plan.silent {
            return std::future::pending().await;
        }
        if let Some((code, retry_after_ms)) = self.plan.bye {
            let bye = Bye { code, retry_after_ms, cursor: cursor(self.next - 1) };
            let _ = out.text(&bye.to_line()).await;
            return out.close(code.close_code()).await;
        }
        if let Some(code) = self.plan.close {
            return out.close(code).await;
        }
        if self.plan.mid_line {
            out.part(line).await;
        }
    }
}
