//! The only user of wasmtime: compiles, checks and runs tenants' plugins.
//!
//! A plugin is a component of the world in `plugins/wit`. It is compiled once, in a child process with limits of its own; the
//! machine code is kept on disk under a MAC, and in memory as long as there is room. Each call gets a fresh instance from a pool, and within
//! the limits of [`PluginSettings`]: memory, wall time, output, log, calls at once. A call starts on the task that asked for
//! it; one that is not done within two ticks goes on on threads of its own, so that a loop stands in nobody's way.

mod artifacts;
mod budget;
mod call;
mod compile;
mod contract;
mod engine;
mod fits;
mod refused;
mod world;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Semaphore};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use artifacts::Artifacts;
use budget::Budgets;
pub use call::{Call, Report};
use compile::Compiler;
pub use compile::child as compile_child;
use contract::PluginPre;
use engine::Ticker;
pub use refused::Refused;
use world::World;

use crate::clock::Clock;
use crate::config::{MasterKeys, PluginSettings};
use crate::domain::id::TenantId;
use crate::domain::plugin::Version;

/// The plugins that come with the host, by name. Every tenant can attach them.
pub const BUILT_IN: [(&str, &[u8]); 3] = [
    ("only-matching", include_bytes!("../../built-in/only-matching.wasm")),
    ("redact-fields", include_bytes!("../../built-in/redact-fields.wasm")),
    ("slack-message", include_bytes!("../../built-in/slack-message.wasm")),
];

/// Bytes of machine code kept ready in memory; what was not used for longest makes room.
const READY: u64 = 1 << 30;
/// Components that this many are kept for, as an estimate.
const READY_ITEMS: usize = 1_000;
/// Tenants whose calls are counted; beyond it those longest without one are counted anew.
const TENANTS: usize = 10_000;
/// Components compiled at once on this host.
const COMPILING: usize = 2;
/// What tools that build an engine into a component write into it.
const ENGINE_MARKS: [&[u8]; 2] = [b"libcomponentize_py_runtime.so", b"ComponentizeJS"];

/// The sandbox of this host.
pub struct Plugins {
    settings: PluginSettings,
    engine: Engine,
    linker: Arc<Linker<World>>,
    ticker: Ticker,
    compiler: Compiler,
    /// `None`: nothing is kept between processes.
    artifacts: Option<Arc<Artifacts>>,
    compiling: Semaphore,
    ready: Cache<Version, Arc<Ready>, Weight>,
    calls: Arc<Semaphore>,
    tenants: Cache<TenantId, Arc<Turns>>,
    budgets: Budgets,
    /// Where calls go on that are not done at once.
    slow: Option<Runtime>,
}

/// A version that is ready to be called.
pub struct Ready {
    version: Version,
    pre: PluginPre<World>,
    code_bytes: u64,
}

/// What of one tenant may happen at once.
struct Turns {
    calls: Arc<Semaphore>,
    compile: Mutex<()>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Version, Arc<Ready>> for Weight {
    fn weight(&self, _: &Version, ready: &Arc<Ready>) -> u64 {
        ready.code_bytes.max(1)
    }
}

/// The sandbox cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// wasmtime says no: most often too little address space.
    #[error("cannot set up the sandbox of plugins: {0}")]
    Engine(String),
    /// The folder of compiled plugins, or a thread.
    #[error("cannot set up the sandbox of plugins")]
    Io(#[from] std::io::Error),
}

impl Plugins {
    /// The sandbox with these limits. `compiler` is the program whose `plugin compile` compiles; `kept` the folder where machine code is
    /// kept, and the keys that authenticate it.
    pub fn new(
        settings: PluginSettings,
        compiler: &Path,
        kept: Option<(&Path, &MasterKeys)>,
        clock: Clock,
    ) -> Result<Self, SetUpError> {
        let failed = |error: wasmtime::Error| SetUpError::Engine(format!("{error:#}"));
        let engine = engine::running(settings.calls, settings.memory).map_err(failed)?;
        let compatibility = engine::compatibility(&engine);
        let open = |(folder, keys): (&Path, &MasterKeys)| Artifacts::open(folder.to_owned(), keys, compatibility);
        let artifacts = kept.map(open).transpose()?.map(Arc::new);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let slow = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("plugin")
            .enable_time()
            .build()?;
        Ok(Self {
            linker: Arc::new(world::linker(&engine).map_err(failed)?),
            ticker: Ticker::start(&engine)?,
            compiler: Compiler::new(compiler, &settings),
            artifacts,
            compiling: Semaphore::new(COMPILING),
            ready: cache(),
            calls: Arc::new(Semaphore::new(settings.calls)),
            tenants: Cache::new(TENANTS),
            budgets: Budgets::new(settings.cpu_per_minute, clock),
            slow: Some(slow),
            engine,
            settings,
        })
    }

    /// The limits.
    #[must_use]
    pub fn settings(&self) -> &PluginSettings {
        &self.settings
    }

