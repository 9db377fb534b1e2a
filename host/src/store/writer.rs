//! The group-commit writer: one task drains what waits, writes it in one transaction, and answers everyone after the
//! commit. Its cost is the commit's, so the busier it is, the cheaper each event.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::batch::Finished;
use super::group::{Accept, AcceptError, Accepted, Command, Group};
use super::{Store, StoreError, plugin_runs};
use crate::domain::delivery::Leased;
use crate::domain::event::Event;
use crate::domain::id::EndpointId;
use crate::domain::lanes::Want;

/// Commands waiting at most; whoever brings more waits for a place.
const QUEUE: usize = 1_024;
/// Commands in one transaction at most.
const COMMANDS: usize = 256;
/// What plugins made and is not yet stored at most, in KiB; whoever brings more waits for room.
const PLUGINS_KIB: usize = 64 * 1024;
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
        self.send(Command::Accept(Accept { events, room, answer })).await;
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

/// The writer's own side.
pub struct WriterTask {
    store: Arc<Store>,
    commands: mpsc::Receiver<Command>,
    lease: SignedDuration,
    disable_after: SignedDuration,
}

impl WriterTask {
    /// A writer for `store` that leases deliveries for `lease` and disables endpoints that failed for `disable_after`.
    #[must_use]
    pub fn new(store: Arc<Store>, lease: Duration, disable_after: Duration) -> (Writer, Self) {
        let (sender, commands) = mpsc::channel(QUEUE);
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let writer = Writer { commands: sender, room: Arc::new(Semaphore::new(PLUGINS_KIB)) };
        (writer, Self { store, commands, lease: signed(lease), disable_after: signed(disable_after) })
    }

    /// Writes until `stop`, then what is still waiting.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut commands = Vec::with_capacity(COMMANDS);
        loop {
            if commands.is_empty() {
                let received = tokio::select! {
                    biased;
                    received = self.commands.recv_many(&mut commands, COMMANDS) => received,
                    () = stop.cancelled() => 0,
                };
                if received == 0 {
                    return;
                }
            } else {
                // What could not be written goes first; others may come along.
                let more = std::iter::from_fn(|| self.commands.try_recv().ok());
                commands.extend(more.take(COMMANDS));
            }
            if let Err(error) = self.write(&mut commands).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot write to the database");
                if stop.is_cancelled() {
                    // Leases run out by themselves: what could not be recorded is attempted again after a restart.
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Writes the commands in one transaction and answers them. Those remain that were too many for one, after a failure
    /// those that must be tried again.
    async fn write(&self, commands: &mut Vec<Command>) -> Result<(), StoreError> {
        let now = self.store.clock.now();
        let lease_until = now.saturating_add(self.lease).unwrap_or(Timestamp::MAX);
        let mut group = Group::new(commands.drain(..), now, lease_until);
        match group.commit(&self.store, self.disable_after).await {
            Ok(effects) => {
                *commands = group.answer(&self.store, effects);
                Ok(())
            }
            Err(error) => {
                *commands = group.undo(&self.store);
                Err(error)
            }
        }
    }
}
