//! The engine: which WebAssembly it takes, how much of it at once, and the clock that interrupts it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// Between two ticks, which are a running guest's chances to be interrupted.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the ticker rests.
const IDLE_TICKS: u32 = 200;

/// Parts of one component at most; more is refused when it is uploaded. Python needs 38 core instances and JavaScript
/// 7,688 table elements.
pub(super) const CORE_INSTANCES: u32 = 64;
pub(super) const MEMORIES: u32 = 4;
pub(super) const TABLES: u32 = 8;
pub(super) const TABLE_ELEMENTS: usize = 20_000;
const INSTANCE_BYTES: usize = 1 << 20;

/// Bytes of an image of memory that may have any gaps.
const SPARSE_IMAGE: u64 = 64 << 10;

/// The guest's own stack: deeper recursion traps.
const WASM_STACK: usize = 512 << 10;
/// What a fiber has besides for the host's functions.
const HOST_STACK: usize = 512 << 10;
/// Memory of a slot that is kept for the next call, zeroed, instead of given back to the kernel: saves its page faults.
const KEEP_RESIDENT: usize = 4 << 20;
/// Slots whose memory is kept so; the others cost page faults again.
const WARM_SLOTS: u32 = 16;

/// An engine that only compiles. What it makes, [`running`] runs.
pub(super) fn compiling() -> wasmtime::Result<Engine> {
    let mut config = common();
    config.cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config)
}

/// An engine with room for `calls` at once, each with `memory` bytes.
pub(super) fn running(calls: usize, memory: usize) -> wasmtime::Result<Engine> {
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls * CORE_INSTANCES)
        .total_memories(calls * MEMORIES)
        .total_tables(calls * TABLES)
        .total_stacks(calls)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_memory_size(memory)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .max_unused_warm_slots(WARM_SLOTS)
        .table_keep_resident(TABLE_ELEMENTS * size_of::<usize>())
        .async_stack_keep_resident(WASM_STACK)
        // Tells which pages a call has written, so that only these are reset (Linux 6.7 and later).
        .pagemap_scan(Enabled::Auto);
    let mut config = common();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// What has to be the same where a component is compiled and where it runs.
fn common() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(WASM_STACK + HOST_STACK)
        .concurrency_support(false)
        .memory_init_cow(true)
        // Memory that is mostly gaps is filled at run time: an image of it would be the size of the gaps.
        .memory_guaranteed_dense_image_size(SPARSE_IMAGE)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        // The same input gives the same output: no float tells one machine from another.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_component_model(true)
        // Off, a small component composed of others panics wasmtime 48.
        .wasm_multi_memory(true)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false);
    config
}

/// Tells artifacts of this engine from those of another version or configuration.
pub(super) fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// A thread that advances the engine's epoch while calls run, and rests otherwise. It ends after the last call, because
/// nothing else ends a loop.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    resting: AtomicBool,
    stop: AtomicBool,
}

/// While it lives, the epoch advances.
pub(super) struct Running(Arc<Shared>);

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, seen) = (engine.weak(), shared.clone());
        let thread = thread::Builder::new().name("plugin-ticker".into()).spawn(move || {
            let mut idle = 0;
            while !seen.stop.load(SeqCst) || seen.running.load(SeqCst) > 0 {
                thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                idle = if seen.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
                if idle > IDLE_TICKS {
                    seen.resting.store(true, SeqCst);
                    // A call that began before it could see us rest is seen here.
                    while seen.running.load(SeqCst) == 0 && !seen.stop.load(SeqCst) {
                        thread::park();
                    }
                    seen.resting.store(false, SeqCst);
                    idle = 0;
                }
            }
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    pub(super) fn run(&self) -> Running {
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.resting.load(SeqCst) {
            self.thread.unpark();
        }
        Running(self.shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
    }
}