    /// Whether these bytes may be uploaded as a plugin, as far as can be told without compiling them.
    pub fn admit(&self, component: &[u8]) -> Result<(), Refused> {
        match component {
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => {}
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
                return Err(Refused::NotAComponent("it is a core module; wrap it with `wasm-tools component new`"));
            }
            [0x7f, b'E', b'L', b'F', ..] => return Err(Refused::NotAComponent("it is compiled already")),
            [0, b'a', b's', b'm', ..] => return Err(Refused::NotAComponent("of a version that is not known")),
            _ => return Err(Refused::NotAComponent("it does not begin as one does")),
        }
        let carries_engine = || ENGINE_MARKS.iter().any(|mark| component.windows(mark.len()).any(|at| at == *mark));
        let (limit, setting) = match component.len() > self.settings.upload && carries_engine() {
            true => (self.settings.upload_with_engine, "`plugins.upload_with_engine`"),
            false => (self.settings.upload, "`plugins.upload`"),
        };
        if component.len() > limit { Err(Refused::TooLarge { limit, setting }) } else { Ok(()) }
    }

    /// Compiles and checks a component, so that it is ready to be called. One at a time for each tenant.
    pub async fn check(&self, tenant: &TenantId, component: &[u8]) -> Result<Arc<Ready>, Refused> {
        self.admit(component)?;
        self.ready(tenant, Version::of(component), async || Ok(component.to_vec().into())).await
    }

    /// Makes a version ready: from memory, else from disk, else by compiling what `component` gives.
    pub async fn ready<E: From<Refused>>(
        &self,
        tenant: &TenantId,
        version: Version,
        component: impl AsyncFnOnce() -> Result<Bytes, E>,
    ) -> Result<Arc<Ready>, E> {
        // Whoever asks for the same version meanwhile waits here for the one who makes it.
        let make = async {
            if let Some(artifact) = self.kept(version).await {
                match self.load(version, artifact).await {
                    Ok(ready) => return Ok(ready),
                    Err(error) => tracing::warn!(plugin.version = %version, %error, "a kept plugin does not load"),
                }
            }
            let component = component().await?;
            let turns = self.turns(tenant);
            let _own = turns.compile.lock().await;
            let _one = self.compiling.acquire().await.expect("never closed");
            let artifact = Bytes::from(self.compiler.compile(&component).await?);
            drop(component);
            let ready = self.load(version, artifact.clone()).await?;
            self.keep(version, artifact).await;
            Ok(ready)
        };
        self.ready.get_or_insert_async(&version, make).await
    }

    async fn kept(&self, version: Version) -> Option<Bytes> {
        let artifacts = self.artifacts.clone()?;
        blocking(move || artifacts.load(version)).await.map(Bytes::from)
    }

    async fn keep(&self, version: Version, artifact: Bytes) {
        let Some(artifacts) = self.artifacts.clone() else { return };
        if let Err(error) = blocking(move || artifacts.store(version, &artifact)).await {
            // It runs all the same, and is compiled again after a restart.
            tracing::error!(%error, "cannot keep a compiled plugin");
        }
    }

    async fn load(&self, version: Version, artifact: Bytes) -> Result<Arc<Ready>, Refused> {
        let (engine, linker) = (self.engine.clone(), self.linker.clone());
        blocking(move || {
            let limits = |error: wasmtime::Error| Refused::Limits(format!("{error:#}"));
            let component = deserialize(&engine, &artifact).map_err(limits)?;
            fits::check(&engine, &component)?;
            let pre = linker.instantiate_pre(&component).map_err(|error| fits::not_linked(&error))?;
            let pre = PluginPre::new(pre).map_err(|error| Refused::Contract(format!("{error:#}")))?;
            Ok(Arc::new(Ready { version, pre, code_bytes: artifact.len() as u64 }))
        })
        .await
    }

    fn turns(&self, tenant: &TenantId) -> Arc<Turns> {
        let calls = self.settings.calls_per_tenant;
        let make = || Ok(Arc::new(Turns { calls: Arc::new(Semaphore::new(calls)), compile: Mutex::new(()) }));
        self.tenants.get_or_insert_with(tenant, make).unwrap_or_else(|never: std::convert::Infallible| match never {})
    }
}

impl Drop for Plugins {
    fn drop(&mut self) {
        if let Some(slow) = self.slow.take() {
            // Its calls end by their own time limit; waiting for them is not possible here.
            slow.shutdown_background();
        }
    }
}

impl Ready {
    /// Which version it is.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

/// In one piece: divided into several, none of them would have room for the machine code of a large component.
fn cache() -> Cache<Version, Arc<Ready>, Weight> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(READY_ITEMS)
        .weight_capacity(READY)
        .shards(1)
        .build()
        .expect("all that is needed is given");
    Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// Work that takes milliseconds of CPU or waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process is ending.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

#[expect(unsafe_code, reason = "machine code is loaded: it comes from our own compiler or carries our MAC")]
fn deserialize(engine: &Engine, artifact: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `artifact` is what `Component::serialize` gave in a child process of ours, come through a pipe or through a file
    // whose MAC under a key of ours was verified over these very bytes.
    unsafe { Component::deserialize(engine, artifact) }
}
