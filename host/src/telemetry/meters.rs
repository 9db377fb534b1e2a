//! What is counted: every metric with its meaning, and the handles of those on the hot path.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// What a metric is; histograms with the upper bounds of their buckets.
enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

/// Seconds of what waits for a receiver.
const ATTEMPT: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
/// Seconds of what waits for the database or a plugin.
const SHORT: &[f64] = &[0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
const COMMANDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Bytes.
const MEMORY: &[f64] = &[1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// Every metric. A test compares it with what operators read of them.
const ALL: [(&str, Kind, &str); 37] = [
    ("revnoxa_events_total", Kind::Counter, "Events acknowledged"),
    ("revnoxa_event_posts_total", Kind::Counter, "Posts of events, by result: accepted, refused or unavailable"),
    (
        "revnoxa_rate_limited_total",
        Kind::Counter,
        "Requests refused because a tenant's quota was used up, by limit: events or api",
    ),
    (
        "revnoxa_acknowledgement_duration_seconds",
        Kind::Histogram(SHORT),
        "From an event post that was read to its commit on disk",
    ),
    ("revnoxa_deliveries_total", Kind::Counter, "Deliveries made of acknowledged events"),
    ("revnoxa_deliveries_finished_total", Kind::Counter, "Deliveries that ended, by state"),
    (
        "revnoxa_deliveries_due",
        Kind::Gauge,
        "Deliveries due in the table that no host has leased; counted to 1,000 an endpoint",
    ),
    ("revnoxa_deliveries_oldest_due_seconds", Kind::Gauge, "How long the oldest of them has been due"),
    ("revnoxa_endpoints_with_due_deliveries", Kind::Gauge, "Active endpoints that have some"),
    ("revnoxa_deliveries_leased_waiting", Kind::Gauge, "Deliveries leased to this host whose attempt has not begun"),
    ("revnoxa_attempts_running", Kind::Gauge, "Attempts under way on this host"),
    ("revnoxa_attempts_running_limit", Kind::Gauge, "How many there may be: `max_in_flight`"),
    ("revnoxa_attempts_total", Kind::Counter, "Attempts, by result: succeeded or failed"),
    ("revnoxa_attempt_failures_total", Kind::Counter, "Failed attempts, by cause"),
    ("revnoxa_attempt_duration_seconds", Kind::Histogram(ATTEMPT), "From the connect to the end of the attempt"),
    ("revnoxa_late_results_total", Kind::Counter, "Results ignored because the lease had passed to another host"),
    ("revnoxa_claims_total", Kind::Counter, "Claims of due deliveries, one endpoint each"),
    ("revnoxa_claimed_deliveries_total", Kind::Counter, "Deliveries they brought"),
    (
        "revnoxa_commits_total",
        Kind::Counter,
        "Transactions of the group-commit writers, by result: committed or failed",
    ),
    ("revnoxa_commit_duration_seconds", Kind::Histogram(SHORT), "Duration of these transactions"),
    ("revnoxa_commit_commands", Kind::Histogram(COMMANDS), "Commands in one of them"),
    ("revnoxa_purged_events_total", Kind::Counter, "Events deleted because they were older than the retention"),
    ("revnoxa_database_connections", Kind::Gauge, "Connections to the database, by pool and state: busy or idle"),
    (
        "revnoxa_clock_skew_seconds",
        Kind::Gauge,
        "How far this machine's clock is ahead of the database's; PostgreSQL only",
    ),
    ("revnoxa_http_requests_running", Kind::Gauge, "Requests to this host under way"),
    ("revnoxa_http_responses_total", Kind::Counter, "Responses of this host, by class: 1xx to 5xx"),
    ("revnoxa_plugin_calls_total", Kind::Counter, "Calls of plugins, by tenant, plugin and version"),
    ("revnoxa_plugin_failures_total", Kind::Counter, "Calls without a verdict, by these and kind"),
    ("revnoxa_plugin_cpu_microseconds_total", Kind::Counter, "CPU time of calls, by tenant, plugin and version"),
    ("revnoxa_plugin_memory_bytes", Kind::Histogram(MEMORY), "Linear memory of a call at its peak, by the same"),
    ("revnoxa_plugin_duration_seconds", Kind::Histogram(SHORT), "Wall time of a call"),
    ("process_cpu_seconds_total", Kind::Gauge, "User and system CPU time of this process"),
    ("process_resident_memory_bytes", Kind::Gauge, "Memory of this process that is in RAM"),
    ("process_threads", Kind::Gauge, "Threads of this process"),
    ("process_open_fds", Kind::Gauge, "Open file descriptors of this process, its connections among them"),
    ("process_max_fds", Kind::Gauge, "How many it may have"),
    ("revnoxa_build_info", Kind::Gauge, "Always 1, with the version as label"),
];

/// The handles of what is counted often, looked up once.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    // Handles made before there is a recorder would count nothing, for ever.
    metrics();
    Metrics::new()
});

