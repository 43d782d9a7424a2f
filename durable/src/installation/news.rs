use relay_schemas::{InstallationTouch, MetricsDelta, UnixMillis};

use super::{Grant, Installation, storage::InstallationStorage};

/// What operators are to see.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// What was counted, and how the installation does if that is new.
    pub delta: MetricsDelta,
    /// Whether it should not wait for the next report.
    pub is_urgent: bool,
}

impl<S: InstallationStorage> Installation<S> {
    /// What has happened since it was last asked. What is told again after a crash is how the
    /// installation does, and never a count.
    pub fn news(&mut self, now: UnixMillis) -> News {
        let mut news = News { delta: MetricsDelta::default(), is_urgent: false };
        if let Some(organization) = &self.organization {
            let touch = InstallationTouch {
                apps: self
                    .grants
                    .iter()
                    .map(|(app, grant)| (app.clone(), Grant::status(grant).state))
                    .collect(),
                waiting: Some(self.outbox.len()),
                given_up: self.given_up_count(now),
                at: now,
            };
            let told = self.told.as_ref();
            news.is_urgent = told.is_none_or(|told| !told.lasts_as(&touch));
            if news.is_urgent || told.is_some_and(|told| told.waiting != touch.waiting) {
                news.delta.touch_installation(&organization.id, touch.clone());
                self.told = Some(touch);
            }
        }
        news.delta.merge(std::mem::take(&mut self.counts));
        news
    }
}
