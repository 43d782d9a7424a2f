//! What edges report, and what the relay makes of it.

use relay_schemas::{
    EdgeId, ErrorCode, EventId, Problem, Report, ReportReply, ReportStatus, Seq, StoredReport,
    UnixMillis, record_received_at,
};

use super::{Opening, Stream, assigning::read_one};
use crate::{
    assignment::{LeaseSubject, Standing},
    command::{Command, StreamError},
    storage::LogStorage,
};

impl<S: LogStorage> Stream<S> {
    /// Keeps a report with its event. Where events are given to single edges, only the edge that
    /// has the event is heard.
    pub fn report(
        &mut self,
        edge: &EdgeId,
        report: Report,
        now: UnixMillis,
    ) -> Result<(ReportReply, Vec<Command>), StreamError<S::Error>> {
        self.admit(edge)?;
        let seq = self.known_position(report.event_id)?;
        let standing = self.require_lease((seq, report.event_id), edge, report.status)?;
        let facts = self.facts(seq)?;
        if standing == Standing::HasFailed {
            let kind = facts.map(|(subject, _)| subject.kind);
            let retried = self.assignment.is_to_be_given(seq);
            return Ok((ReportReply { received: true, kind, retried }, Vec::new()));
        }
        let sent_at = match standing {
            Standing::Has { sent_at } => Some(sent_at),
            _ => self.sent_at(edge, facts.as_ref().map(|(_, received_at)| *received_at)),
        };
        let stored = StoredReport {
            edge: edge.to_string(),
            status: report.status,
            at: now,
            response_ms: sent_at.map(|sent_at| now.since_ms(sent_at)),
            error: report.error,
            message: report.message,
        };
        self.log.storage_mut().save_report(seq, &stored)?;
        let subject = facts.map(|(subject, _)| subject);
        self.assignment.note_report(edge);
        let session = subject.as_ref().and_then(|subject| subject.session.as_deref());
        let ended = session.filter(|_| report.status != ReportStatus::Processing);
        self.assignment.note_heard(edge, report.event_id, ended);
        self.assignment.reported(seq, edge, report.status, now);
        let retried = report.status == ReportStatus::Failed && self.assignment.is_to_be_given(seq);
        if let (Some(subject), ReportStatus::Processing) = (&subject, report.status) {
            self.assignment.hold(subject, edge, now);
        }
        let commands = self.settle(Opening::default(), now)?;
        let kind = subject.map(|subject| subject.kind);
        Ok((ReportReply { received: true, kind, retried }, commands))
    }

    /// Whether an edge may speak about an event, as it could report on it.
    pub fn may_report(
        &self,
        edge: &EdgeId,
        id: EventId,
    ) -> Result<ReportReply, StreamError<S::Error>> {
        self.admit(edge)?;
        let seq = self.known_position(id)?;
        self.require_lease((seq, id), edge, ReportStatus::Processing)?;
        let kind = self.facts(seq)?.map(|(subject, _)| subject.kind);
        Ok(ReportReply { received: true, kind, retried: false })
    }

    /// Refuses an edge that no longer has the event, or never had.
    fn require_lease(
        &self,
        (seq, id): (Seq, EventId),
        edge: &EdgeId,
        status: ReportStatus,
    ) -> Result<Standing, StreamError<S::Error>> {
        let standing = self.assignment.standing(seq, edge);
        let has_it_now = match &standing {
            Standing::Has { .. } | Standing::MayTakeBack => return Ok(standing),
            Standing::NoLease if self.given_up(id)?.is_some() => None,
            Standing::NoLease => match self.finisher(seq, edge)? {
                None => return Ok(standing),
                finisher => finisher,
            },
            // The answer to the same report may have been lost.
            Standing::HasFailed if status == ReportStatus::Failed => return Ok(standing),
            Standing::HasNot { edge } => edge.clone(),
            Standing::HasFailed | Standing::Unassigned => None,
        };
        let message = match &has_it_now {
            Some(_) => "another machine was given this event",
            None => "this event is not assigned to you",
        };
        let mut problem = Problem::new(ErrorCode::EventReassigned, message);
        if let Some(edge) = has_it_now {
            problem = problem.with("assigned_to", self.assignment.name_of(&edge));
        }
        Err(StreamError::Refused(problem))
    }

    /// The other edge that has finished an event, unless this one has too: a report may be sent
    /// again.
    fn finisher(&self, seq: Seq, edge: &EdgeId) -> Result<Option<EdgeId>, S::Error> {
        if !self.assignment.is_single(seq) {
            return Ok(None);
        }
        let reports = self.log.storage().reports(seq)?;
        let completed = reports.iter().rev().find(|one| one.status == ReportStatus::Completed);
        let failed = reports.iter().rev().find(|one| one.status == ReportStatus::Failed);
        let finisher = completed.or(failed).filter(|one| one.edge != edge.as_str());
        Ok(finisher.and_then(|one| one.edge.parse().ok()))
    }

    /// What the event is, and when it was received, when that is known without reading history.
    fn facts(&self, seq: Seq) -> Result<Option<(LeaseSubject, UnixMillis)>, S::Error> {
        let mut facts = None;
        read_one(&self.log, seq, &mut |record| {
            facts = LeaseSubject::read(record).zip(record_received_at(record));
        })?;
        Ok(facts)
    }

    /// When an edge that reads everything was sent an event, as near as is known.
    fn sent_at(&self, edge: &EdgeId, received_at: Option<UnixMillis>) -> Option<UnixMillis> {
        let theirs = self.connections.values().filter(|one| one.edge == *edge);
        let opened_at = theirs.map(|one| one.opened_at).min();
        Some(received_at?.max(opened_at.unwrap_or_default()))
    }
}
