//! The group-commit writer: one task drains what waits, writes it in one transaction, and answers everyone after the
//! commit. Its cost is the commit's, so the busier it is, the cheaper each event.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::SqliteConnection;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::batch::{self, GoesTo, KnownEvents, NewDelivery};
use super::catalog::TenantEndpoints;
use super::{Store, StoreError};
use crate::domain::delivery::{Delivery, Leased};
use crate::domain::endpoint::EndpointState;
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EndpointId, EventId, TenantId};
use crate::domain::lanes::{Remaining, Want};
use crate::domain::outcome::Outcome;

/// Commands waiting at most; whoever brings more waits for a place.
const QUEUE: usize = 1_024;
/// Commands in one transaction at most.
const BATCH: usize = 256;
/// Deliveries of one request at most; each row costs memory and time in a transaction that all others wait for.
pub const FAN_OUT_LIMIT: usize = 100_000;
/// New deliveries after which a transaction takes no further request.
const DELIVERIES: usize = 10_000;
/// Pause after a failed transaction; what must not be lost is then tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// One event as accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: EventId,
    /// How many endpoints will get it.
    pub deliveries: usize,
}

/// Why none of the events of a request was taken.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The tenant of the event at this index does not exist.
    #[error("no such tenant")]
    UnknownTenant(usize),
    /// The id of the event at this index is taken by an event that another request posted.
    #[error("the id is taken")]
    Conflict(usize),
    /// Together they would make more deliveries than [`FAN_OUT_LIMIT`].
    #[error("the events would make more than {FAN_OUT_LIMIT} deliveries; post fewer at once")]
    TooManyDeliveries,
    /// It is not known to be stored.
    #[error("the events could not be stored")]
    Unavailable,
}

/// An attempt that ended, and where it leaves its delivery.
#[derive(Debug)]
pub struct Finished {
    /// What was attempted.
    pub leased: Leased,
    /// Where the delivery stands now.
    pub next: Delivery,
    /// What is kept of the attempt.
    pub attempt: Attempt,
    /// The receiver wants no more; its endpoint is disabled.
    pub gone: bool,
}

/// One line of the history.
#[derive(Debug)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// One `name: value` a line.
    pub request_headers: String,
    /// Shown to the tenant; `None`: there was an answer.
    pub error: Option<String>,
}

/// A request's events, all or none.
struct Accept {
    events: Vec<Event>,
    /// The caller's bound on what waits: given back when this is done, not when the caller goes away.
    _room: OwnedSemaphorePermit,
    answer: Answer,
}

enum Command {
    Accept(Accept),
    AcceptTest { event: Event, endpoint: EndpointId, answer: oneshot::Sender<Option<Leased>> },
    Record { finished: Box<Finished>, done: Option<oneshot::Sender<()>> },
    Claim(Vec<Want>),
    Release(Vec<Leased>),
}

/// Brings commands to the writer.
#[derive(Clone)]
pub struct Writer(mpsc::Sender<Command>);

