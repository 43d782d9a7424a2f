use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{
    clock::Clock,
    connection::{Connection, Connector, Outgoing, Received},
    fault::{Exit, Fault, Refusal},
    handler::{Completion, Handler},
    limits::TICK_MS,
    session::{Command, Input, Notice, Restored, Session, SessionSettings, SessionStatus, Weight},
    store::{Keeper, KeeperThread},
};

/// A few bytes to a connection that lives are sent at once; more than this is a dead one.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Questions that may wait for a running client.
const CONTROLS_MAX: usize = 16;

/// Reads a stream and hands its events to a handler, until it is told to end or must.
#[derive(Debug)]
pub struct Client<C: Connector, H> {
    session: Session,
    connector: C,
    handler: H,
    keeper: Keeper,
    keeper_thread: KeeperThread,
    controls: mpsc::Receiver<Control>,
    clock: Clock,
    /// What handlers say.
    said: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    reports_stored: Arc<Notify>,
    slot: Slot<C::Connection>,
    inbox: VecDeque<Received>,
}

/// Speaks to a running client.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    controls: mpsc::Sender<Control>,
    reports_stored: Arc<Notify>,
}

#[derive(Debug)]
enum Control {
    Status(oneshot::Sender<SessionStatus>),
    Reconnect,
    Refused(Refusal),
    Shutdown,
}

enum Slot<C> {
    Empty,
    Dialing(BoxFuture<'static, Result<C, Fault>>),
    Up(C),
}

impl<C> std::fmt::Debug for Slot<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Dialing(_) => "Dialing",
            Self::Up(_) => "Up",
        })
    }
}

enum SlotEvent<C> {
    Connected(C),
    Received,
    Disconnected(Fault),
}

impl ClientHandle {
    /// How things stand; `None` when the client has ended.
    pub async fn status(&self) -> Option<SessionStatus> {
        let (answer, answered) = oneshot::channel();
        self.controls.send(Control::Status(answer)).await.ok()?;
        answered.await.ok()
    }

    /// Drops the connection and dials at once.
    pub async fn reconnect(&self) {
        let _ = self.controls.send(Control::Reconnect).await;
    }

    /// Ends the client; the second time without waiting for handlers.
    pub async fn shutdown(&self) {
        let _ = self.controls.send(Control::Shutdown).await;
    }

    /// Ends the client because the relay refuses its reports.
    pub(crate) async fn refused(&self, refusal: Refusal) {
        let _ = self.controls.send(Control::Refused(refusal)).await;
    }

    /// Waits until more reports wait in the store.
    pub(crate) async fn reports_stored(&self) {
        self.reports_stored.notified().await;
    }
}

impl<C: Connector, H: Handler> Client<C, H> {
    /// A client that has not started. `restored` is what the keeper's store was opened with.
    pub fn new(
        settings: SessionSettings,
        restored: Restored,
        connector: C,
        handler: H,
        (keeper, keeper_thread): (Keeper, KeeperThread),
    ) -> (Self, ClientHandle) {
        let (sender, controls) = mpsc::channel(CONTROLS_MAX);
        let reports_stored = Arc::new(Notify::new());
        let handle = ClientHandle { controls: sender, reports_stored: Arc::clone(&reports_stored) };
        let client = Self {
            session: Session::new(settings, restored, fastrand::u64(..)),
            connector,
            handler,
            keeper,
            keeper_thread,
            controls,
            clock: Clock::start(),
            said: mpsc::unbounded_channel(),
            reports_stored,
            slot: Slot::Empty,
            inbox: VecDeque::new(),
        };
        (client, handle)
    }

