//! What a call of a plugin finds around it: an empty WASI, clocks that stand still, seeded randomness, and a log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{Engine, ResourceLimiter};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::clocks::HostWallClock;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::contract::{Plugin, log};
use super::engine;
use crate::domain::id::EventId;
use crate::domain::plugin::{LogLine, Version};

/// Host resources (streams, pollables) of one call.
const RESOURCES: usize = 1_000;
/// Bytes of randomness for one request; a greedier guest traps.
const RANDOM_BYTES: u64 = 64 << 10;
/// Bytes of the log that a message takes besides its text: many short ones cost more than their letters.
const LINE: usize = 16;
/// What a guest may write to stdout or stderr at once.
const WRITE: usize = 4 << 10;

/// The host's side of one call.
pub(super) struct World {
    account: Arc<Mutex<Account>>,
    resources: ResourceTable,
    /// Made when the guest first asks for any of it.
    wasi: Option<WasiCtx>,
    seed: [u8; 32],
    now: Duration,
}

/// What a call used and wrote so far; outlives a call that is cut off.
pub(super) struct Account {
    memory: usize,
    memory_limit: usize,
    /// Linear memory at the most, in bytes.
    pub(super) memory_peak: usize,
    /// Whether it asked for more memory than it may have.
    pub(super) memory_refused: bool,
    log: Vec<LogLine>,
    log_room: usize,
    log_truncated: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Account {
    pub(super) fn new(memory_limit: usize, log_limit: usize) -> Self {
        Self {
            memory: 0,
            memory_limit,
            memory_peak: 0,
            memory_refused: false,
            log: Vec::new(),
            log_room: log_limit,
            log_truncated: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// The log, and whether some of it was cut off.
    pub(super) fn take_log(&mut self) -> (Vec<LogLine>, bool) {
        for (level, rest) in [("info", std::mem::take(&mut self.stdout)), ("warn", std::mem::take(&mut self.stderr))] {
            if !rest.is_empty() {
                self.add(level, &String::from_utf8_lossy(&rest));
            }
        }
        (std::mem::take(&mut self.log), self.log_truncated)
    }

    fn add(&mut self, level: &'static str, message: &str) {
        let Some(room) = self.log_room.checked_sub(LINE).filter(|_| !self.log_truncated) else {
            self.log_truncated = true;
            return;
        };
        let message = text(message, room);
        self.log_truncated = message.cut;
        self.log_room = room - message.kept.len();
        self.log.push(LogLine { level: level.to_owned(), message: message.kept });
    }

    /// Takes what was printed; whole lines become messages.
    fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let (level, mut rest) = match stream {
            Stream::Stdout => ("info", std::mem::take(&mut self.stdout)),
            Stream::Stderr => ("warn", std::mem::take(&mut self.stderr)),
        };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // One more than there is room for: enough to tell that something was cut off.
            let room = (self.log_room + 1).saturating_sub(rest.len());
            rest.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut rest);
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                self.add(level, &String::from_utf8_lossy(line));
            }
        }
        match stream {
            Stream::Stdout => self.stdout = rest,
            Stream::Stderr => self.stderr = rest,
        }
    }
}

/// Text from a plugin as we keep it: at most so many bytes, and without NUL, which PostgreSQL does not take.
pub(super) struct Text {
    pub(super) kept: String,
    cut: bool,
}

pub(super) fn text(text: &str, limit: usize) -> Text {
    let kept = text.floor_char_boundary(limit);
    Text { kept: text[..kept].replace('\0', " "), cut: kept < text.len() }
}

impl World {
    pub(super) fn new(account: Arc<Mutex<Account>>, event: &EventId, version: Version, timestamp: Timestamp) -> Self {
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(RESOURCES);
        let seed = Sha256::new().chain_update(version.as_bytes()).chain_update(event.as_str()).finalize().into();
        // Clocks count from 1970; an earlier event finds them at their beginning.
        let now = Duration::from_millis(u64::try_from(timestamp.as_millisecond()).unwrap_or(0));
        Self { account, resources, wasi: None, seed, now }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn empty_wasi(account: &Arc<Mutex<Account>>, seed: [u8; 32], now: Duration) -> WasiCtx {
    // Stable by its specification, unlike a library's standard generator.
    let mut secure = ChaCha20Rng::from_seed(seed);
    let insecure = ChaCha20Rng::seed_from_u64(secure.next_u64());
    let insecure_seed = u128::from(secure.next_u64()) << 64 | u128::from(secure.next_u64());
    let print = |stream| Printer { account: account.clone(), stream };
    let mut builder = WasiCtx::builder();
    builder
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(print(Stream::Stdout))
        .stderr(print(Stream::Stderr))
        .wall_clock(StandingClock(now))
        .secure_random(secure)
        .insecure_random(insecure)
        .insecure_random_seed(insecure_seed)
        .max_random_size(RANDOM_BYTES);
    builder.build()
}

/// Everything a plugin may import.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<World>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<World, HasMonotonic>(&mut linker, |world| Monotonic {
        now: world.now,
        resources: &mut world.resources,
    })?;
    linker.allow_shadowing(false);
    Plugin::add_to_linker::<World, HasWorld>(&mut linker, |world| world)?;
    Ok(linker)
}

struct HasWorld;

impl HasData for HasWorld {
    type Data<'a> = &'a mut World;
}

impl log::Host for World {
    fn log(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        self.account().add(level, &message);
    }
}

impl WasiView for World {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| empty_wasi(&self.account, self.seed, self.now));
        WasiCtxView { ctx, table: &mut self.resources }
    }
}

impl ResourceLimiter for World {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let mut account = self.account();
        let memory = account.memory + (desired - current);
        if memory > account.memory_limit {
            account.memory_refused = true;
            return Ok(false);
        }
        account.memory = memory;
        account.memory_peak = account.memory_peak.max(memory);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= engine::TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        engine::CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        engine::TABLES as usize
    }

    fn memories(&self) -> usize {
        engine::MEMORIES as usize
    }
}

/// Shows the event's timestamp, whenever it is asked.
struct StandingClock(Duration);

impl HostWallClock for StandingClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// The same for the clock that WASI calls monotonic. wasmtime's own would wait by the real one, which a guest could tell
/// time by.
struct Monotonic<'a> {
    now: Duration,
    resources: &'a mut ResourceTable,
}

struct HasMonotonic;

impl HasData for HasMonotonic {
    type Data<'a> = Monotonic<'a>;
}

impl monotonic_clock::Host for Monotonic<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let passed = when <= self.now()?;
        let deadline = self.resources.push(Deadline { passed })?;
        subscribe(self.resources, deadline)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let deadline = self.resources.push(Deadline { passed: duration == 0 })?;
        subscribe(self.resources, deadline)
    }
}

/// A moment on a clock that stands still: it has passed, or it never comes.
struct Deadline {
    passed: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        if !self.passed {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// Standard output or error: its lines go to the log. What is too much is taken and thrown away, because a guest whose
/// `println!` fails panics.
#[derive(Clone)]
struct Printer {
    account: Arc<Mutex<Account>>,
    stream: Stream,
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Used by other versions of WASI only.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}
