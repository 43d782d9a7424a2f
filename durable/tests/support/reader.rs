//! A reader that goes through history and is then followed, as the Worker leads it: with the
//! relay's bucket for R2 and its index for KV, which a test may spoil.

use relay_durable::{Command, Connected, Fetched, Replay, ReplayStep};
use relay_schemas::{Connect, Frame, HistoryOffer, SegmentEntry, limits::CREDIT_BYTES};

use super::Relay;

const STEPS_MAX: usize = 10_000;

/// What a reader was sent, and what the Worker did for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) lines: Vec<String>,
    pub(crate) steps: Vec<String>,
    pub(crate) segments_lost: u64,
}

impl Relay {
    /// Connects a bridged reader and reads until it is followed, then closes it.
    pub(crate) fn read(&mut self, connect: &Connect) -> Reading {
        self.read_in_pieces(connect, usize::MAX)
    }

    /// The same, with so many bytes taken at a time.
    pub(crate) fn read_in_pieces(&mut self, connect: &Connect, bytes_max: usize) -> Reading {
        let mut reading = Reading::default();
        match self.try_connect(1, connect).unwrap() {
            Connected::Live { commands, .. } => reading.take_live(&commands),
            Connected::History(offer) => self.read_history(connect, offer, bytes_max, &mut reading),
        }
        self.stream.closed(1, false, self.now).unwrap();
        self.remembered.remove(&1);
        reading
    }

    fn read_history(
        &mut self,
        connect: &Connect,
        offer: HistoryOffer,
        bytes_max: usize,
        reading: &mut Reading,
    ) {
        let mut replay = Replay::new(connect.clone(), offer);
        for _ in 0..STEPS_MAX {
            match replay.next_step() {
                ReplayStep::Write => reading.write(&mut replay, bytes_max),
                ReplayStep::Fetch(object) => {
                    reading.steps.push(format!("fetch {}", object.entry.first.get()));
                    let fetched = self.bucket.get(&object.key).cloned();
                    replay.fetched(&object.entry, fetched.map_or(Fetched::Missing, Fetched::Bytes));
                }
                ReplayStep::List { prefix } => {
                    reading.steps.push("list".into());
                    let keys = self.index.iter().filter(|(key, _)| key.starts_with(&prefix));
                    // KV promises an order, which nothing needs to rely on.
                    let mut entries: Vec<SegmentEntry> = keys.map(|(_, e)| e.clone()).collect();
                    entries.reverse();
                    replay.listed(entries);
                }
                ReplayStep::Ask => {
                    reading.steps.push("ask".into());
                    match self.try_connect(1, &replay.ask(CREDIT_BYTES)).unwrap() {
                        Connected::History(offer) => replay.offered(offer),
                        Connected::Live { commands, .. } => {
                            reading.take_live(&commands);
                            reading.segments_lost += replay.take_segments_lost();
                            return;
                        }
                    }
                }
            }
        }
        panic!("no end after {STEPS_MAX} steps: {:?}", reading.steps);
    }
}

impl Reading {
    /// Takes one piece, and checks what must hold of each.
    fn write(&mut self, replay: &mut Replay, bytes_max: usize) {
        let mut out = String::new();
        let charged = replay.write(bytes_max, &mut out);
        let lines: Vec<&str> = out.lines().collect();
        assert!(out.is_empty() || out.ends_with('\n'));
        let before_last = out.len() - lines.last().map_or(0, |line| line.len() + 1);
        let is_opening = lines.iter().any(|line| !line.starts_with(r#"{"type":"webhook""#));
        assert!(is_opening || out.is_empty() || before_last < bytes_max, "one frame more at most");
        let mut webhook_bytes = 0;
        for line in &lines {
            if let Ok(Frame::Webhook(webhook)) = Frame::parse(line) {
                webhook_bytes += line.len() as u64;
                let position = replay.position();
                assert!(webhook.cursor.seq <= position.cursor.seq && webhook.n <= position.n);
            }
        }
        assert_eq!(charged, webhook_bytes);
        self.lines.extend(lines.into_iter().map(str::to_owned));
    }

    /// The lines that the object sends to the Worker.
    fn take_live(&mut self, commands: &[Command]) {
        for command in commands {
            if let Command::Send { text, .. } = command {
                self.lines.extend(text.lines().skip(1).map(str::to_owned));
            }
        }
    }
}
