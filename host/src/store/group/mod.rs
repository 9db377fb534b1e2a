//! The commands of one transaction of the writer: what they become in the database, and who learns of it.

mod fan_out;
mod parts;

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyConnection, Connection};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::batch::{self, Finished, GoesTo, KnownEvents, NewDelivery};
use super::claims::{self, Claimed};
use super::direct::{Claims, Direct};
use super::failing::Judged;
use super::leases::Lease;
use super::rows::Rows;
use super::{Store, StoreError, failing, plugin_runs};
use crate::domain::delivery::{Delivery, Leased};
use crate::domain::event::Event;
use crate::domain::id::{EndpointId, EventId, TenantId};
use crate::domain::lanes::Want;
use crate::telemetry::METRICS;
use fan_out::Endpoints;
pub use fan_out::FAN_OUT_LIMIT;
#[cfg(test)]
pub(super) use parts::ENDPOINTS as PART_ENDPOINTS;
use parts::Progress;

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

/// A request's events, all or none.
pub(super) struct Accept {
    pub(super) events: Vec<Event>,
    /// The caller's bound on what waits: given back when this is done, not when the caller goes away.
    pub(super) _room: OwnedSemaphorePermit,
    pub(super) answer: oneshot::Sender<Result<Vec<Accepted>, AcceptError>>,
    /// `None`: nothing of it is written yet.
    pub(super) progress: Option<Progress>,
}

/// What a transaction comes to for a request.
enum Taken {
    Answered(Result<Vec<Accepted>, AcceptError>),
    /// The rest is for later ones.
    Part(Progress),
}

pub(super) enum Command {
    Accept(Accept),
    AcceptTest {
        event: Event,
        endpoint: EndpointId,
        answer: oneshot::Sender<Option<Leased>>,
    },
    Record {
        finished: Box<Finished>,
        done: Option<oneshot::Sender<()>>,
        /// The bound on what plugins made and is not yet stored; `None`: they made nothing.
        room: Option<OwnedSemaphorePermit>,
    },
    Claim(Vec<Want>),
    Release(Vec<Leased>),
    Renew(Vec<Lease>),
    End(Vec<Lease>),
}

impl Command {
    /// Nobody waits for it, nor for what follows from it.
    pub(super) fn can_wait(&self) -> bool {
        match self {
            Self::Record { finished, done, .. } => done.is_none() && !matches!(finished.next, Delivery::Pending { .. }),
            Self::Accept(_)
            | Self::AcceptTest { .. }
            | Self::Claim(_)
            | Self::Release(_)
            | Self::Renew(_)
            | Self::End(_) => false,
        }
    }
}

/// What the commit brought that the rest of this host must learn.
#[derive(Default)]
pub(super) struct Effects {
    /// Indexes of those that were recorded.
    recorded: Vec<usize>,
    due: Vec<(TenantId, EndpointId, Timestamp)>,
    /// Indexes of those whose leases run on.
    renewed: Vec<usize>,
    judged: Judged,
}

/// The commands of one transaction, sorted by what they need.
pub(super) struct Group {
    now: Timestamp,
    lease_until: Timestamp,
    /// In the order they came; what is left after [`Group::fan_out`] is for the next transaction.
    accepts: VecDeque<Accept>,
    /// Those of this transaction, each with what comes of it once the commit is through.
    taken: Vec<(Accept, Taken)>,
    tests: Vec<Test>,
    /// What each of `tests` is to be told.
    tested: Vec<Option<Leased>>,
    finished: Vec<Finished>,
    /// Some of `finished` may not count, or some events be there already: which, is to be found out before they are written,
    /// which is seldom worth it.
    look_first: bool,
    done: Vec<oneshot::Sender<()>>,
    /// Of all of `finished` together.
    room: Option<OwnedSemaphorePermit>,
    wants: Vec<Want>,
    /// What each of `wants` brought.
    claimed: Vec<Claimed>,
    released: Vec<Leased>,
    renewed: Vec<Lease>,
    ended: Vec<Lease>,
    /// As in [`Rows`].
    events: Vec<(Place, Option<usize>)>,
    deliveries: Vec<NewDelivery>,
    /// Events that were written before and have all their deliveries now: how many.
    completed: Vec<(TenantId, EventId, usize)>,
}

