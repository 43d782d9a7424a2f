//! One agent session that a machine takes up, works on and finishes: what all of it needs. The
//! logic is the Worker's; what its shells do around it, calls and alarms, is counted here.

use relay_durable::{
    Effect, Installation, InstallationSettings, MemoryInstallation, StreamSettings, TokenKeys,
    samples::samples,
};
use relay_schemas::{
    Announce, Announcement, Envelope, EventId, Granted, InstalledOrganization, Report,
    ReportCommand, ReportStatus, SecretText, Speaker, UnixMillis, linear_api::LinearAnswer,
};

use relay_tests::SignedWebhook;

use super::{bill::SessionNeeds, model::Model};
use crate::traffic::Traffic;

const BEGIN: UnixMillis = UnixMillis::new(1_790_000_000_000);
const DAY_MS: u64 = 86_400_000;
/// When the machine begins, and when it has finished.
const BEGUN_MS: u64 = 1_000;
const FINISHED_MS: u64 = 60_000;
const RETENTION_MS: u64 = 62 * DAY_MS;

/// Prints the lines.
pub(crate) fn print() {
    let needs = needs();
    println!(
        "an agent session of an event, `processing` and `completed`: {needs}, ${:.2} for a million",
        needs.price()
    );
}

fn needs() -> SessionNeeds {
    let mut model = Model::new(StreamSettings::default(), BEGIN);
    let (id, announcement) = append_created(&mut model);
    let mut desk = Desk::installed();
    desk.at(BEGIN, |core, now| {
        core.announce(&Announce { announcements: vec![announcement.clone()] }, now)
    });
    for (after_ms, status) in
        [(BEGUN_MS, ReportStatus::Processing), (FINISHED_MS, ReportStatus::Completed)]
    {
        let at = BEGIN + after_ms;
        let edge = "edge_cost".parse().expect("an id");
        model.report(&edge, report(id, status), at);
        desk.at(at, |core, now| core.report(&command(id, status), now));
    }
    desk.run_until(BEGIN + RETENTION_MS + DAY_MS);
    let idle = {
        let mut idle = Desk::installed();
        idle.run_until(BEGIN + RETENTION_MS + DAY_MS);
        idle
    };
    model.advance_to(BEGIN + RETENTION_MS + 4 * DAY_MS);
    model.clear_directory();
    SessionNeeds {
        // The webhook and two reports; the consumer's run.
        worker_requests: 3 + 1,
        queue_operations: model.counts.queue_operations,
        // The directory, the stream three times, and the installation three times; alarms.
        object_requests: 1 + 3 + 3 + model.counts.alarms + desk.alarms - idle.alarms,
        rows: model.log_rows() + model.directory_rows() + desk.rows() - idle.rows(),
        alarm_rows: model.counts.alarm_rows + desk.alarm_rows - idle.alarm_rows,
        graphql_calls: desk.calls,
    }
}

/// The event of a new session goes all the way to its stream.
fn append_created(model: &mut Model) -> (EventId, Announcement) {
    let traffic = Traffic::of("cost", "reader");
    let list = samples("cost", "reader", BEGIN.get());
    let sample = list.iter().find(|sample| sample.name.starts_with("AgentSessionEvent.created"));
    let body = sample.expect("such a sample").body.as_str();
    let webhook = SignedWebhook::new(body, "delivery");
    let envelope = Envelope::parse(&webhook.body).expect("a sample");
    let id = envelope.event_id();
    let announcement = Announcement::of(&envelope, id).expect("Linear waits for it");
    let (edges, app_user) = (vec!["laptop".to_owned()], Some("app-user".to_owned()));
    model.append(vec![traffic.event_of(&webhook, BEGIN)], BEGIN);
    (id, Announcement { edges, app_user, sent_at: BEGIN, ..announcement })
}

fn report(event_id: EventId, status: ReportStatus) -> Report {
    Report { event_id, status, error: None, message: None, duration_ms: None, exit_code: None }
}

