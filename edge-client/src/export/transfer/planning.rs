use std::{collections::VecDeque, sync::Arc};

use relay_schemas::{Cursor, Seq};

use super::{Extent, Transfer};
use crate::export::{
    failure::Failure,
    notice::Notice,
    plan::{Plan, Segment},
    trial::Trial,
    window::Piece,
};

impl Transfer {
    /// Whether another plan is to be read: early enough that downloads need not wait for it.
    pub(super) fn wants_plan(&self) -> bool {
        self.planned.len() < self.segments_max && self.window.is_sound()
    }

    pub(super) fn handle_plan(&mut self, plan: Plan) {
        if let Err(failure) = self.check_plan(&plan) {
            return self.plan.end(failure);
        }
        if plan.gap.is_some() && self.fail_on_gap {
            return self.plan.end(Failure::Gap);
        }
        self.tell(plan.gap.clone().map(Notice::Gap));
        let extent = *self.extent.get_or_insert(Extent {
            epoch: plan.epoch,
            start: plan.from.seq,
            tail: plan.tail.seq,
        });
        if self.planned_to.is_none() {
            self.tally.cursor = Some(plan.from);
            self.note_passed();
        }
        self.planned_to = Some(plan.rest);
        // Segments that were sealed since the first plan lie beyond its tail.
        if plan.has_more && plan.rest.seq < extent.tail {
            self.plan = Trial::new("the plan".into(), &self.retry);
        } else {
            self.plan.succeed();
        }
        add_pieces(&mut self.planned, plan.segments, plan.from, extent.tail);
    }

    /// A later plan must go on exactly where the last one ended.
    fn check_plan(&self, plan: &Plan) -> Result<(), Failure> {
        plan.check().map_err(|fault| Failure::Contradiction(format!("the plan {fault}")))?;
        let Some(expected) = self.planned_to else { return Ok(()) };
        if plan.epoch != expected.epoch {
            let message = format!("the plan after {expected} is of another incarnation");
            return Err(Failure::Changed(message));
        }
        let is_explained = plan.gap.is_some() && plan.from > expected;
        if plan.from != expected && !is_explained {
            let message = format!("the plan after {expected} begins at {}", plan.from);
            return Err(Failure::Contradiction(message));
        }
        Ok(())
    }
}

fn add_pieces(planned: &mut VecDeque<Piece>, segments: Vec<Segment>, from: Cursor, tail: Seq) {
    let wanted = segments.into_iter().filter(|segment| segment.first <= tail);
    planned.extend(wanted.map(|segment| {
        let after = from.seq.max(Seq::new(segment.first.get() - 1));
        let until = tail.min(segment.last);
        let past = Cursor { seq: segment.last, ..from };
        Piece { segment: Arc::new(segment), after, until, past }
    }));
}
