//! The group-commit writers: each drains what waits, writes it in one transaction, and answers everyone after the commit.
//! Its cost is the commit's, so the busier they are, the cheaper each event. On PostgreSQL there are several: while one commits,
//! another drains.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sqlx::Any;
use sqlx::pool::PoolConnection;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::batch::Finished;
use super::database::Kind;
use super::group::{Accept, AcceptError, Accepted, Command, Effects, Group};
use super::leases::Lease;
use super::{Store, StoreError, plugin_runs};
use crate::domain::delivery::Leased;
use crate::domain::event::Event;
use crate::domain::id::EndpointId;
use crate::domain::lanes::Want;
use crate::telemetry::METRICS;

/// Commands waiting at most; whoever brings more waits for a place.
const QUEUE: usize = 1_024;
/// Commands in one transaction at most.
const COMMANDS: usize = 256;
/// What plugins made and is not yet stored at most, in KiB; whoever brings more waits for room.
const PLUGINS_KIB: usize = 64 * 1024;
/// How often a transaction is tried that another writer came in between of, before it counts as failed.
const TRIES: u32 = 4;
/// How long attempts alone wait for something that somebody waits for: a commit costs about the same for both, and what is lost by
/// it should this process be killed meanwhile is an attempt's result, as at any moment while it runs.
const LINGER: Duration = Duration::from_millis(10);
/// How long SQLite's only connection that writes is kept while commands wait, before all others that write have their turn.
const TURN: Duration = Duration::from_millis(20);
/// Pause after a failed transaction; what must not be lost is then tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Brings commands to the writer.
#[derive(Clone)]
pub struct Writer {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
}

impl Writer {
    /// Stores events, all or none, with one delivery for each endpoint that wants them. When this returns `Ok` they
    /// are on disk.
    /// `room` is kept until then.
    pub async fn accept(&self, events: Vec<Event>, room: OwnedSemaphorePermit) -> Result<Vec<Accepted>, AcceptError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Accept(Accept { events, _room: room, answer, progress: None })).await;
        answered.await.unwrap_or(Err(AcceptError::Unavailable))
    }

    /// Stores a test event with its one delivery, leased to the caller. `None`: the endpoint does not exist any more.
    pub async fn accept_test(&self, event: Event, endpoint: EndpointId) -> Result<Option<Leased>, AcceptError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::AcceptTest { event, endpoint, answer }).await;
        answered.await.map_err(|_| AcceptError::Unavailable)
    }

    /// Records an attempt, some time soon. Waits only while the writer is far behind.
    pub async fn record(&self, finished: Finished) {
        let room = self.room_for(&finished).await;
        self.send(Command::Record { finished: Box::new(finished), done: None, room }).await;
    }

    /// Records an attempt and waits until it is stored; `false`: that is not known.
    pub async fn record_now(&self, finished: Finished) -> bool {
        let (done, recorded) = oneshot::channel();
        let room = self.room_for(&finished).await;
        self.send(Command::Record { finished: Box::new(finished), done: Some(done), room }).await;
        recorded.await.is_ok()
    }

    /// Claims deliveries; they arrive in the lanes.
    pub async fn claim(&self, wants: Vec<Want>) {
        self.send(Command::Claim(wants)).await;
    }

    /// Gives leases back.
    pub async fn release(&self, leased: Vec<Leased>) {
        self.send(Command::Release(leased)).await;
    }

    /// Lets leases run on, from when it is written.
    pub async fn renew(&self, leases: Vec<Lease>) {
        self.send(Command::Renew(leases)).await;
    }

    /// Ends leases: nobody works under them any more, and what they were for is left as it was.
    pub async fn end(&self, leases: Vec<Lease>) {
        self.send(Command::End(leases)).await;
    }

    async fn room_for(&self, finished: &Finished) -> Option<OwnedSemaphorePermit> {
        let kib = plugin_runs::size_bytes(finished.plugins.as_ref()?).div_ceil(1024).min(PLUGINS_KIB);
        let kib = u32::try_from(kib).expect("at most PLUGINS_KIB");
        Some(self.room.clone().acquire_many_owned(kib).await.expect("never closed"))
    }

    async fn send(&self, command: Command) {
        // Fails only after the writer's end; the answer that never comes says so.
        let _ = self.commands.send(command).await;
    }
}

/// The writers' own side.
pub struct WriterTask {
    store: Arc<Store>,
    commands: Arc<Mutex<mpsc::Receiver<Command>>>,
    lease: SignedDuration,
    disable_after: SignedDuration,
}

