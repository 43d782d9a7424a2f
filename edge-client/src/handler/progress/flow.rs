use std::collections::VecDeque;

use relay_schemas::{Activity, ActivityContent, UnixMillis};

use crate::limits::{ACTIVITY_BURST, ACTIVITY_INTERVAL_MS, ACTIVITY_PACE_MS};

/// How fast a handler's activities go on, as a value. Of thoughts, and of plans, that come faster
/// than one in a while the newest counts; everything else waits for its turn, and while it waits
/// the handler's pipe is not read.
#[derive(Debug, Default)]
pub(super) struct Flow {
    waiting: VecDeque<Activity>,
    thoughts: Lull,
    plans: Lull,
    /// When something else may go on. It may lie a few turns ahead of now: that is the burst.
    others_at: u64,
    is_open: bool,
}

/// At most one in a while.
#[derive(Debug, Default)]
struct Lull {
    held: Option<Activity>,
    free_at: u64,
}

impl Flow {
    /// An activity came.
    pub(super) fn take(&mut self, activity: Activity, now: UnixMillis) {
        match activity.content {
            ActivityContent::Thought { .. } => self.thoughts.held = Some(activity),
            ActivityContent::Plan { .. } => self.plans.held = Some(activity),
            ActivityContent::Action { .. }
            | ActivityContent::Elicitation { .. }
            | ActivityContent::Response { .. }
            | ActivityContent::Error { .. }
            | ActivityContent::Urls { .. } => {
                let thought = self.thoughts.drive_out(now.get(), self.is_open);
                let plan = self.plans.drive_out(now.get(), self.is_open);
                self.waiting.extend(thought.into_iter().chain(plan));
                self.waiting.push_back(activity);
            }
        }
    }

    /// Whether more is to be read.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() || self.is_open
    }

    /// The next that goes on now.
    pub(super) fn next(&mut self, now: UnixMillis) -> Option<Activity> {
        let now = now.get();
        if !self.waiting.is_empty() {
            let ahead = self.others_at.saturating_sub(now);
            if ahead > ACTIVITY_BURST * ACTIVITY_PACE_MS && !self.is_open {
                return None;
            }
            self.others_at = self.others_at.max(now) + ACTIVITY_PACE_MS;
            return self.waiting.pop_front();
        }
        self.thoughts.next(now, self.is_open).or_else(|| self.plans.next(now, self.is_open))
    }

    /// When the next goes on.
    pub(super) fn poll_timeout(&self) -> Option<UnixMillis> {
        let others = (!self.waiting.is_empty())
            .then(|| self.others_at.saturating_sub(ACTIVITY_BURST * ACTIVITY_PACE_MS));
        let lulls = [&self.thoughts, &self.plans];
        let lulls = lulls.into_iter().filter(|lull| lull.held.is_some()).map(|lull| lull.free_at);
        others.or_else(|| lulls.min()).map(UnixMillis::new)
    }

    /// The handler is done: what is left goes on at once.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }
}

impl Lull {
    fn next(&mut self, now: u64, is_open: bool) -> Option<Activity> {
        if now < self.free_at && !is_open {
            return None;
        }
        let activity = self.held.take()?;
        self.free_at = now + ACTIVITY_INTERVAL_MS;
        Some(activity)
    }