impl Writer {
    /// Stores events, all or none, with one delivery for each endpoint that wants them. When this returns `Ok` they
    /// are on disk.
    /// `room` is kept until then.
    pub async fn accept(&self, events: Vec<Event>, room: OwnedSemaphorePermit) -> Result<Vec<Accepted>, AcceptError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Accept(Accept { events, _room: room, answer })).await;
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
        self.send(Command::Record { finished: Box::new(finished), done: None }).await;
    }

    /// Records an attempt and waits until it is stored; `false`: that is not known.
    pub async fn record_now(&self, finished: Finished) -> bool {
        let (done, recorded) = oneshot::channel();
        self.send(Command::Record { finished: Box::new(finished), done: Some(done) }).await;
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

    async fn send(&self, command: Command) {
        // Fails only after the writer's end; the answer that never comes says so.
        let _ = self.0.send(command).await;
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
        (Writer(sender), Self { store, commands, lease: signed(lease), disable_after: signed(disable_after) })
    }

    /// Writes until `stop`, then what is still waiting.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut commands = Vec::with_capacity(BATCH);
        loop {
            if commands.is_empty() {
                let received = tokio::select! {
                    biased;
                    received = self.commands.recv_many(&mut commands, BATCH) => received,
                    () = stop.cancelled() => 0,
                };
                if received == 0 {
                    return;
                }
            } else {
                // What could not be written goes first; others may come along.
                let more = std::iter::from_fn(|| self.commands.try_recv().ok());
                commands.extend(more.take(BATCH));
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
        let mut batch = Batch::new(now, now.saturating_add(self.lease).unwrap_or(Timestamp::MAX));
        for command in commands.drain(..) {
            batch.add(command);
        }
        match self.commit(&mut batch).await {
            Ok(effects) => {
                commands.extend(batch.accepts.drain(..).map(Command::Accept));
                batch.answer(&self.store, effects);
                Ok(())
            }
            Err(error) => {
                *commands = batch.undo(&self.store);
                Err(error)
            }
        }
    }

    async fn commit(&self, batch: &mut Batch) -> Result<Effects, StoreError> {
        let mut tx = self.store.begin().await?;
        let mut effects = Effects::default();
        batch.add_tests(&mut tx).await?;
        batch.fan_out(&self.store, &mut tx).await?;
        batch::insert_events(&mut tx, &batch.events, batch.now).await?;
        batch::insert_deliveries(&mut tx, &batch.deliveries, batch.now).await?;
        if !batch.finished.is_empty() {
            let moved = batch::move_on(&mut tx, &batch.finished, batch.now).await?;
            let moved: Vec<&Finished> = moved.into_iter().map(|index| &batch.finished[index]).collect();
            batch::insert_attempts(&mut tx, &moved).await?;
            effects.disabled = self.judge_endpoints(&mut tx, &moved, batch.now).await?;
            effects.due = moved.iter().filter_map(|finished| next_attempt(finished)).collect();
        }
        batch::release(&mut tx, &batch.released).await?;
        for want in &batch.wants {
            effects.claimed.push(batch::claim(&mut tx, want, batch.now, batch.lease_until).await?);
        }
        tx.commit().await?;
        Ok(effects)
    }

    /// Keeps account of who fails since when, and disables who failed too long or is gone. Gives the new
    /// `endpoints_version` of each tenant concerned.
    async fn judge_endpoints(
        &self,
        connection: &mut SqliteConnection,
        finished: &[&Finished],
        now: Timestamp,
    ) -> Result<Vec<(TenantId, i64)>, StoreError> {
        let counted = || finished.iter().filter(|finished| !finished.leased.event_type.is_test());
        let succeeded = |finished: &&&Finished| finished.attempt.outcome.succeeded();
        let key = |finished: &&Finished| (finished.leased.tenant.to_string(), finished.leased.endpoint.to_string());
        let good: HashSet<(String, String)> = counted().filter(succeeded).map(key).collect();
        let bad: HashSet<(String, String)> = counted().map(key).filter(|endpoint| !good.contains(endpoint)).collect();
        let gone: HashSet<(String, String)> = counted().filter(|finished| finished.gone).map(key).collect();
        batch::clear_failing(connection, &good.into_iter().collect::<Vec<_>>()).await?;

        let too_long = now.saturating_sub(self.disable_after).unwrap_or(Timestamp::MIN).as_millisecond();
        let mut disabled = Vec::new();
        for (tenant, endpoint) in bad.union(&gone) {
            let is_gone = gone.contains(&(tenant.clone(), endpoint.clone()));
            let failing_since: Option<i64> = sqlx::query_scalar(
                "UPDATE endpoints SET failing_since = COALESCE(failing_since, $3)
                 WHERE tenant_id = $1 AND id = $2 AND state = 'active' RETURNING failing_since",
            )
            .bind(tenant)
            .bind(endpoint)
            .bind(now.as_millisecond())
            .fetch_optional(&mut *connection)
            .await?;
            let Some(failing_since) = failing_since else { continue };
            let reason = if is_gone {
                "the receiver answered 410 Gone".to_owned()
            } else if failing_since <= too_long {
                format!("every attempt failed for {}", days_and_hours(self.disable_after))
            } else {
                continue;
            };
            sqlx::query("UPDATE endpoints SET state = 'disabled', state_reason = $3 WHERE tenant_id = $1 AND id = $2")
                .bind(tenant)
                .bind(endpoint)
                .bind(reason)
                .execute(&mut *connection)
                .await?;
            let version: i64 = sqlx::query_scalar(
                "UPDATE tenants SET endpoints_version = endpoints_version + 1 WHERE id = $1 RETURNING endpoints_version",
            )
            .bind(tenant)
            .fetch_one(&mut *connection)
            .await?;
            disabled.push((super::parsed("endpoints", "tenant_id", endpoint, tenant)?, version));
        }
        Ok(disabled)
    }
}

/// What the commit brought that the rest of this host must learn.
#[derive(Default)]
struct Effects {
    claimed: Vec<(Vec<Leased>, Remaining)>,
    due: Vec<(TenantId, EndpointId, Timestamp)>,
    disabled: Vec<(TenantId, i64)>,
}

type Answer = oneshot::Sender<Result<Vec<Accepted>, AcceptError>>;

/// The commands of one transaction, sorted by what they need.
struct Batch {
    now: Timestamp,
    lease_until: Timestamp,
    /// In the order they came; what is left after [`Batch::fan_out`] is for the next transaction.
    accepts: VecDeque<Accept>,
    tests: Vec<(Event, EndpointId, oneshot::Sender<Option<Leased>>)>,
    /// To be given to those who sent a test event once the commit is through.
    tested: Vec<(oneshot::Sender<Option<Leased>>, Option<Leased>)>,
    finished: Vec<Finished>,
    done: Vec<oneshot::Sender<()>>,
    wants: Vec<Want>,
    released: Vec<Leased>,
    /// To be inserted, each with its number of deliveries.
    events: Vec<(Event, usize)>,
    deliveries: Vec<NewDelivery>,
    /// To be given once the commit is through.
    answers: Vec<(Answer, Result<Vec<Accepted>, AcceptError>)>,
}

impl Batch {
    fn new(now: Timestamp, lease_until: Timestamp) -> Self {
        Self {
            now,
            lease_until,
            accepts: VecDeque::new(),
            tests: Vec::new(),
            tested: Vec::new(),
            finished: Vec::new(),
            done: Vec::new(),
            wants: Vec::new(),
            released: Vec::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn add(&mut self, command: Command) {
        match command {
            Command::Accept(accept) => self.accepts.push_back(accept),
            Command::AcceptTest { event, endpoint, answer } => self.tests.push((event, endpoint, answer)),
            Command::Record { finished, done } => {
                self.finished.push(*finished);
                self.done.extend(done);
            }
            Command::Claim(wants) => self.wants.extend(wants),
            Command::Release(leased) => self.released.extend(leased),
        }
    }

    /// Turns test events into rows, as far as their endpoints still exist.
    async fn add_tests(&mut self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        for (event, endpoint, answer) in std::mem::take(&mut self.tests) {
            let exists: Option<i64> =
                sqlx::query_scalar("SELECT 1 FROM endpoints WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL")
                    .bind(event.tenant.as_str())
                    .bind(endpoint.to_string())
                    .fetch_optional(&mut *connection)
                    .await?;
            let leased = exists.map(|_| self.leased(&event, endpoint));
            if let Some(leased) = leased.clone() {
                self.deliveries.push(NewDelivery { leased, goes_to: GoesTo::Caller });
                self.events.push((event, 1));
            }
            self.tested.push((answer, leased));
        }
        Ok(())
    }

    /// Turns accepted events into rows: which are new, which endpoints want them.
    async fn fan_out(&mut self, store: &Store, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        if self.accepts.is_empty() {
            return Ok(());
        }
        let events = || self.accepts.iter().flat_map(|accept| &accept.events);
        let tenants: HashSet<&TenantId> = events().map(|event| &event.tenant).collect();
        let tenants: Vec<TenantId> = tenants.into_iter().cloned().collect();
        let endpoints = current_endpoints(store, connection, &tenants).await?;
        let named: Vec<(TenantId, EventId)> = events()
            .filter(|event| event.fingerprint.is_some())
            .map(|event| (event.tenant.clone(), event.id.clone()))
            .collect();
        let mut known = batch::existing_events(connection, &named).await?;
        while self.deliveries.len() < DELIVERIES
            && let Some(Accept { events, _room, answer }) = self.accepts.pop_front()
        {
            let result = self.accept(store, events, &endpoints, &mut known);
            self.answers.push((answer, result));
        }
        Ok(())
    }

    fn accept(
        &mut self,
        store: &Store,
        events: Vec<Event>,
        endpoints: &HashMap<TenantId, Option<Arc<TenantEndpoints>>>,
        known: &mut KnownEvents,
    ) -> Result<Vec<Accepted>, AcceptError> {
        // All or none: look at every event before the first is taken. Twins within the request are the request's own.
        let mut own: HashMap<(&TenantId, &EventId), Option<[u8; 32]>> = HashMap::new();
        let mut deliveries = 0;
        for (index, event) in events.iter().enumerate() {
            let endpoints = match endpoints.get(&event.tenant) {
                Some(Some(endpoints)) => &endpoints.endpoints,
                Some(None) => return Err(AcceptError::Unavailable),
                None => return Err(AcceptError::UnknownTenant(index)),
            };
            deliveries += endpoints.iter().filter(|endpoint| endpoint.wants(&event.event_type)).count();
            if deliveries > FAN_OUT_LIMIT {
                return Err(AcceptError::TooManyDeliveries);
            }
            let Some(fingerprint) = event.fingerprint else { continue };
            let stored = known.get(&(event.tenant.clone(), event.id.clone()));
            let twin = own.insert((&event.tenant, &event.id), event.fingerprint);
            let differs = stored.is_some_and(|(stored, _)| stored.as_deref() != Some(fingerprint.as_slice()));
            if differs || twin.is_some_and(|twin| twin != event.fingerprint) {
                return Err(AcceptError::Conflict(index));
            }
        }
        let mut accepted = Vec::with_capacity(events.len());
        let mut lanes = store.handover.lanes();
        for event in events {
            let key = event.fingerprint.map(|_| (event.tenant.clone(), event.id.clone()));
            if let Some((_, deliveries)) = key.as_ref().and_then(|key| known.get(key)) {
                accepted.push(Accepted { id: event.id, deliveries: *deliveries });
                continue;
            }
            let endpoints = endpoints.get(&event.tenant).and_then(Option::as_ref).expect("looked at above");
            let wanting = endpoints.endpoints.iter().filter(|endpoint| endpoint.wants(&event.event_type));
            let before = self.deliveries.len();
            for endpoint in wanting {
                let leased = self.leased(&event, endpoint.id);
                let goes_to = match endpoint.state {
                    EndpointState::Active if lanes.reserve(&event.tenant, endpoint.id) => GoesTo::Lane,
                    EndpointState::Active => GoesTo::Table,
                    EndpointState::Disabled { .. } | EndpointState::Pending { .. } => GoesTo::Held,
                };
                self.deliveries.push(NewDelivery { leased, goes_to });
            }
            let deliveries = self.deliveries.len() - before;
            if let Some(key) = key {
                known.insert(key, (event.fingerprint.map(|fingerprint| fingerprint.to_vec()), deliveries));
            }
            accepted.push(Accepted { id: event.id.clone(), deliveries });
            self.events.push((event, deliveries));
        }
        Ok(accepted)
    }

    fn leased(&self, event: &Event, endpoint: EndpointId) -> Leased {
        Leased {
            tenant: event.tenant.clone(),
            id: DeliveryId::new(self.now),
            endpoint,
            event: event.id.clone(),
            event_type: event.event_type.clone(),
            body: event.body.clone(),
            delivery: Delivery::new(self.now),
            claim: 1,
            lease_until: self.lease_until,
        }
    }

    /// After the commit: everyone learns what came of it.
    fn answer(self, store: &Store, effects: Effects) {
        for (tenant, version) in effects.disabled {
            store.catalog.require(&tenant, version);
        }
        {
            let mut lanes = store.handover.lanes();
            for NewDelivery { leased, goes_to } in self.deliveries {
                match goes_to {
                    GoesTo::Lane => lanes.hand_over(leased),
                    // After the commit: flagged before it, the claim could come too early and find nothing.
                    GoesTo::Table => lanes.flag_backlog(&leased.tenant, leased.endpoint),
                    GoesTo::Caller | GoesTo::Held => {}
                }
            }
            for (tenant, endpoint, at) in effects.due {
                lanes.schedule(&tenant, endpoint, at);
            }
            for leased in self.released {
                lanes.flag_backlog(&leased.tenant, leased.endpoint);
            }
            for (want, claimed) in self.wants.iter().zip(effects.claimed) {
                lanes.claimed(want, Some(claimed));
            }
        }
        store.handover.wake.notify_one();
        // Whoever no longer waits for its answer has gone; what it asked for is done all the same.
        for (answer, result) in self.answers {
            let _ = answer.send(result);
        }
        for (answer, leased) in self.tested {
            let _ = answer.send(leased);
        }
        for done in self.done {
            let _ = done.send(());
        }
    }

    /// After a failure: promises are taken back, events refused. Gives what must be tried again.
    fn undo(self, store: &Store) -> Vec<Command> {
        {
            let mut lanes = store.handover.lanes();
            for NewDelivery { leased, .. } in self.deliveries.iter().filter(|new| new.goes_to == GoesTo::Lane) {
                lanes.unreserve(&leased.tenant, leased.endpoint);
            }
            for want in &self.wants {
                lanes.claimed(want, None);
            }
        }
        store.handover.wake.notify_one();
        let refused = self.answers.into_iter().map(|(answer, _)| answer);
        for answer in refused.chain(self.accepts.into_iter().map(|accept| accept.answer)) {
            let _ = answer.send(Err(AcceptError::Unavailable));
        }
        let mut again: Vec<Command> = Vec::with_capacity(self.finished.len() + 1);
        let records =
            self.finished.into_iter().map(|finished| Command::Record { finished: Box::new(finished), done: None });
        again.extend(records);
        if !self.released.is_empty() {
            again.push(Command::Release(self.released));
        }
        again
    }
}

/// The endpoints of each of these tenants that exists, as this transaction sees them; `None` where they are unreadable, which
/// must not keep other tenants' events out.
async fn current_endpoints(
    store: &Store,
    connection: &mut SqliteConnection,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, Option<Arc<TenantEndpoints>>>, StoreError> {
    let mut current = HashMap::with_capacity(tenants.len());
    for (tenant, version) in batch::endpoints_versions(connection, tenants).await? {
        if let Some(cached) = store.catalog.endpoints(&tenant).filter(|cached| cached.version == version) {
            current.insert(tenant, Some(cached));
            continue;
        }
        match store.read_endpoints(connection, &tenant).await {
            Ok(Some(endpoints)) => drop(current.insert(tenant, Some(endpoints))),
            Ok(None) => {}
            Err(error @ StoreError::Unreadable { .. }) => {
                tracing::error!(tenant.id = %tenant, error = &error as &dyn std::error::Error, "events are refused");
                current.insert(tenant, None);
            }
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
        }
    }
    Ok(current)
}

fn next_attempt(finished: &Finished) -> Option<(TenantId, EndpointId, Timestamp)> {
    match finished.next {
        Delivery::Pending { next_attempt_at, .. } => {
            Some((finished.leased.tenant.clone(), finished.leased.endpoint, next_attempt_at))
        }
        Delivery::Succeeded { .. } | Delivery::Failed { .. } | Delivery::Dropped { .. } => None,
    }
}

fn days_and_hours(duration: SignedDuration) -> String {
    match duration.as_hours() {
        0 => format!("{} minutes", duration.as_mins()),
        hours if hours % 24 == 0 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}
