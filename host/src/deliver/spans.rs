//! What spans tell of attempts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Deliver;
use super::attempt::error_text;
use crate::domain::delivery::Leased;
use crate::domain::endpoint::Endpoint;
use crate::domain::outcome::{Outcome, SendError};
use crate::domain::plugin::Ran;
use crate::domain::trace::TraceParent;
use crate::traces::Span;

/// The span of an attempt, from the first of the plugins that ran before it.
pub(super) struct AttemptSpan {
    span: Span,
    plugins: Duration,
}

impl Deliver {
    /// Begins a span, with those of plugins within it.
    pub(super) fn span(
        &self,
        endpoint: &Endpoint,
        leased: &Leased,
        ran: Option<&Ran>,
        started_at: Timestamp,
    ) -> AttemptSpan {
        let runs = ran.map_or(&[][..], |ran| &ran.runs[..]);
        let plugins: Duration = runs.iter().map(|run| run.duration).sum();
        let earlier = SignedDuration::try_from(plugins).unwrap_or(SignedDuration::ZERO);
        let begun = started_at.saturating_sub(earlier).unwrap_or(started_at);
        let mut span = self.traces.attempt(leased.trace, begun);
        if span.is_recorded() {
            span.note("revnoxa.tenant", &leased.tenant);
            span.note("revnoxa.endpoint", leased.endpoint);
            span.note("revnoxa.delivery", leased.id);
            span.note("revnoxa.event", &leased.event);
            span.note("revnoxa.event_type", &leased.event_type);
            span.count("revnoxa.attempt", i64::from(leased.delivery.attempts()) + 1);
            // Not the whole URL: tenants put credentials into it.
            span.note("server.address", endpoint.url.as_url().host_str().unwrap_or_default());
            let mut after = Duration::ZERO;
            for run in runs {
                self.traces.past(format!("plugin {}", run.plugin), &span, after, run.duration);
                after += run.duration;
            }
        }
        AttemptSpan { span, plugins }
    }
}

impl AttemptSpan {
    /// What the request says of it.
    pub(super) fn context(&self) -> Option<TraceParent> {
        self.span.context()
    }

    /// Nothing was sent.
    pub(super) fn end_without_request(self) {
        self.span.end(self.plugins);
    }

    /// The receiver answered, or did not.
    pub(super) fn end(mut self, outcome: &Outcome) {
        let took = match &outcome.result {
            Ok(answer) => {
                self.span.count("http.response.status_code", i64::from(answer.status));
                self.plugins + outcome.duration
            }
            Err(SendError::Plugin(_)) => self.plugins,
            Err(_) => self.plugins + outcome.duration,
        };
        if let Some(cause) = outcome.cause() {
            // As in the log: a plugin's words may be the event's, or its settings'.
            let by_plugin = matches!(outcome.result, Err(SendError::Plugin(_)));
            let error = if by_plugin { Some("a plugin failed".to_owned()) } else { error_text(outcome) };
            self.span.fail(cause, error.unwrap_or_default());
        }
        self.span.end(took);
    }
}