    /// Something else comes: what is held goes before it, unless that has happened too often.
    fn drive_out(&mut self, now: u64, is_open: bool) -> Option<Activity> {
        let activity = self.held.take()?;
        let free_at = self.free_at.max(now) + ACTIVITY_INTERVAL_MS;
        let is_flood = free_at - now > (ACTIVITY_BURST + 1) * ACTIVITY_INTERVAL_MS;
        if is_flood && !is_open {
            return None;
        }
        self.free_at = free_at;
        Some(activity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Script {
        flow: Flow,
        now: u64,
    }

    impl Script {
        fn new() -> Self {
            Self { flow: Flow::default(), now: 1_000_000 }
        }

        /// Takes lines such as `t1`: a thought that says 1; gives back what goes on.
        fn take(&mut self, words: &str) -> String {
            for word in words.split(' ') {
                let (kind, text) = word.split_at(1);
                let line = match kind {
                    "t" => format!(r#"{{"type":"thought","body":"{text}"}}"#),
                    "a" => format!(r#"{{"type":"action","action":"{text}","parameter":""}}"#),
                    "p" => format!(
                        r#"{{"type":"plan","steps":[{{"content":"{text}","status":"pending"}}]}}"#
                    ),
                    _ => format!(r#"{{"type":"response","body":"{text}"}}"#),
                };
                let activity = crate::activity::read_activity(line.as_bytes()).unwrap();
                self.flow.take(activity, UnixMillis::new(self.now));
            }
            self.pass(0)
        }

        fn pass(&mut self, milliseconds: u64) -> String {
            self.now += milliseconds;
            let now = UnixMillis::new(self.now);
            let words = std::iter::from_fn(|| self.flow.next(now)).map(|activity| word(&activity));
            words.collect::<Vec<_>>().join(" ")
        }
    }

    fn word(activity: &Activity) -> String {
        match &activity.content {
            ActivityContent::Thought { body, .. } => format!("t{body}"),
            ActivityContent::Action { action, .. } => format!("a{action}"),
            ActivityContent::Plan { steps } => format!("p{}", steps[0].content),
            ActivityContent::Response { body } => format!("r{body}"),
            other => panic!("{}", other.kind()),
        }
    }

    #[test]
    fn of_thoughts_and_plans_that_come_too_fast_the_newest_counts() {
        let mut script = Script::new();
        assert_eq!(script.take("t1"), "t1");
        assert_eq!(script.take("t2 t3 t4"), "");
        assert_eq!(script.flow.poll_timeout(), Some(UnixMillis::new(1_001_000)));
        assert_eq!(script.pass(999), "");
        assert_eq!(script.pass(1), "t4");
        assert_eq!(script.take("p1"), "p1");
        assert_eq!(script.take("p2 p3"), "");
        assert_eq!(script.pass(1_000), "p3");
        assert_eq!(script.flow.poll_timeout(), None);
    }

    #[test]
    fn the_order_holds_and_what_is_held_goes_before_what_follows_it() {
        let mut script = Script::new();
        assert_eq!(script.take("t1 a1"), "t1 a1");
        assert_eq!(script.take("t2 t3 a2 p1 r1"), "t3 a2 p1 r1");
    }

    #[test]
    fn a_flood_of_both_keeps_few_thoughts() {
        let mut script = Script::new();
        let mut said = String::new();
        for turn in 0..100 {
            said.push_str(&script.take(&format!("t{turn} a{turn}")));
            said.push(' ');
        }
        for _ in 0..100 {
            said.push_str(&script.pass(ACTIVITY_PACE_MS));
            said.push(' ');
        }
        let thoughts = said.split(' ').filter(|word| word.starts_with('t')).count();
        let actions = said.split(' ').filter(|word| word.starts_with('a')).count();
        assert!(thoughts <= 7, "{said}");
        assert_eq!(actions, 100, "actions wait, none is passed over");
    }

    #[test]
    fn others_keep_their_pace_after_a_burst() {
        let mut script = Script::new();
        let all: Vec<String> = (0..20).map(|number| format!("a{number}")).collect();
        let first = script.take(&all.join(" "));
        assert_eq!(first.split(' ').count(), 6);
        assert!(!script.flow.has_room());
        assert_eq!(script.pass(ACTIVITY_PACE_MS - 1), "");
        assert_eq!(script.pass(1), "a6");
        script.flow.open();
        assert_eq!(script.pass(0).split(' ').count(), 13);
        assert!(script.flow.has_room());
    }

    #[test]
    fn the_end_lets_everything_go_on() {
        let mut script = Script::new();
        script.take("t1");
        assert_eq!(script.take("t2 p1"), "p1");
        script.flow.open();
        assert_eq!(script.pass(0), "t2");
    }
}
