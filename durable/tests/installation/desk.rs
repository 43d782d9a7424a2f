//! An installation that can be reloaded between any two steps, and short words for its inputs.

use relay_durable::{
    Effect, Installation, InstallationError, InstallationSettings, MemoryInstallation, TokenKeys,
    test_storage::StorageFault,
};
use relay_schemas::{
    Activity, ActivityCommand, ActivityReply, Announce, Announcement, EventId, Granted,
    InstallationStatus, ReportCommand, ReportStatus, Revoked, RevokedReply, SecretText, Speaker,
    UnixMillis, linear_api::LinearAnswer,
};
use serde_json::Value;

use crate::linear::Linear;

pub(crate) const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;
pub(crate) const KEY_A: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
pub(crate) const KEY_B: &str = "b:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// The kind of an event that is answered in a session.
pub(crate) const CREATED: &str = "AgentSessionEvent.created";

pub(crate) type Refusal = InstallationError<StorageFault>;

pub(crate) fn settings(keys: &str) -> InstallationSettings {
    InstallationSettings {
        keys: TokenKeys::parse(keys).unwrap(),
        answer_after_ms: 4_000,
        event_kept_ms: 62 * DAY_MS,
        has_client_credentials: false,
    }
}

pub(crate) fn event(number: u8) -> EventId {
    EventId::from_bytes([number; 16])
}

pub(crate) fn machine(name: &str) -> Speaker {
    Speaker { id: format!("edge_{name}").parse().unwrap(), name: name.into() }
}

/// `created` in a session, with machines connected.
pub(crate) fn created(number: u8, session: &str, edges: &[&str]) -> Announcement {
    Announcement {
        event: event(number),
        kind: CREATED.into(),
        app: Some("app-uuid".into()),
        app_user: Some("app-user".into()),
        session: Some(session.into()),
        issue: Some("issue".into()),
        comment: None,
        parent_comment: None,
        sent_at: NOW,
        signal: None,
        edges: edges.iter().map(|edge| (*edge).to_owned()).collect(),
        is_held: false,
    }
}

pub(crate) fn stop(number: u8, session: &str, is_held: bool) -> Announcement {
    Announcement {
        kind: "AgentSessionEvent.prompted".into(),
        signal: Some("stop".into()),
        is_held,
        ..created(number, session, &["laptop"])
    }
}

pub(crate) fn mention(number: u8) -> Announcement {
    Announcement {
        kind: "AppUserNotification.issueCommentMention".into(),
        session: None,
        comment: Some("comment".into()),
        parent_comment: Some("root".into()),
        ..created(number, "", &["laptop"])
    }
}

pub(crate) fn report(number: u8, status: ReportStatus, message: Option<&str>) -> ReportCommand {
    ReportCommand {
        event: event(number),
        kind: Some(CREATED.into()),
        edge: machine("laptop"),
        status,
        message: message.map(str::to_owned),
        error: None,
        duration_ms: None,
        exit_code: None,
        is_retried: false,
    }
}

pub(crate) fn activity(number: u8, id: &str, content: Value) -> ActivityCommand {
    let activity: Activity = serde_json::from_value(content).unwrap();
    let id = (!id.is_empty()).then(|| id.to_owned());
    let activity = Activity { id, ..activity };
    let (event, kind) = (event(number), Some(CREATED.into()));
    ActivityCommand { event, kind, edge: machine("laptop"), activity }
}

pub(crate) fn granted(access: &str, refresh: Option<&str>) -> Granted {
    Granted {
        app: "client-id".into(),
        name: Some("Relay".into()),
        scopes: vec!["read".into(), "write".into()],
        access_token: SecretText::new(access),
        refresh_token: refresh.map(SecretText::new),
        expires_in_s: 86_399,
        organization: relay_schemas::InstalledOrganization {
            id: "org-1".parse().unwrap(),
            name: "Org".into(),
            url_key: "org".into(),
        },
        app_user: "app-user".parse().unwrap(),
    }
}

/// Everything that a test needs at hand.
pub(crate) struct Desk {
    pub(crate) storage: MemoryInstallation,
    pub(crate) settings: InstallationSettings,
    pub(crate) core: Installation<MemoryInstallation>,
    pub(crate) linear: Linear,
    pub(crate) now: UnixMillis,
    count: u128,
}

/// Different bytes each time.
pub(crate) fn counted(count: &mut u128) -> impl FnMut() -> [u8; 16] + '_ {
    || {
        *count = count.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        count.to_be_bytes()
    }
}

