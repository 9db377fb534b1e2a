//! Logs and metrics: their set-up and names.
//!
//! | metric | unit, labels |
//! |---|---|
//! | `revnoxa_events_total` | events accepted |
//! | `revnoxa_rate_limited_total` | requests refused because a tenant's quota was used up, `limit` = `events`, `api` |
//! | `revnoxa_attempts_total` | attempts, `result` = `succeeded`, `failed` |
//! | `revnoxa_attempt_duration_seconds` | from the connect to the end of the attempt |
//! | `revnoxa_plugin_calls_total` | calls of plugins, `tenant`, `plugin`, `version` |
//! | `revnoxa_plugin_cpu_microseconds_total` | their CPU time, same labels |
//! | `revnoxa_plugin_memory_bytes` | linear memory of a call at its peak, same labels |
//! | `revnoxa_plugin_failures_total` | those without a verdict, and `kind` |

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Upper bounds of the buckets of attempt durations, in seconds.
const DURATIONS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

/// Upper bounds of the buckets of plugins' memory, in bytes.
const MEMORY: [f64; 4] = [1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// Writes logs to standard error: text for a terminal, JSON lines otherwise. `RUST_LOG` chooses what; default `info`.
pub fn init_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}

/// Keeps the memory of metrics bounded, scraped or not, until `soft`.
pub(crate) async fn upkeep(metrics: PrometheusHandle, soft: CancellationToken) -> &'static str {
    const PERIOD: Duration = Duration::from_secs(5);
    while soft.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        metrics.run_upkeep();
    }
    "the upkeep of metrics"
}

/// This process's metrics; the first call sets them up.
pub fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS
        .get_or_init(|| {
            let duration = Matcher::Full("revnoxa_attempt_duration_seconds".into());
            let memory = Matcher::Full("revnoxa_plugin_memory_bytes".into());
            PrometheusBuilder::new()
                .set_buckets_for_metric(duration, &DURATIONS)
                .and_then(|builder| builder.set_buckets_for_metric(memory, &MEMORY))
                .expect("there are buckets")
                .install_recorder()
                .expect("nobody else installs a recorder")
        })
        .clone()
}