impl WriterTask {
    /// The writers of `store`, to be run each. They lease deliveries for `lease` and disable endpoints that failed for
    /// `disable_after`.
    #[must_use]
    pub fn new(store: Arc<Store>, lease: Duration, disable_after: Duration) -> (Writer, Vec<Self>) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let commands = Arc::new(Mutex::new(commands));
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let task = |_| Self {
            store: store.clone(),
            commands: commands.clone(),
            lease: signed(lease),
            disable_after: signed(disable_after),
        };
        let tasks = (0..store.kind.writers()).map(task).collect();
        (Writer { commands: sender, room: Arc::new(Semaphore::new(PLUGINS_KIB)) }, tasks)
    }

    /// Writes until `stop`, then what is still waiting.
    pub async fn run(self, stop: CancellationToken) {
        let mut commands = Vec::with_capacity(COMMANDS);
        let (mut held, mut alone) = (None, false);
        loop {
            if !self.keeps(&held) {
                held = None;
            }
            // What was put off has every other transaction for itself.
            alone = !alone && !commands.is_empty();
            if !alone {
                self.receive(&mut commands, &stop).await;
            }
            if commands.is_empty() {
                return;
            }
            if let Err(error) = self.write(&mut commands, &mut held).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot write to the database");
                if stop.is_cancelled() {
                    // Leases run out by themselves: what could not be recorded is attempted again after a restart.
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Whether a connection stays here until the next transaction.
    fn keeps(&self, held: &Option<Held>) -> bool {
        match (held, self.store.kind) {
            (None, _) | (_, Kind::Postgres) => true,
            (Some(held), Kind::Sqlite) => {
                // Others may write, and would have to wait for commands that may never come.
                let busy = self.commands.try_lock().is_ok_and(|commands| !commands.is_empty());
                busy && held.since.elapsed() < TURN
            }
        }
    }

    /// Waits for commands, unless there are some left. None come after `stop`, once all that waited are written.
    async fn receive(&self, commands: &mut Vec<Command>, stop: &CancellationToken) {
        if !commands.is_empty() {
            // What could not be written goes first; others may come along.
            if let Ok(mut waiting) = self.commands.try_lock() {
                commands.extend(std::iter::from_fn(|| waiting.try_recv().ok()).take(COMMANDS));
            }
            return;
        }
        tokio::select! {
            biased;
            _ = self.receive_some(commands) => {}
            () = stop.cancelled() => return,
        }
        let linger = async {
            while commands.len() < COMMANDS && commands.iter().all(Command::can_wait) {
                if self.receive_some(commands).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = linger => {}
            () = tokio::time::sleep(LINGER) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Waits for commands, and takes all that fit into a transaction. Gives how many; 0: there will be none any more.
    async fn receive_some(&self, commands: &mut Vec<Command>) -> usize {
        let room = COMMANDS - commands.len();
        self.commands.lock().await.recv_many(commands, room).await
    }

    /// Writes the commands in one transaction and answers them. Those remain that were too many for one, after a failure
    /// those that must be tried again.
    async fn write(&self, commands: &mut Vec<Command>, held: &mut Option<Held>) -> Result<(), StoreError> {
        let now = self.store.clock.now();
        let lease_until = now.saturating_add(self.lease).unwrap_or(Timestamp::MAX);
        let (size, began) = (commands.len(), Instant::now());
        let mut group = Group::new(commands.drain(..), now, lease_until);
        let committed = self.commit(&mut group, held).await;
        METRICS.committed(size, began.elapsed(), committed.is_ok());
        match committed {
            Ok(effects) => {
                *commands = group.answer(&self.store, effects);
                Ok(())
            }
            Err(error) => {
                self.store.writing.doubted.notify_one();
                *commands = group.undo(&self.store);
                Err(error)
            }
        }
    }

    async fn commit(&self, group: &mut Group, held: &mut Option<Held>) -> Result<Effects, StoreError> {
        let mut tries = 0;
        loop {
            let mut taken = match held.take() {
                Some(held) => held,
                None => Held { connection: self.store.write.acquire().await?, since: Instant::now() },
            };
            let commit = group.commit(&self.store, &mut taken.connection, self.disable_after);
            let result = self.store.within_limit(commit).await;
            let again = match &result {
                Ok(effects) => effects.is_none(),
                Err(error) => error.is_conflict(),
            };
            if result.is_ok() || again {
                *held = Some(taken);
            } else {
                // It may be broken, hang, or be in a transaction.
                drop(taken.connection.detach());
            }
            tries += 1;
            match result {
                Ok(Some(effects)) => return Ok(effects),
                Err(error) if !again || tries == TRIES => return Err(error),
                Ok(None) | Err(_) => group.rewind(&self.store),
            }
        }
    }
}

/// A connection that is kept from one transaction to the next.
struct Held {
    connection: PoolConnection<Any>,
    since: Instant,
}
