//! One call of a plugin: a fresh instance, the limits, and what became of it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;
use wasmtime::{CallHook, CallHookHandler, Store, StoreContextMut, Trap, UpdateDeadline};

use super::contract::handler::{Event, HeaderParam, Verdict as Given};
use super::engine::TICK;
use super::world::{Account, World, text};
use super::{Plugins, Ready};
use crate::domain::event::EventType;
use crate::domain::header::PluginHeaders;
use crate::domain::id::{EventId, TenantId};
use crate::domain::plugin::{Changed, Failure, FailureKind, LogLine, Verdict};

/// Handles to resources that a guest may hold.
const HANDLES: usize = 1_000;
/// Bytes of a reason or an error text that are kept.
const TEXT: usize = 1_024;

/// What a plugin is asked.
#[derive(Clone)]
pub struct Call {
    /// The event's id.
    pub event: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// Whose event it is.
    pub tenant: TenantId,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The request body so far.
    pub body: Bytes,
    /// Headers that plugins have added so far.
    pub headers: PluginHeaders,
    /// The attachment's settings, JSON text.
    pub settings: Arc<str>,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The verdict, or why there is none.
    pub result: Result<Verdict, Failure>,
    /// Wall time, making the instance included.
    pub duration: Duration,
    /// CPU time.
    pub cpu: Duration,
    /// Linear memory at the most.
    pub memory_bytes: u64,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// Whether it logged more than is kept.
    pub log_truncated: bool,
}

/// Looks at the time whenever a guest calls the host.
struct Hook {
    deadline: Instant,
    /// When others last had their turn on this thread.
    since: Mutex<Instant>,
}

