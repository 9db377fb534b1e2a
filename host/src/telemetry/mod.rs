//! Logs and metrics: their set-up and names. What operators do with them is in `host/operations/README.md`.

mod meters;
mod process;

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub(crate) use meters::METRICS;
pub use meters::metrics;
pub(crate) use process::observe as observe_process;

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