struct Test {
    event: Event,
    endpoint: EndpointId,
    answer: oneshot::Sender<Option<Leased>>,
}

/// Where an event stands.
#[derive(Clone, Copy)]
enum Place {
    /// In this one of `taken`, at this place of it.
    Taken(usize, usize),
    /// In this one of `tests`.
    Test(usize),
}

impl Group {
    pub(super) fn new(commands: impl Iterator<Item = Command>, now: Timestamp, lease_until: Timestamp) -> Self {
        let mut group = Self {
            now,
            lease_until,
            accepts: VecDeque::new(),
            taken: Vec::new(),
            tests: Vec::new(),
            tested: Vec::new(),
            finished: Vec::new(),
            look_first: false,
            done: Vec::new(),
            room: None,
            wants: Vec::new(),
            claimed: Vec::new(),
            released: Vec::new(),
            renewed: Vec::new(),
            ended: Vec::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
            completed: Vec::new(),
        };
        commands.for_each(|command| group.add(command));
        group
    }

    fn add(&mut self, command: Command) {
        match command {
            Command::Accept(accept) => self.accepts.push_back(accept),
            Command::AcceptTest { event, endpoint, answer } => self.tests.push(Test { event, endpoint, answer }),
            Command::Record { finished, done, room } => {
                self.finished.push(*finished);
                self.done.extend(done);
                match (&mut self.room, room) {
                    (Some(all), Some(room)) => all.merge(room),
                    (None, room) => self.room = room,
                    (Some(_), None) => {}
                }
            }
            Command::Claim(wants) => self.wants.extend(wants),
            Command::Release(leased) => self.released.extend(leased),
            Command::Renew(leases) => self.renewed.extend(leases),
            Command::End(leases) => self.ended.extend(leases),
        }
    }

    /// Writes all in one transaction, or nothing. `None`: nothing, it needs to be tried once more.
    pub(super) async fn commit(
        &mut self,
        store: &Store,
        connection: &mut AnyConnection,
        disable_after: SignedDuration,
    ) -> Result<Option<Effects>, StoreError> {
        if !self.look_first
            && let Some((direct, endpoints)) = self.plain(store)
        {
            let mut known = KnownEvents::new();
            self.take_small(store, &endpoints, &mut known);
            self.take_large(store, &endpoints, &mut known);
            let (events, finished) = (self.new_events(), self.finished.iter().collect::<Vec<_>>());
            let rows = Rows { events: &events, deliveries: &self.deliveries, finished: &finished };
            let claims = Claims { wants: &self.wants, lease_until: self.lease_until };
            if let Some(claimed) = direct.commit(&rows, &self.completed, &claims, self.now) {
                let recorded = (0..finished.len()).collect();
                let due = due(&finished);
                self.claimed = claimed;
                return Ok(Some(Effects { recorded, due, ..Effects::default() }));
            }
            self.look_first = true;
            return Ok(None);
        }
        let mut tx = connection.begin_with(store.kind.begin_group()).await?;
        let mut effects = Effects::default();
        self.add_tests(&mut tx).await?;
        self.fan_out(store, &mut tx).await?;
        effects.recorded = match self.look_first {
            true => batch::still_held(&mut tx, &self.finished).await?,
            false => (0..self.finished.len()).collect(),
        };
        let moved: Vec<&Finished> = effects.recorded.iter().map(|index| &self.finished[*index]).collect();
        let events = self.new_events();
        let rows = Rows { events: &events, deliveries: &self.deliveries, finished: &moved };
        if !rows.write(&mut tx, self.now).await? && !self.look_first {
            self.look_first = true;
            return Ok(None);
        }
        parts::complete(&mut tx, &self.completed).await?;
        effects.due = due(&moved);
        batch::release(&mut tx, &self.released).await?;
        effects.renewed = batch::renew(&mut tx, &self.renewed, self.lease_until).await?;
        batch::renew(&mut tx, &self.ended, self.now).await?;
        for want in &self.wants {
            self.claimed.push(claims::claim(&mut tx, want, self.now, self.lease_until).await?);
        }
        // Last, because other writers may wait for what these lock.
        plugin_runs::record(&mut tx, &moved).await?;
        effects.judged = failing::judge(&store.notes, &mut tx, &moved, self.now, disable_after).await?;
        tx.commit().await?;
        Ok(Some(effects))
    }

