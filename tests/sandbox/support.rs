//! The sandbox under test, and short forms of what every test does.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use revnoxa_host::clock::{Clock, Hand};
use revnoxa_host::config::PluginSettings;
use revnoxa_host::domain::plugin::{FailureKind, Verdict};
use revnoxa_host::plugins::{Call, Plugins, Ready, Refused, Report};
use revnoxa_tests::START;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinHandle;

use crate::guest::Guest;

pub(crate) const MIB: usize = 1 << 20;
/// The body that a call gets when a test does not say.
pub(crate) const BODY: &[u8] = br#"{"id":"evt_1","type":"incident.created","data":{"secret":"hush","n":1e400}}"#;

/// Tests that measure this process's memory have it for themselves.
static PROCESS: RwLock<()> = RwLock::const_new(());

/// The host's sandbox on a clock of its own.
pub(crate) struct Sandbox {
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) clock: Hand,
    _process: Share,
}

enum Share {
    Some(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    All(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

impl Sandbox {
    /// With the default settings.
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// With these settings changed.
    pub(crate) async fn with(change: impl FnOnce(&mut PluginSettings)) -> Self {
        Self::start(change, Share::Some(PROCESS.read().await))
    }

    /// With these settings changed, while no other test runs.
    pub(crate) async fn alone(change: impl FnOnce(&mut PluginSettings)) -> Self {
        Self::start(change, Share::All(PROCESS.write().await))
    }

    fn start(change: impl FnOnce(&mut PluginSettings), process: Share) -> Self {
        let mut settings = PluginSettings::default();
        change(&mut settings);
        let (plugins, clock) = sandbox(settings);
        Self { plugins: plugins.into(), clock, _process: process }
    }

    /// Another with the same settings.
    pub(crate) fn twin(&self) -> Plugins {
        sandbox(self.plugins.settings().clone()).0
    }

    /// What becomes of an upload.
    pub(crate) async fn load(&self, component: &[u8]) -> Result<Arc<Ready>, Refused> {
        self.check(&"uploader".parse().unwrap(), component).await
    }

    /// Why an upload is refused.
    pub(crate) async fn refused(&self, component: &[u8]) -> Refused {
        self.load(component).await.err().expect("refused")
    }

    /// A plugin that compiles.
    pub(crate) async fn ready(&self, guest: &Guest) -> Arc<Ready> {
        self.load(&guest.component()).await.unwrap()
    }

    /// Plugins that compile, several at once.
    pub(crate) async fn all_ready(&self, guests: impl IntoIterator<Item = &Guest>) -> Vec<Arc<Ready>> {
        let compile = |(number, guest): (usize, &Guest)| {
            let (plugins, component) = (self.plugins.clone(), guest.component());
            tokio::spawn(
                async move { plugins.check(&format!("t{number}").parse().unwrap(), &component).await.unwrap() },
            )
        };
        gather(guests.into_iter().enumerate().map(compile).collect()).await
    }

    /// Calls a plugin once.
    pub(crate) async fn run(&self, guest: &Guest) -> Report {
        let ready = self.ready(guest).await;
        self.call(&ready, call("acme")).await
    }

    /// Calls a plugin so often, all at once.
    pub(crate) async fn calls(&self, ready: &Arc<Ready>, count: usize, call: Call) -> Vec<Report> {
        let one = |_| {
            let (plugins, ready, call) = (self.plugins.clone(), ready.clone(), call.clone());
            tokio::spawn(async move { plugins.call(&ready, call).await })
        };
        gather((0..count).map(one).collect()).await
    }
}

pub(crate) async fn gather<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}

impl Deref for Sandbox {
    type Target = Plugins;

    fn deref(&self) -> &Plugins {
        &self.plugins
    }
}

fn sandbox(settings: PluginSettings) -> (Plugins, Hand) {
    let (clock, hand) = Clock::manual(START.parse().unwrap());
    (Plugins::new(settings, revnoxa_tests::binary(), None, clock).unwrap(), hand)
}

/// A call for this tenant.
pub(crate) fn call(tenant: &str) -> Call {
    Call {
        event: "evt_1".parse().unwrap(),
        event_type: "incident.created".parse().unwrap(),
        tenant: tenant.parse().unwrap(),
        timestamp: START.parse().unwrap(),
        body: Bytes::from_static(BODY),
        headers: Default::default(),
        settings: "{}".into(),
    }
}

/// Begins something that is not done at once, and gives it up.
pub(crate) async fn begin<T: Debug>(something: impl Future<Output = T>) {
    tokio::select! {
        biased;
        done = something => panic!("{done:?}"),
        () = std::future::ready(()) => {}
    }
}

/// The body that was delivered, if one was.
pub(crate) fn delivered(report: &Report) -> Option<&[u8]> {
    match &report.result {
        Ok(Verdict::Deliver(changed)) => Some(&changed.body),
        _ => None,
    }
}

/// The body that was delivered.
#[track_caller]
pub(crate) fn body(report: &Report) -> &[u8] {
    delivered(report).unwrap_or_else(|| panic!("not delivered: {report:?}"))
}

/// Why a call failed.
#[track_caller]
pub(crate) fn failure(report: &Report) -> (FailureKind, &str) {
    let failure = report.result.as_ref().expect_err("a failure");
    (failure.kind, &failure.message)
}

/// Bytes of this process in memory.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1_024
}

/// Threads of this process with this name.
pub(crate) fn threads(name: &str) -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    // One that ended meanwhile has no name any more.
    let names = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|found| found.trim_end() == name).count()
}

/// Open files of this process.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Running processes that this one has started: the CPU time each has used, in ticks of 10 ms.
pub(crate) fn children() -> Vec<u64> {
    let this = std::process::id().to_string();
    let ticks = |stat: String| {
        // The name is between brackets, then come state, parent, and after nine more fields the time.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[0] != "Z" && fields[1] == this).then(|| fields[11].parse().unwrap())
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("stat"));
    processes.filter_map(|stat| ticks(std::fs::read_to_string(stat).ok()?)).collect()
}
