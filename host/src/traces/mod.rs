//! Spans of posts and attempts for a collector of traces, where the operator named one: the only user of OpenTelemetry's API.
//!
//! A span's parent is said, never found in the surroundings: it comes from the producer's request or, hours later, from the table.
//! An event posted without a collector keeps its `traceparent` all the same, and receivers get it.

mod span;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use opentelemetry::trace::{SpanKind, TracerProvider};
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};

use crate::config::CollectorUrl;
use crate::domain::trace::TraceParent;

pub use span::Span;

/// How long the collector has for one batch of spans, repetitions included.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stop waits for the last of them.
const LAST: Duration = Duration::from_secs(2);
/// Spans kept for the collector at most, about 1 KiB each; more than that are lost, so that nothing waits for it.
const QUEUE: usize = 8 * 1_024;
const BATCH: usize = 1_024;

/// Spans of this host cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the export of traces")]
pub struct TracesError(#[from] ExporterBuildError);

/// Makes spans, or does nothing.
#[derive(Clone)]
pub struct Traces(Option<Exporter>);

#[derive(Clone)]
struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// No spans.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Spans that `client` brings to `collector`: of posts whose `traceparent` says so, and of one in `one_in` of those without.
    ///
    /// # Errors
    /// When what OpenTelemetry's own variables say of the exporter cannot be used.
    pub fn to(collector: &CollectorUrl, one_in: u32, client: impl HttpClient + 'static) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(collector.traces())
            .with_timeout(PATIENCE)
            .build()?;
        let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_max_export_batch_size(BATCH);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build())
            // What has a parent is not asked here.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(1.0 / f64::from(one_in)))))
            .with_resource(resource())
            .build();
        let tracer = provider.tracer("revnoxa-host");
        Ok(Self(Some(Exporter { provider, tracer })))
    }

    /// A span of a post, which begins a trace or goes on with the producer's.
    #[must_use]
    pub fn post(&self, parent: Option<TraceParent>, begun: Timestamp) -> Span {
        match &self.0 {
            Some(exporter) if parent.is_none_or(TraceParent::is_sampled) => {
                span::begin(&exporter.tracer, SpanKind::Server, "post events", parent, at(begun))
            }
            _ => Span::none(parent),
        }
    }

    /// A span of an attempt within the trace of its event; none where that is not recorded.
    #[must_use]
    pub fn attempt(&self, parent: Option<TraceParent>, begun: Timestamp) -> Span {
        self.within(SpanKind::Client, "attempt", parent, at(begun))
    }

    /// A span of what is over, within `of`: it began so long after that, and took so long.
    pub fn past(&self, name: String, of: &Span, after: Duration, took: Duration) {
        if let Some(begun) = of.begun() {
            self.within(SpanKind::Internal, name, of.context(), begun + after).end(took);
        }
    }

    /// Brings away what was recorded, as far as the collector takes it in time.
    pub async fn end(&self) {
        let Some(Exporter { provider, .. }) = self.0.clone() else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }

    fn within(
        &self,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        parent: Option<TraceParent>,
        begun: SystemTime,
    ) -> Span {
        match &self.0 {
            Some(exporter) if parent.is_some_and(TraceParent::is_sampled) => {
                span::begin(&exporter.tracer, kind, name, parent, begun)
            }
            _ => Span::none(parent),
        }
    }
}

/// What every span of this process says of it; the environment wins.
fn resource() -> Resource {
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_service_name("revnoxa-host")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => resource.with_service_name(name).build(),
        _ => resource.build(),
    }
}

fn at(begun: Timestamp) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(begun.as_millisecond()).unwrap_or(0));
    SystemTime::UNIX_EPOCH + since
}
