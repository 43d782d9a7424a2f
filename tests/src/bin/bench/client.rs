use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering as Counting},
    },
    time::{Duration, Instant},
};

use edgerelay::{
    Client, Completion, Connection, Connector, DialFrom, Event, Fault, Handler, Keeper, OnFailure,
    Ordering, Outcome, Outgoing, Received, SessionSettings, Start, Store, StreamIdentity,
};
use futures::future::BoxFuture;
use relay_durable::samples::sized_body;
use relay_schemas::{
    Cursor, Epoch, EventId, Open, Record, RecordParts, Seq, Subject, UnixMillis,
    write_webhook_frame,
};
use relay_tests::{ClientProcess, Relay, client_binary, now_ms};

use crate::{
    figures::{median, megabytes, resident_bytes},
    throughput::target,
};

const EVENTS: u64 = 400_000;
const BODY_BYTES: usize = 1_000;
const LINES_A_READ: u64 = 64;

/// The client: how much it takes, and how fast it could go.
pub(crate) async fn run() {
    println!("\n## Client");
    let bytes = std::fs::metadata(client_binary()).expect("built").len();
    println!("binary          {:.1} MB, stripped", megabytes(bytes));
    let rates: Vec<f64> = (0..3).map(|_| in_process_rate()).collect();
    println!(
        "in-process sink {:.0} events/s with bodies of {BODY_BYTES} bytes, state on disk",
        median(&rates)
    );
    resident().await;
}

/// Resident memory of the real program, idle and while it forwards a flood.
async fn resident() {
    let relay = Relay::start().await;
    let edge = relay.enrol("client", "user").await;
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("edge.db");
    let arguments = ["--exec", "cat > /dev/null", "--local", "off"];
    let mut client = ClientProcess::listen(&relay, &edge, &state, &arguments);
    let pid = client.child.id().expect("running");
    relay.wait_for_connections(&edge.stream(), 1).await;
    let idle = resident_bytes(pid);
    let person = target(&relay, &relay.url, "client", "user");
    let sending = tokio::spawn(async move { person.flood(16, Duration::from_secs(5)).await });
    let mut peak = idle;
    while !sending.is_finished() {
        peak = peak.max(resident_bytes(pid));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "resident        idle {:.1} MB, at most {:.1} MB with a flood it can't keep up with",
        megabytes(idle),
        megabytes(peak)
    );
    client.child.kill().await.expect("ends");
}

/// On a thread and a runtime of its own, as the program has one.
fn in_process_rate() -> f64 {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(sink())
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("ends well"))
}

async fn sink() -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let identity = StreamIdentity {
        relay: "memory".into(),
        organization: "org_bench".parse().expect("an id"),
        user: "user_bench".parse().expect("an id"),
        edge: "edge_bench".parse().expect("an id"),
        channel: None,
    };
    let (store, restored) =
        Store::open(&directory.path().join("edge.db"), &identity).expect("opens");
    let keeper = Keeper::start(store).expect("starts");
    let settings = SessionSettings {
        start: Start::Earliest,
        ordering: Ordering::HandedOver,
        concurrency: 64,
        capacity: None,
        attempts_max: Some(1),
        on_failure: OnFailure::Stop,
        reports: false,
        persist_interval_ms: 250,
        fail_on_gap: true,
        exit_when_caught_up: true,
        activities: false,
        stops: false,
        is_renewed: false,
        grace_ms: 1_000,
    };
    let handled = Arc::new(AtomicU64::new(0));
    let (memory, sink) = (Memory { frames: frames() }, Sink(Arc::clone(&handled)));
    let (client, _handle) = Client::new(settings, restored, memory, sink, keeper);
    let started = Instant::now();
    let (exit, keeper) = client.run(std::future::pending()).await;
    let elapsed = started.elapsed();
    keeper.join();
    assert_eq!((exit.code(), handled.load(Counting::Relaxed)), (0, EVENTS), "{exit}");
    EVENTS as f64 / elapsed.as_secs_f64()
}

/// Handles at once, and counts.
struct Sink(Arc<AtomicU64>);

impl Handler for Sink {
    fn start(&mut self, _event: Event, _attempt: u32, completion: Completion) {
        self.0.fetch_add(1, Counting::Relaxed);
        completion.finish(Outcome::Succeeded);
    }

    async fn abandon(&mut self) {}
}

fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: Epoch::new(UnixMillis::new(1_790_000_000_000), 1), seq: Seq::new(seq) }
}

/// The parts of a frame that differ stand in front; the rest is made once.
fn frames() -> Arc<Vec<String>> {
    let body = sized_body("client", "user", 1, now_ms(), BODY_BYTES);
    let records = (0..1_000_u128).map(|number| {
        Record::new(&RecordParts {
            id: EventId::from_bytes(number.to_be_bytes()),
            received_at: UnixMillis::new(1_790_000_000_000),
            kind: "Issue.update",
            organization: &"client".parse().expect("an id"),
            channel: &"user:user".parse().expect("a channel"),
            delivery: None,
            headers: &[],
            subject: Subject::default(),
            own: false,
            body: &body,
        })
        .into_string()
    });
    Arc::new(records.collect())
}

struct Memory {
    frames: Arc<Vec<String>>,
}

impl Connector for Memory {
    type Connection = MemoryConnection;

    fn dial(&self, _from: DialFrom) -> BoxFuture<'static, Result<MemoryConnection, Fault>> {
        let frames = Arc::clone(&self.frames);
        Box::pin(std::future::ready(Ok(MemoryConnection { frames, sent: None })))
    }
}

/// Gives frames as fast as they are taken.
struct MemoryConnection {
    frames: Arc<Vec<String>>,
    sent: Option<u64>,
}

impl MemoryConnection {
    fn line(&self, number: u64) -> Arc<str> {
        // Ids must differ or the client takes them for duplicates: the number stands in the id.
        let record = &self.frames[(number % 1_000) as usize];
        let id = EventId::from_bytes(u128::from(number).to_be_bytes()).to_string();
        let mut line = String::with_capacity(record.len() + 100);
        write_webhook_frame(cursor(number), number, record, &mut line);
        let start = line.find("evt_").expect("a record has an id");
        line.replace_range(start..start + id.len(), &id);
        line.into()
    }
}

impl Connection for MemoryConnection {
    fn is_duplex(&self) -> bool {
        false
    }

    async fn receive(&mut self, inbox: &mut VecDeque<Received>) -> Result<(), Fault> {
        let Some(sent) = self.sent else {
            let start = cursor(0);
            let open = Open {
                cursor: start,
                epoch: start.epoch,
                oldest: start,
                tail: cursor(EVENTS),
                heartbeat_s: 60,
                credit: None,
                mode: None,
                capacity: None,
            };
            inbox.push_back(Received::Line(open.to_line().into()));
            self.sent = Some(0);
            return Ok(());
        };
        if sent == EVENTS {
            std::future::pending::<()>().await;
        }
        let until = (sent + LINES_A_READ).min(EVENTS);
        inbox.extend((sent + 1..=until).map(|number| Received::Line(self.line(number))));
        self.sent = Some(until);
        Ok(())
    }

    fn send(&mut self, _message: Outgoing) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }
}