#[wasmtime_wasi::async_trait]
impl CallHookHandler<World> for Hook {
    async fn handle_call_event(&self, _: StoreContextMut<'_, World>, event: CallHook) -> wasmtime::Result<()> {
        if !matches!(event, CallHook::CallingHost) {
            return Ok(());
        }
        let now = Instant::now();
        if now >= self.deadline {
            return Err(TimeIsUp.into());
        }
        let yields = {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            let yields = now.duration_since(*since) > 2 * TICK;
            if yields {
                *since = now;
            }
            yields
        };
        if yields {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// The call's time is up.
#[derive(Debug, thiserror::Error)]
#[error("time is up")]
struct TimeIsUp;

impl Plugins {
    /// Calls a plugin, when it is the tenant's turn.
    pub async fn call(&self, ready: &Arc<Ready>, call: Call) -> Report {
        let tenant = call.tenant.clone();
        if !self.budgets.allows(&tenant) {
            let message = format!(
                "the plugins of this tenant have used {:?} of CPU time in a minute",
                self.settings.cpu_per_minute
            );
            return Report::none(Failure::new(FailureKind::OverBudget, message));
        }
        // Waiting is not the plugin's time.
        let turn = (turn(&self.turns(&tenant).calls).await, turn(&self.calls).await);
        let started = Instant::now();
        let deadline = started + self.settings.timeout;
        let account = Arc::new(Mutex::new(Account::new(self.settings.memory, self.settings.log)));
        let cpu = Arc::new(AtomicU64::new(0));
        let ticking = self.ticker.run();
        let run = self.run(ready.clone(), call, account.clone(), deadline);
        // The turn ends with the instance, even when nobody waits for the answer any more.
        let run = async move {
            let _held = (turn, ticking);
            run.await
        };
        let mut run = Box::pin(metered(run, cpu.clone()));
        let result = match poll_once(run.as_mut()).await {
            Some(result) => result,
            None => self.go_on(run, deadline).await,
        };
        let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
        let (log, log_truncated) = account.take_log();
        let result = result.map_err(|error| self.failure(&error, &account)).and_then(|given| self.vet(given));
        let cpu = Duration::from_nanos(cpu.load(Relaxed));
        self.budgets.spend(&tenant, cpu);
        let memory_bytes = account.memory_peak as u64;
        Report { result, duration: started.elapsed(), cpu, memory_bytes, log, log_truncated }
    }

    /// Makes an instance, asks it, and throws it away.
    fn run(
        &self,
        ready: Arc<Ready>,
        call: Call,
        account: Arc<Mutex<Account>>,
        deadline: Instant,
    ) -> impl Future<Output = wasmtime::Result<Result<Given, String>>> + Send + use<> {
        let engine = self.engine.clone();
        let crossing = self.settings.crossing;
        async move {
            let world = World::new(account, &call.event, ready.version, call.timestamp);
            let mut store = Store::new(&engine, world);
            store.limiter(|world| world);
            store.set_max_component_handles(HANDLES);
            store.set_hostcall_fuel(crossing + call.body.len());
            // Before there is an instance: a start function can loop as well.
            store.set_epoch_deadline(2);
            store.epoch_deadline_callback(move |_| match Instant::now() < deadline {
                true => Ok(UpdateDeadline::Yield(1)),
                false => Err(TimeIsUp.into()),
            });
            // Ticks are seen where a function or a turn of a loop begins; a long row of calls to the host has neither.
            store.call_hook_async(Hook { deadline, since: Mutex::new(Instant::now()) });
            let plugin = ready.pre.instantiate_async(&mut store).await?;
            let body_type = HeaderParam { name: "content-type", value: "application/json" };
            let earlier = call.headers.iter().map(|(name, value)| HeaderParam { name, value });
            let mut headers: Vec<HeaderParam<'_>> = earlier.collect();
            if !headers.iter().any(|header| header.name == body_type.name) {
                headers.push(body_type);
            }
            let event = Event {
                id: call.event.as_str(),
                type_: call.event_type.as_str(),
                tenant: call.tenant.as_str(),
                timestamp_ms: call.timestamp.as_millisecond(),
                body: &call.body,
                headers: &headers,
            };
            plugin.revnoxa_webhook_handler().call_handle(&mut store, event, &call.settings).await
        }
    }

    /// Goes on with a call that was not done at once, on threads that do nothing else.
    async fn go_on(
        &self,
        run: Pin<Box<impl Future<Output = wasmtime::Result<Result<Given, String>>> + Send + 'static>>,
        deadline: Instant,
    ) -> wasmtime::Result<Result<Given, String>> {
        let slow = self.slow.as_ref().expect("there until the drop");
        // A guest that waits for something of WASI's is not interrupted by ticks.
        let timed = slow.handle().clone().spawn(async move { tokio::time::timeout_at(deadline.into(), run).await });
        match timed.await {
            Ok(Ok(result)) => result,
            Ok(Err(_elapsed)) => Err(TimeIsUp.into()),
            Err(join) => Err(wasmtime::Error::msg(format!("the call ended with the host: {join}"))),
        }
    }

    /// What the plugin gave, if it keeps to the rules.
    fn vet(&self, given: Result<Given, String>) -> Result<Verdict, Failure> {
        match given {
            Ok(Given::Deliver(request)) => {
                let limit = self.settings.body;
                if request.body.len() > limit {
                    let message = format!("a body of {} bytes; at most {limit}", request.body.len());
                    return Err(Failure::new(FailureKind::OutputTooLarge, message));
                }
                let headers = request.headers.iter().map(|header| (header.name.as_str(), header.value.as_str()));
                let headers = PluginHeaders::parse(headers, self.settings.headers).map_err(|(name, rule)| {
                    Failure::new(FailureKind::BadHeader, cut(&format!("header `{name}`: {rule}")))
                })?;
                Ok(Verdict::Deliver(Changed { body: request.body.into(), headers }))
            }
            Ok(Given::Drop(reason)) => Ok(Verdict::Drop(cut(&reason))),
            Err(message) => Err(Failure::new(FailureKind::PluginError, cut(&message))),
        }
    }

    fn failure(&self, error: &wasmtime::Error, account: &Account) -> Failure {
        let last = error.root_cause().to_string();
        let (kind, message) = if error.is::<TimeIsUp>() {
            (FailureKind::TimedOut, format!("took longer than {:?}", self.settings.timeout))
        } else if account.memory_refused {
            let limit = self.settings.memory;
            (FailureKind::OutOfMemory, format!("asked for more than {limit} bytes of memory ({last})"))
        // wasmtime's type for this is private.
        } else if last.starts_with("too much data is being copied") {
            let limit = self.settings.crossing;
            (FailureKind::OutputTooLarge, format!("gave back more than {limit} bytes beyond the event's size"))
        } else if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            (FailureKind::Unavailable, last)
        } else if error.is::<Trap>() {
            (FailureKind::Trapped, last)
        } else {
            (FailureKind::Trapped, format!("{error:#}"))
        };
        Failure::new(kind, cut(&message))
    }
}

impl Report {
    /// Of a call that was not made.
    #[must_use]
    pub fn none(failure: Failure) -> Self {
        let (duration, cpu) = (Duration::ZERO, Duration::ZERO);
        Self { result: Err(failure), duration, cpu, memory_bytes: 0, log: Vec::new(), log_truncated: false }
    }
}

async fn turn(turns: &Arc<Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    turns.clone().acquire_owned().await.expect("never closed")
}

fn cut(message: &str) -> String {
    text(message, TEXT).kept
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Adds up in `cpu` the nanoseconds of CPU time that polling takes.
async fn metered<F: Future>(future: F, cpu: Arc<AtomicU64>) -> F::Output {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| {
        let before = thread_cpu();
        let polled = future.as_mut().poll(context);
        let used = thread_cpu().saturating_sub(before);
        cpu.fetch_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        polled
    })
    .await
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