    /// Runs until `shutdown` is ready, or the client must end. The thread that comes back is to
    /// be joined when nothing else is to be stored.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> (Exit, KeeperThread) {
        let mut shutdown = pin!(shutdown);
        let mut is_asked = false;
        self.feed(Input::Start);
        loop {
            if let Some(exit) = self.perform().await {
                // Something runs only when the state was lost.
                self.handler.abandon().await;
                return (exit, self.keeper_thread);
            }
            if self.feed_waiting() {
                continue;
            }
            let wake_at = self.clock.now() + TICK_MS;
            let wake_at = self.session.poll_timeout().map_or(wake_at, |at| at.min(wake_at));
            let wake_at = self.clock.instant(wake_at);
            let may_read = self.session.may_read();
            // In the order of what must not wait: 1 ending, 2 what frees room, 3 questions,
            // 4 what needs room, 5 time.
            let input = tokio::select! {
                biased;
                () = &mut shutdown, if !is_asked => {
                    is_asked = true;
                    Some(Input::Shutdown)
                }
                Some(said) = self.said.1.recv() => Some(said),
                committed = self.keeper_thread.commits.recv() => Some(match committed {
                    Some(Ok(())) => Input::Persisted,
                    Some(Err(error)) => Input::StateFailed(error.to_string()),
                    None => Input::StateFailed("its thread has ended".into()),
                }),
                Some(control) = self.controls.recv() => self.handle_control(control),
                event = next_event(&mut self.slot, &mut self.inbox, may_read) => {
                    self.handle_slot(event)
                }
                () = sleep_until(wake_at) => Some(self.tick()),
            };
            if let Some(input) = input {
                self.feed(input);
            }
        }
    }

    fn feed(&mut self, input: Input) {
        let now = self.clock.now();
        self.session.handle(input, now);
    }

    /// Feeds one thing that needs no waiting; `false` when there is none.
    fn feed_waiting(&mut self) -> bool {
        let input = if let Ok(said) = self.said.1.try_recv() {
            said
        } else if !self.session.may_read() {
            return false;
        } else {
            match self.inbox.pop_front() {
                Some(Received::Line(line)) => Input::Line(line),
                Some(Received::Alive) => Input::Alive,
                None => return false,
            }
        };
        self.feed(input);
        true
    }

    fn tick(&mut self) -> Input {
        match self.clock.slept_ms() {
            Some(duration_ms) => Input::Slept { duration_ms },
            None => Input::Tick,
        }
    }

    fn handle_control(&mut self, control: Control) -> Option<Input> {
        match control {
            Control::Status(answer) => {
                let _ = answer.send(self.session.status(self.clock.now()));
                None
            }
            Control::Reconnect => Some(Input::ReconnectRequested),
            Control::Refused(refusal) => Some(Input::Refused(refusal)),
            Control::Shutdown => Some(Input::Shutdown),
        }
    }

    fn handle_slot(&mut self, event: SlotEvent<C::Connection>) -> Option<Input> {
        match event {
            SlotEvent::Connected(connection) => {
                let is_duplex = connection.is_duplex();
                self.slot = Slot::Up(connection);
                Some(Input::Connected { is_duplex })
            }
            SlotEvent::Received => None,
            SlotEvent::Disconnected(fault) => {
                self.slot = Slot::Empty;
                // Left when the connection broke within a read: they come again.
                self.inbox.clear();
                Some(Input::Disconnected(fault))
            }
        }
    }

    /// Does everything that the session wants done.
    async fn perform(&mut self) -> Option<Exit> {
        while let Some(command) = self.session.next_command() {
            match command {
                Command::Dial(from) => self.slot = Slot::Dialing(self.connector.dial(from)),
                Command::Hangup => {
                    self.slot = Slot::Empty;
                    self.inbox.clear();
                }
                Command::Ping => self.send(Outgoing::Ping).await,
                Command::Grant { bytes } => self.send(Outgoing::Grant { bytes }).await,
                Command::Run { ticket, event, attempt } => {
                    let completion = Completion::new(ticket, self.said.0.clone());
                    self.handler.start(event, attempt, completion);
                }
                Command::Stop { ticket } => self.handler.stop(ticket),
                Command::Persist(batch) => {
                    let has_dispatches = !batch.dispatches.is_empty();
                    self.keeper.commit(batch);
                    if has_dispatches {
                        self.reports_stored.notify_one();
                    }
                }
                Command::AbandonHandlers => self.handler.abandon().await,
                Command::Tell(notice) => tell(&notice),
                Command::Exit(exit) => return Some(exit),
            }
        }
        None
    }

    async fn send(&mut self, message: Outgoing) {
        let Slot::Up(connection) = &mut self.slot else { return };
        let fault = match timeout(SEND_TIMEOUT, connection.send(message)).await {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => fault,
            Err(_) => Fault::passing("the connection takes nothing any more"),
        };
        self.slot = Slot::Empty;
        self.inbox.clear();
        self.feed(Input::Disconnected(fault));
    }
}

async fn next_event<C: Connection>(
    slot: &mut Slot<C>,
    inbox: &mut VecDeque<Received>,
    may_read: bool,
) -> SlotEvent<C> {
    match slot {
        Slot::Dialing(dial) => match dial.await {
            Ok(connection) => SlotEvent::Connected(connection),
            Err(fault) => SlotEvent::Disconnected(fault),
        },
        Slot::Up(connection) if may_read => match connection.receive(inbox).await {
            Ok(()) => SlotEvent::Received,
            Err(fault) => SlotEvent::Disconnected(fault),
        },
        Slot::Up(_) | Slot::Empty => std::future::pending().await,
    }
}

fn tell(notice: &Notice) {
    match notice.weight() {
        Weight::Plain if matches!(notice, Notice::Bye { .. }) => debug!("{notice}"),
        Weight::Plain => info!("{notice}"),
        Weight::Warning => warn!("{notice}"),
        Weight::Severe => error!("{notice}"),
    }
}
