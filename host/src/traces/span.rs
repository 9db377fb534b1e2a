//! One span, recorded or not.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use crate::domain::trace::TraceParent;

/// What a span is told goes to the collector when it ends; where none is recorded, nowhere.
pub struct Span {
    context: Option<TraceParent>,
    recorded: Option<Recorded>,
}

struct Recorded {
    span: opentelemetry_sdk::trace::Span,
    begun: SystemTime,
}

/// Begins a span. Where the sampler does not want it, what comes after has the same parent.
pub(super) fn begin(
    tracer: &SdkTracer,
    kind: SpanKind,
    name: impl Into<Cow<'static, str>>,
    parent: Option<TraceParent>,
    begun: SystemTime,
) -> Span {
    let within = match parent {
        Some(parent) => Context::new().with_remote_span_context(remote(parent)),
        None => Context::new(),
    };
    let builder = tracer.span_builder(name).with_kind(kind).with_start_time(begun);
    let span = tracer.build_with_context(builder, &within);
    if !span.is_recording() {
        return Span::none(parent);
    }
    let own = span.span_context();
    let (trace, id) = (own.trace_id().to_bytes(), own.span_id().to_bytes());
    let context = Some(TraceParent::new(trace, id, own.trace_flags().to_u8()));
    Span { context, recorded: Some(Recorded { span, begun }) }
}

impl Span {
    pub(super) fn none(context: Option<TraceParent>) -> Self {
        Self { context, recorded: None }
    }

    /// The parent of what is done within this span.
    #[must_use]
    pub fn context(&self) -> Option<TraceParent> {
        self.context
    }

    /// Whether anybody will see what it is told.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    pub(super) fn begun(&self) -> Option<SystemTime> {
        self.recorded.as_ref().map(|recorded| recorded.begun)
    }

    /// Notes a text.
    pub fn note(&mut self, key: &'static str, value: impl Display) {
        if let Some(recorded) = &mut self.recorded {
            recorded.span.set_attribute(KeyValue::new(key, value.to_string()));
        }
    }

    /// Notes a number.
    pub fn count(&mut self, key: &'static str, number: i64) {
        if let Some(recorded) = &mut self.recorded {
            recorded.span.set_attribute(KeyValue::new(key, number));
        }
    }

    /// What it is of went wrong: `kind` in one word of a few, `what` for people.
    pub fn fail(&mut self, kind: &'static str, what: impl Display) {
        if let Some(recorded) = &mut self.recorded {
            recorded.span.set_attribute(KeyValue::new("error.type", kind));
            recorded.span.set_status(Status::error(what.to_string()));
        }
    }

    /// Ends it, so long after it began.
    pub fn end(self, took: Duration) {
        if let Some(Recorded { mut span, begun }) = self.recorded {
            span.end_with_timestamp(begun + took);
        }
    }
}

fn remote(parent: TraceParent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(parent.trace()),
        SpanId::from_bytes(parent.span()),
        TraceFlags::new(parent.flags()),
        true,
        TraceState::default(),
    )
}