/// Named as the metrics are.
pub(crate) struct Metrics {
    pub(crate) events: Counter,
    pub(crate) posts_accepted: Counter,
    pub(crate) posts_refused: Counter,
    pub(crate) posts_unavailable: Counter,
    pub(crate) acknowledgement_duration: Histogram,
    pub(crate) deliveries: Counter,
    pub(crate) deliveries_succeeded: Counter,
    pub(crate) deliveries_failed: Counter,
    pub(crate) deliveries_dropped: Counter,
    attempts_succeeded: Counter,
    attempts_failed: Counter,
    attempt_duration: Histogram,
    pub(crate) late_results: Counter,
    pub(crate) claims: Counter,
    pub(crate) claimed_deliveries: Counter,
    commits_committed: Counter,
    commits_failed: Counter,
    commit_duration: Histogram,
    commit_commands: Histogram,
    pub(crate) purged_events: Counter,
    http_requests_running: Gauge,
    http_responses: [Counter; 5],
    pub(crate) plugin_duration: Histogram,
}

impl Metrics {
    fn new() -> Self {
        Self {
            events: counter!("revnoxa_events_total"),
            posts_accepted: counter!("revnoxa_event_posts_total", "result" => "accepted"),
            posts_refused: counter!("revnoxa_event_posts_total", "result" => "refused"),
            posts_unavailable: counter!("revnoxa_event_posts_total", "result" => "unavailable"),
            acknowledgement_duration: histogram!("revnoxa_acknowledgement_duration_seconds"),
            deliveries: counter!("revnoxa_deliveries_total"),
            deliveries_succeeded: counter!("revnoxa_deliveries_finished_total", "state" => "succeeded"),
            deliveries_failed: counter!("revnoxa_deliveries_finished_total", "state" => "failed"),
            deliveries_dropped: counter!("revnoxa_deliveries_finished_total", "state" => "dropped"),
            attempts_succeeded: counter!("revnoxa_attempts_total", "result" => "succeeded"),
            attempts_failed: counter!("revnoxa_attempts_total", "result" => "failed"),
            attempt_duration: histogram!("revnoxa_attempt_duration_seconds"),
            late_results: counter!("revnoxa_late_results_total"),
            claims: counter!("revnoxa_claims_total"),
            claimed_deliveries: counter!("revnoxa_claimed_deliveries_total"),
            commits_committed: counter!("revnoxa_commits_total", "result" => "committed"),
            commits_failed: counter!("revnoxa_commits_total", "result" => "failed"),
            commit_duration: histogram!("revnoxa_commit_duration_seconds"),
            commit_commands: histogram!("revnoxa_commit_commands"),
            purged_events: counter!("revnoxa_purged_events_total"),
            http_requests_running: gauge!("revnoxa_http_requests_running"),
            http_responses: [
                counter!("revnoxa_http_responses_total", "class" => "1xx"),
                counter!("revnoxa_http_responses_total", "class" => "2xx"),
                counter!("revnoxa_http_responses_total", "class" => "3xx"),
                counter!("revnoxa_http_responses_total", "class" => "4xx"),
                counter!("revnoxa_http_responses_total", "class" => "5xx"),
            ],
            plugin_duration: histogram!("revnoxa_plugin_duration_seconds"),
        }
    }

    /// An attempt ended; `cause`: why it failed.
    pub(crate) fn attempted(&self, took: Duration, cause: Option<&'static str>) {
        self.attempt_duration.record(took.as_secs_f64());
        match cause {
            None => self.attempts_succeeded.increment(1),
            Some(cause) => {
                self.attempts_failed.increment(1);
                counter!("revnoxa_attempt_failures_total", "cause" => cause).increment(1);
            }
        }
    }

    /// A transaction of a group-commit writer ended.
    pub(crate) fn committed(&self, commands: usize, took: Duration, done: bool) {
        self.commit_commands.record(commands as f64);
        self.commit_duration.record(took.as_secs_f64());
        let ended = if done { &self.commits_committed } else { &self.commits_failed };
        ended.increment(1);
    }

    /// A request is under way as long as this is held.
    pub(crate) fn request(&self) -> Running<'_> {
        self.http_requests_running.increment(1.0);
        Running(&self.http_requests_running)
    }

    /// A request was answered.
    pub(crate) fn responded(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(counter) = class.and_then(|class| self.http_responses.get(class)) {
            counter.increment(1);
        }
    }
}

/// Counts as running until it is dropped.
pub(crate) struct Running<'m>(&'m Gauge);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// This process's metrics; the first call sets them up.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let mut builder = PrometheusBuilder::new();
            for (name, kind, _) in &ALL {
                if let Kind::Histogram(bounds) = kind {
                    let matcher = Matcher::Full((*name).to_owned());
                    builder = builder.set_buckets_for_metric(matcher, bounds).expect("there are buckets");
                }
            }
            let handle = builder.install_recorder().expect("nobody else installs a recorder");
            for (name, kind, meaning) in &ALL {
                match kind {
                    Kind::Counter => describe_counter!(*name, *meaning),
                    Kind::Gauge => describe_gauge!(*name, *meaning),
                    Kind::Histogram(_) => describe_histogram!(*name, *meaning),
                }
            }
            gauge!("revnoxa_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            handle
        })
        .clone()
}
