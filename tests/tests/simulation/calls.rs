//! What the Worker asks of the objects and of R2, as it may go wrong on the way.

use relay_durable::{Connected, ConnectionId, Fetched, SegmentObject, Stream};
use relay_schemas::{Connect, Cursor, HistoryOffer};

use crate::{
    coverage::Mark,
    platform::{CallError, Platform},
    socket::Socket,
};

/// The answer to a connect.
pub(crate) enum Opened {
    Live { connection: ConnectionId, resumed_from: Option<Cursor> },
    History(HistoryOffer),
}

impl Platform {
    /// Opens a connection at the object.
    pub(crate) fn connect(
        &mut self,
        stream: usize,
        connect: &Connect,
    ) -> Result<Opened, CallError> {
        self.lose_call()?;
        let id = self.unique_number();
        let connect: Connect = through_json(connect);
        let credit = connect.resume.map(|resume| resume.credit_bytes);
        self.objects[stream].sockets.insert(id, Socket::new(connect.dialect, credit));
        let run = |stream: &mut Stream<_>, now| {
            Ok(match stream.connect(id, &connect, now)? {
                Connected::Live { resumed_from, commands } => ((resumed_from, None), commands),
                Connected::History(offer) => ((None, Some(offer)), Vec::new()),
            })
        };
        let answer = self.call(stream, &[], run);
        let stays = matches!(answer, Ok((_, None)));
        if !stays {
            self.objects[stream].sockets.remove(&id);
        }
        let (resumed_from, offer) = answer?;
        if let Err(lost) = self.lose_answer() {
            self.hang_up(stream, id);
            return Err(lost);
        }
        Ok(match offer {
            None => Opened::Live { connection: id, resumed_from },
            Some(offer) => Opened::History(self.shorten(&offer)),
        })
    }

    /// History without being followed.
    pub(crate) fn history(
        &mut self,
        stream: usize,
        connect: &Connect,
    ) -> Result<HistoryOffer, CallError> {
        self.lose_call()?;
        let run = |stream: &mut Stream<_>, _| {
            let Connect { stream: key, edge, start, on_gap, .. } = connect;
            Ok((stream.history(key, edge, start, *on_gap)?, Vec::new()))
        };
        let offer = self.call(stream, &[], run)?;
        self.lose_answer()?;
        Ok(self.shorten(&offer))
    }

    /// As if an object named no more segments at a time.
    pub(crate) fn shorten(&self, offer: &HistoryOffer) -> HistoryOffer {
        let mut offer: HistoryOffer = through_json(offer);
        offer.segments.truncate(self.profile.offered_max);
        offer
    }

    pub(crate) fn lose_call(&mut self) -> Result<(), CallError> {
        if self.one_in(self.profile.call_fails) {
            self.mark(Mark::CallNeverArrived);
            return Err(CallError::Failed);
        }
        Ok(())
    }

    pub(crate) fn lose_answer(&mut self) -> Result<(), CallError> {
        if self.one_in(self.profile.call_fails) {
            self.mark(Mark::AnswerLost);
            return Err(CallError::Failed);
        }
        Ok(())
    }

    /// The reader's end of a socket is gone; the object will hear of it.
    pub(crate) fn hang_up(&mut self, stream: usize, connection: ConnectionId) {
        if let Some(socket) = self.objects[stream].sockets.get_mut(&connection) {
            socket.reader_is_gone = true;
        }
    }

    /// `None` when R2 can't answer.
    pub(crate) fn fetch(&mut self, object: &SegmentObject) -> Option<Fetched> {
        if self.one_in(self.profile.bucket_fails) {
            self.mark(Mark::GetFailed);
            return None;
        }
        Some(self.bucket.get(&object.key).map_or(Fetched::Missing, Fetched::Bytes))
    }

    /// Something that a reader sent arrives at the object, or that it is gone.
    pub(crate) fn carry(&mut self, stream: usize) {
        let waiting = |(id, socket): (&ConnectionId, &Socket)| {
            (socket.reader_is_gone || !socket.to_object.is_empty()).then_some(*id)
        };
        let ids: Vec<ConnectionId> =
            self.objects[stream].sockets.iter().filter_map(waiting).collect();
        let Some(id) = ids.get(self.rng.usize(..ids.len().max(1))).copied() else { return };
        let socket = self.objects[stream].sockets.get_mut(&id).expect("it waits");
        if socket.reader_is_gone {
            self.objects[stream].sockets.remove(&id);
            let closed = |stream: &mut Stream<_>, now| Ok(((), stream.closed(id, false, now)?.1));
            let _ = self.call(stream, &[], closed);
            return;
        }
        let text = socket.to_object.pop_front().expect("it waits");
        socket.grant(&text);
        self.mark(Mark::Granted);
        let run = |stream: &mut Stream<_>, now| Ok(((), stream.message(id, &text, now)?));
        let _ = self.call(stream, &[], run);
    }
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("plain fields serialise");
    serde_json::from_str(&text).expect("what was written")
}