    /// Most groups hold nothing but events for endpoints that are known, attempts at ones that go on as they were, and claims. On
    /// SQLite those need not look at the database before they write. Gives the endpoints of this one if it is such.
    fn plain<'s>(&self, store: &'s Store) -> Option<(&'s Direct, Endpoints)> {
        let sent = |finished: &Finished| finished.attempt.is_some() && !plugin_runs::to_record(finished);
        let direct = store.direct.as_ref()?;
        if !self.holds_common_only()
            || !self.finished.iter().all(sent)
            || !store.notes.need_no_more(self.finished.iter(), self.now)
        {
            return None;
        }
        let known = |tenant: &TenantId| Some((tenant.clone(), Some(store.catalog.newest(tenant)?)));
        Some((direct, self.tenants().into_iter().map(known).collect::<Option<_>>()?))
    }

    fn tenants(&self) -> HashSet<&TenantId> {
        self.accepts.iter().flat_map(|accept| &accept.events).map(|event| &event.tenant).collect()
    }

    /// To be inserted, each with its number of deliveries.
    fn new_events(&self) -> Vec<(&Event, Option<usize>)> {
        self.events.iter().map(|(place, deliveries)| (self.event(*place), *deliveries)).collect()
    }

    fn event(&self, place: Place) -> &Event {
        match place {
            Place::Taken(accept, event) => &self.taken[accept].0.events[event],
            Place::Test(test) => &self.tests[test].event,
        }
    }

    /// Turns test events into rows, as far as their endpoints still exist.
    async fn add_tests(&mut self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        for (index, Test { event, endpoint, .. }) in self.tests.iter().enumerate() {
            let exists: Option<i64> =
                sqlx::query_scalar("SELECT 1 FROM endpoints WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL")
                    .bind(event.tenant.as_str())
                    .bind(endpoint.to_string())
                    .fetch_optional(&mut *connection)
                    .await?;
            let leased = exists.map(|_| self.leased(event, *endpoint));
            if let Some(leased) = leased.clone() {
                self.deliveries.push(NewDelivery { leased, goes_to: GoesTo::Caller });
                self.events.push((Place::Test(index), Some(1)));
            }
            self.tested.push(leased);
        }
        Ok(())
    }

    /// Something besides events.
    fn holds_others(&self) -> bool {
        !(self.finished.is_empty() && self.wants.is_empty() && self.holds_common_only())
    }

    /// Nothing but events, attempts and claims.
    fn holds_common_only(&self) -> bool {
        self.tests.is_empty() && self.released.is_empty() && self.renewed.is_empty() && self.ended.is_empty()
    }

    /// After the commit: everyone learns what came of it. Gives what was too much for one transaction, and what this host
    /// leased but is stopping too soon to attempt.
    pub(super) fn answer(self, store: &Store, effects: Effects) -> Vec<Command> {
        self.count(&effects);
        for (tenant, version) in effects.judged.disabled {
            store.catalog.require(&tenant, version);
        }
        store.notes.add(effects.judged.noted, self.now);
        store.unwritten.count(effects.recorded.iter().map(|index| &self.finished[*index]));
        let left_behind = {
            let mut lanes = store.handover.lanes();
            for NewDelivery { leased, goes_to } in self.deliveries {
                match goes_to {
                    GoesTo::Lane => lanes.hand_over(leased),
                    // After the commit: flagged before it, the claim could come too early and find nothing.
                    GoesTo::Table => {
                        lanes.flag_backlog(&leased.tenant, leased.endpoint);
                        store.tell_others(&leased.tenant, leased.endpoint);
                    }
                    GoesTo::Caller | GoesTo::Held => {}
                }
            }
            for (tenant, endpoint, at) in effects.due {
                lanes.schedule(&tenant, endpoint, at);
            }
            for leased in self.released {
                lanes.flag_backlog(&leased.tenant, leased.endpoint);
                store.tell_others(&leased.tenant, leased.endpoint);
            }
            for (want, claimed) in self.wants.iter().zip(self.claimed) {
                lanes.claimed(want, Some(claimed));
            }
            lanes.left_behind()
        };
        for index in effects.renewed {
            self.renewed[index].renewed(self.lease_until);
        }
        store.handover.wake.notify_one();
        // Whoever no longer waits for its answer has gone; what it asked for is done all the same.
        let mut unfinished = Vec::new();
        for (accept, taken) in self.taken {
            match taken {
                Taken::Answered(result) => drop(accept.answer.send(result)),
                Taken::Part(progress) => unfinished.push(Accept { progress: Some(progress), ..accept }),
            }
        }
        for (test, leased) in self.tests.into_iter().zip(self.tested) {
            let _ = test.answer.send(leased);
        }
        for done in self.done {
            let _ = done.send(());
        }
        let left_behind = Some(left_behind).filter(|leased| !leased.is_empty()).map(Command::Release);
        unfinished.into_iter().chain(self.accepts).map(Command::Accept).chain(left_behind).collect()
    }

    /// For operators.
    fn count(&self, effects: &Effects) {
        METRICS.deliveries.increment(self.deliveries.len() as u64);
        METRICS.late_results.increment((self.finished.len() - effects.recorded.len()) as u64);
        METRICS.claims.increment(self.wants.len() as u64);
        METRICS.claimed_deliveries.increment(self.claimed.iter().map(|(leased, _)| leased.len() as u64).sum());
        for index in &effects.recorded {
            match self.finished[*index].next {
                Delivery::Pending { .. } => {}
                Delivery::Succeeded { .. } => METRICS.deliveries_succeeded.increment(1),
                Delivery::Failed { .. } => METRICS.deliveries_failed.increment(1),
                Delivery::Dropped { .. } => METRICS.deliveries_dropped.increment(1),
            }
        }
    }

    /// After another writer came in between: takes back what was promised, to be committed once more.
    pub(super) fn rewind(&mut self, store: &Store) {
        {
            let mut lanes = store.handover.lanes();
            for NewDelivery { leased, .. } in self.deliveries.drain(..).filter(|new| new.goes_to == GoesTo::Lane) {
                lanes.unreserve(&leased.tenant, leased.endpoint);
            }
        }
        self.events.clear();
        self.completed.clear();
        self.tested.clear();
        self.claimed.clear();
        for (accept, _) in self.taken.drain(..).rev() {
            self.accepts.push_front(accept);
        }
    }

    /// After a failure: promises are taken back, events refused, but those of which some is written. Gives what must be tried again.
    pub(super) fn undo(mut self, store: &Store) -> Vec<Command> {
        // Should the commit be through all the same, these leases are ours, and nobody works on them.
        let fresh = self.deliveries.iter().filter(|new| matches!(new.goes_to, GoesTo::Lane | GoesTo::Caller));
        self.released.extend(fresh.map(|new| new.leased.clone()));
        self.released.extend(std::mem::take(&mut self.claimed).into_iter().flat_map(|(leased, _)| leased));
        self.rewind(store);
        {
            let mut lanes = store.handover.lanes();
            for want in &self.wants {
                lanes.claimed(want, None);
            }
        }
        store.handover.wake.notify_one();
        let mut again: Vec<Command> = Vec::with_capacity(self.finished.len() + 1);
        for accept in self.accepts {
            if accept.progress.is_some() {
                again.push(Command::Accept(accept));
            } else {
                let _ = accept.answer.send(Err(AcceptError::Unavailable));
            }
        }
        let mut room = self.room;
        let records = self.finished.into_iter().map(|finished| Command::Record {
            finished: Box::new(finished),
            done: None,
            room: room.take(),
        });
        again.extend(records);
        if !self.released.is_empty() {
            again.push(Command::Release(self.released));
        }
        again
    }
}

/// When the next attempts are due.
fn due(finished: &[&Finished]) -> Vec<(TenantId, EndpointId, Timestamp)> {
    let next = |finished: &&Finished| match finished.next {
        Delivery::Pending { next_attempt_at, .. } => {
            Some((finished.leased.tenant.clone(), finished.leased.endpoint, next_attempt_at))
        }
        Delivery::Succeeded { .. } | Delivery::Failed { .. } | Delivery::Dropped { .. } => None,
    };
    finished.iter().filter_map(next).collect()
}