impl Desk {
    /// Nothing is installed.
    pub(crate) fn empty() -> Self {
        let (storage, settings) = (MemoryInstallation::default(), settings(KEY_A));
        let mut count = 0;
        let core = Installation::load(storage.clone(), settings.clone(), &mut counted(&mut count))
            .unwrap();
        Self { storage, settings, core, linear: Linear::default(), now: NOW, count }
    }

    /// An app is installed, and its token has worked.
    pub(crate) fn new() -> Self {
        let mut desk = Self::empty();
        desk.install();
        desk
    }

    pub(crate) fn install(&mut self) {
        let (access, refresh) = self.linear.install(self.now);
        let granted = granted(&access, Some(&refresh));
        self.core.granted(&granted, self.now, &mut counted(&mut self.count)).unwrap();
    }

    pub(crate) fn reload(&mut self) {
        self.storage.heal();
        self.core = self.load();
    }

    pub(crate) fn load(&mut self) -> Installation<MemoryInstallation> {
        let random = &mut counted(&mut self.count);
        Installation::load(self.storage.clone(), self.settings.clone(), random).unwrap()
    }

    pub(crate) fn announce(&mut self, announcement: Announcement) {
        let announce = Announce { announcements: vec![announcement] };
        self.core.announce(&announce, self.now).unwrap();
    }

    pub(crate) fn report(&mut self, report: &ReportCommand) {
        self.core.report(report, self.now).unwrap();
    }

    pub(crate) fn try_activity(
        &mut self,
        command: &ActivityCommand,
    ) -> Result<ActivityReply, Refusal> {
        self.core.activity(command, self.now, &mut counted(&mut self.count))
    }

    pub(crate) fn activity(&mut self, command: &ActivityCommand) -> ActivityReply {
        self.try_activity(command).unwrap()
    }

    /// An app was taken away now.
    pub(crate) fn revoked(&mut self, app: &str) -> RevokedReply {
        self.revoked_at(app, self.now)
    }

    pub(crate) fn revoked_at(&mut self, app: &str, at: UnixMillis) -> RevokedReply {
        self.core.revoked(&Revoked { app: app.into(), at: Some(at) }, self.now).unwrap()
    }

    pub(crate) fn status(&self) -> InstallationStatus {
        self.core.status(self.now)
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now = self.now + milliseconds;
    }

    /// What is to be done now, all of it begun.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        let next = || self.core.next_effect(self.now).unwrap();
        let effects: Vec<Effect> = std::iter::from_fn(next).take(100).collect();
        assert!(effects.len() < 100, "there is no end to it");
        effects
    }

    /// The one thing to be done.
    #[track_caller]
    pub(crate) fn effect(&mut self) -> Effect {
        let mut effects = self.effects();
        assert_eq!(effects.len(), 1, "{effects:?}");
        effects.remove(0)
    }

    /// Linear's answer reaches the value.
    pub(crate) fn answer(&mut self, effect: &Effect, answer: Option<&LinearAnswer>) {
        let random = &mut counted(&mut self.count);
        match effect {
            Effect::Call { request, .. } => {
                self.core.called(*request, answer, self.now, random).unwrap();
            }
            Effect::Refresh { request, app, .. } => {
                self.core.refreshed((app, *request), answer, self.now, random).unwrap();
            }
        }
    }

    /// Linear does what it is told.
    pub(crate) fn ask(&mut self, effect: &Effect) -> LinearAnswer {
        self.linear.ask(effect, self.now)
    }

    /// Linear does it, and answers.
    pub(crate) fn perform(&mut self, effect: &Effect) {
        let answer = self.ask(effect);
        self.answer(effect, Some(&answer));
    }

    /// Does everything that is to be done now.
    pub(crate) fn drain(&mut self) {
        for _ in 0..10_000 {
            let effects = self.effects();
            if effects.is_empty() {
                return;
            }
            effects.iter().for_each(|effect| self.perform(effect));
        }
        panic!("there is no end to it");
    }

    /// What Linear was made to have, in order.
    #[track_caller]
    pub(crate) fn check(&self, expected: &[&str]) {
        assert_eq!(self.linear.texts(), expected);
    }
}

/// The variables of a call.
#[track_caller]
pub(crate) fn variables(effect: &Effect) -> Value {
    let Effect::Call { body, .. } = effect else { panic!("no call: {effect:?}") };
    serde_json::from_str::<Value>(body).unwrap()["variables"].take()
}