fn command(event: EventId, status: ReportStatus) -> ReportCommand {
    ReportCommand {
        event,
        kind: Some("AgentSessionEvent.created".into()),
        edge: Speaker { id: "edge_cost".parse().expect("an id"), name: "laptop".into() },
        status,
        message: None,
        error: None,
        duration_ms: None,
        exit_code: None,
        is_retried: false,
    }
}

/// An installation with its object's alarm, as the Worker's shell sets it. Linear answers at once.
struct Desk {
    storage: MemoryInstallation,
    core: Installation<MemoryInstallation>,
    rows_before: u64,
    alarm: Option<UnixMillis>,
    alarms: u64,
    alarm_rows: u64,
    calls: u64,
}

impl Desk {
    fn installed() -> Self {
        let storage = MemoryInstallation::default();
        let key = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let settings = InstallationSettings {
            keys: TokenKeys::parse(key).expect("a key"),
            answer_after_ms: 4_000,
            event_kept_ms: RETENTION_MS,
            has_client_credentials: false,
        };
        let mut core =
            Installation::load(storage.clone(), settings, &mut || [7; 16]).expect("memory");
        core.granted(&granted(), BEGIN, &mut || [7; 16]).expect("memory");
        let rows_before = storage.rows_written();
        let alarm = core.next_alarm(BEGIN);
        Self { storage, core, rows_before, alarm, alarms: 0, alarm_rows: 0, calls: 0 }
    }

    fn rows(&self) -> u64 {
        self.storage.rows_written() - self.rows_before
    }

    fn at<E: std::fmt::Debug>(
        &mut self,
        now: UnixMillis,
        command: impl FnOnce(&mut Installation<MemoryInstallation>, UnixMillis) -> Result<(), E>,
    ) {
        self.run_until(now);
        command(&mut self.core, now).expect("memory");
        if let Some(at) = self.core.next_alarm(now) {
            self.set_alarm(at.max(now + 1));
        }
        self.run_until(now + 10);
    }

    fn set_alarm(&mut self, at: UnixMillis) {
        if self.alarm.is_none_or(|set| at < set) {
            self.alarm = Some(at);
            self.alarm_rows += 1;
        }
    }

    fn run_until(&mut self, until: UnixMillis) {
        while let Some(now) = self.alarm.filter(|at| *at <= until) {
            self.alarms += 1;
            self.alarm = None;
            // Before anything is begun, in case the object vanishes; the next one takes its place.
            self.alarm_rows += 1;
            while let Some(effect) = self.core.next_effect(now).expect("memory") {
                self.answer(&effect, now);
            }
            if let Some(at) = self.core.next_alarm(now) {
                self.set_alarm(at.max(now + 1));
            }
        }
    }

    fn answer(&mut self, effect: &Effect, now: UnixMillis) {
        let random = &mut || [7; 16];
        match effect {
            Effect::Call { request, .. } => {
                self.calls += 1;
                let done = r#"{"data":{"agentActivityCreate":{"success":true}}}"#;
                let answer = LinearAnswer::new(200, done);
                self.core.called(*request, Some(&answer), now, random).expect("memory");
            }
            Effect::Refresh { request, app, .. } => {
                let pair = r#"{"access_token":"a","refresh_token":"b","expires_in":86399,"token_type":"Bearer","scope":"read write"}"#;
                let answer = LinearAnswer::new(200, pair);
                self.core.refreshed((app, *request), Some(&answer), now, random).expect("memory");
            }
        }
    }
}

fn granted() -> Granted {
    Granted {
        app: "client".into(),
        name: None,
        scopes: vec!["read".into(), "write".into()],
        access_token: SecretText::new("access"),
        refresh_token: Some(SecretText::new("refresh")),
        expires_in_s: 86_399,
        organization: InstalledOrganization {
            id: "cost".parse().expect("an id"),
            name: "Cost".into(),
            url_key: "cost".into(),
        },
        app_user: "app-user".parse().expect("an id"),
    }
}
