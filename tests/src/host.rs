use std::{net::SocketAddr, ops::Deref, path::Path, sync::Mutex, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use revnoxa_host::{
    app::{self, App},
    clock::{Clock, Hand},
    config::Config,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::OnceCell, task::block_in_place};

use crate::{
    api::{Api, Endpoint, Event},
    client::Server,
    database_url,
    machine::binary,
    receiver::Receiver,
};

/// When the manual clock of every test starts.
pub const START: &str = "2026-03-01T12:00:00Z";

const OPERATOR_TOKEN: &str = "rvx_operator_of_the_end_to_end_tests";

/// The host, running in this process on a clock that only the test moves. Dereferences to its [`Api`].
///
/// Dropping it stops it, and fails the test if one of its tasks died by itself.
/// It must live on a multi-threaded runtime for that.
pub struct Host {
    api: Api,
    app: Option<App>,
    clock: Clock,
    hand: Hand,
    now: Mutex<Timestamp>,
    config: Config,
    sentinel: OnceCell<Sentinel>,
    dir: TempDir,
}

/// A delivery that succeeds whenever it is asked for: the harness's way to see that a round of claims has passed.
struct Sentinel {
    receiver: Receiver,
    endpoint: Endpoint,
    event: Event,
}

/// The settings of a [`Host`] before it starts.
pub struct HostBuilder {
    config: Config,
    dir: TempDir,
}

impl HostBuilder {
    /// Changes settings.
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts it.
    pub async fn start(self) -> Host {
        let start: Timestamp = START.parse().unwrap();
        let (clock, hand) = Clock::manual(start);
        let app = app::start(self.config.clone(), clock.clone(), binary()).await.expect("the host starts");
        Host {
            api: Api::new(Server::new(app.address()), OPERATOR_TOKEN),
            app: Some(app),
            clock,
            hand,
            now: Mutex::new(start),
            config: self.config,
            sentinel: OnceCell::new(),
            dir: self.dir,
        }
    }
}

impl Host {
    /// A host with the defaults; http and loopback receivers are allowed, and there are no rate limits.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A host with other settings, in a directory of its own.
    pub fn builder() -> HostBuilder {
        let dir = TempDir::new().unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            database_url: database_url(dir.path()).parse().unwrap(),
            data_dir: dir.path().to_owned(),
            master_key: Some(BASE64_STANDARD.encode([7; 32]).parse().unwrap()),
            operator_token: Some(OPERATOR_TOKEN.parse().unwrap()),
            allow_insecure_endpoints: true,
            // Nothing comes back while the clock stands still.
            api_rate_limit: None,
            ..Config::default()
        };
        HostBuilder { config, dir }
    }

    /// Moves the host's clock, which wakes what has come due.
    pub async fn advance(&self, by: Duration) {
        *self.now.lock().unwrap() += by;
        self.hand.advance(by);
        tokio::task::yield_now().await;
    }

    /// Moves the host's clock to this moment, as a delivery's `next_attempt_at` gives it, plus `and` milliseconds.
    pub async fn advance_to(&self, moment: &serde_json::Value, and: i64) {
        let moment: Timestamp = moment.as_str().expect("a time").parse().unwrap();
        let ms = moment.as_millisecond() - self.now().as_millisecond() + and;
        let ms = u64::try_from(ms).expect("the clock moves forwards only");
        self.advance(Duration::from_millis(ms)).await;
    }

    /// What the host's clock shows.
    pub fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    /// The directory with the database and whatever else the host writes.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns when the host has claimed and delivered something after this call: whatever was due before has had its turn.
    pub async fn claim_round(&self) {
        let sentinel = self.sentinel.get_or_init(|| self.sentinel()).await;
        // The first round may have begun before this call; the second cannot.
        for _ in 0..2 {
            let before = sentinel.receiver.received().len();
            sentinel.endpoint.retry(&sentinel.event).await.expect(202);
            sentinel.receiver.wait_for(before + 1).await;
            sentinel.endpoint.delivery_in("succeeded", &sentinel.event).await;
        }
    }

    /// Stops it gracefully; fails the test when a task had died.
    pub async fn stop(mut self) {
        let app = self.app.take().expect("still running");
        app.stop().await.expect("every task ended when asked to");
    }

    /// Stops it and starts it again over the same directory and clock; clients follow.
    pub async fn restart(&mut self) {
        self.restart_after(Duration::ZERO).await;
    }

    /// The same, down for this long by its clock.
    pub async fn restart_after(&mut self, down: Duration) {
        let app = self.app.take().expect("still running");
        app.stop().await.expect("every task ended when asked to");
        self.advance(down).await;
        let app = app::start(self.config.clone(), self.clock.clone(), binary()).await;
        let app = app.expect("the host starts again");
        self.server.moved_to(app.address());
        self.app = Some(app);
    }

    async fn sentinel(&self) -> Sentinel {
        let receiver = Receiver::answering([200]).await;
        let endpoint = self.tenant("sentinel").await.endpoint(&receiver).await;
        let event = endpoint.tenant.event("incident.created", json!({})).await;
        endpoint.delivery_in("succeeded", &event).await;
        Sentinel { receiver, endpoint, event }
    }
}

impl Deref for Host {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(app) = self.app.take() else { return };
        if std::thread::panicking() {
            return;
        }
        block_in_place(|| Handle::current().block_on(app.stop())).expect("every task ended when asked to");
    }
}
