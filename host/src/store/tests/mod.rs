//! The store with its writer over a file of its own, on a clock that stands still.

mod attachments;
mod backlog;
mod direct;
mod events;
mod failing;
mod hours;
mod leases;
mod migrations;
mod parts;
mod plugins;
mod rekey;
mod runs;
mod sealed;
mod sessions;
mod simulation;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Handover, NewEndpoint, OpenError, PageRequest, Store, Writer, WriterTask};
use crate::clock::{Clock, Hand};
use crate::config::{MasterKey, MasterKeys};
use crate::domain::address::{AddressPolicy, EndpointUrl};
use crate::domain::delivery::Leased;
use crate::domain::endpoint::Endpoint;
use crate::domain::event::{Event, EventType, request_body};
use crate::domain::header::CustomHeaders;
use crate::domain::id::{EventId, TenantId};
use crate::domain::lanes::{Health, Limits};
use crate::domain::plugin::{Attachment, OnError, PluginName, Version};

const NOW: &str = "2026-03-01T12:00:00Z";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    fn below(place: &Path) -> Self {
        let folder = place.join(format!("revnoxa-store-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn url(&self) -> String {
        format!("sqlite://{}/revnoxa.db", self.0.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn keys(current: u8, previous: &[u8]) -> MasterKeys {
    let key = |byte: u8| MasterKey::from_bytes([byte; 32]);
    MasterKeys { current: key(current), previous: previous.iter().copied().map(key).collect() }
}

async fn open(folder: &Folder, clock: &Clock) -> Arc<Store> {
    try_open(folder, clock, &keys(1, &[])).await.unwrap()
}

async fn try_open(folder: &Folder, clock: &Clock, keys: &MasterKeys) -> Result<Arc<Store>, OpenError> {
    let handover = Arc::new(Handover::new(Limits { in_flight: 16, per_endpoint: 8 }));
    Ok(Arc::new(Store::open(&folder.url(), keys, clock.clone(), handover).await?))
}

struct World {
    store: Arc<Store>,
    writer: Writer,
    clock: Clock,
    hand: Hand,
    acme: TenantId,
    _stop: DropGuard,
    folder: Folder,
}

impl World {
    async fn new() -> Self {
        let folder = Folder::new();
        let (clock, hand) = Clock::manual(NOW.parse().unwrap());
        let store = open(&folder, &clock).await;
        let (writer, tasks) = WriterTask::new(store.clone(), Duration::from_mins(1), Duration::from_hours(120));
        let stop = CancellationToken::new();
        for task in tasks {
            tokio::spawn(task.run(stop.clone()));
        }
        let acme = "acme".parse().unwrap();
        store.create_tenant(&acme, "").await.unwrap().unwrap();
        Self { store, writer, clock, hand, acme, _stop: stop.drop_guard(), folder }
    }

    async fn plugin(&self, name: &str) -> PluginName {
        let name = name.parse().unwrap();
        self.store.create_plugin(&self.acme, &name).await.unwrap();
        name
    }

    async fn version(&self, name: &PluginName, component: &'static [u8]) -> Version {
        let added = self.store.add_version(&self.acme, name, Bytes::from_static(component)).await;
        added.unwrap().0.version
    }

    /// An active endpoint.
    async fn endpoint(&self) -> Arc<Endpoint> {
        let new = NewEndpoint {
            url: EndpointUrl::parse("https://example.com/", AddressPolicy::PublicOnly).unwrap(),
            description: String::new(),
            event_types: None,
            headers: CustomHeaders::default(),
        };
        let (endpoint, _) = self.store.create_endpoint(&self.acme, new).await.unwrap().unwrap();
        self.store.record_test(&endpoint, None).await.unwrap();
        self.store.endpoint(&self.acme, endpoint.id).await.unwrap().unwrap()
    }

    async fn event(&self, data: &str) -> EventId {
        let now = self.clock.now();
        let (id, event_type): (_, EventType) = (EventId::new(now), "incident.created".parse().unwrap());
        let body = request_body(&id, &event_type, now, data);
        let event =
            Event { tenant: self.acme.clone(), id: id.clone(), event_type, body, fingerprint: None, trace: None };
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        self.writer.accept(vec![event], room).await.unwrap();
        id
    }

    async fn rows_of(&self, table: &str) -> i64 {
        let count = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        sqlx::query_scalar(count).fetch_one(&self.store.read).await.unwrap()
    }

    /// The next delivery that is due, leased.
    async fn leased(&self) -> Leased {
        let next = async {
            loop {
                let (started, wants) = {
                    let mut lanes = self.store.handover.lanes();
                    lanes.flag_due(self.clock.now());
                    let started = lanes.start();
                    if let Some(started) = &started {
                        lanes.finished(started, Health::Prompt);
                    }
                    (started, lanes.wants())
                };
                if !wants.is_empty() {
                    self.writer.claim(wants).await;
                }
                match started {
                    Some(started) => return started.leased,
                    None => self.store.handover.wake.notified().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), next).await.expect("a delivery is due")
    }
}

fn attachment(plugin: &PluginName, version: Version, settings: &str) -> Attachment {
    Attachment { plugin: plugin.clone(), version, rollout: None, settings: settings.into(), on_error: OnError::Retry }
}

fn numbered_event(number: usize) -> Event {
    Event {
        tenant: "acme".parse().unwrap(),
        id: format!("event-{number}").parse().unwrap(),
        event_type: "incident.created".parse().unwrap(),
        body: Bytes::from(format!("{{\"number\":{number}}}")),
        fingerprint: None,
        trace: None,
    }
}

fn room() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

fn all<K>() -> PageRequest<K> {
    PageRequest { limit: 100, cursor: None }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
