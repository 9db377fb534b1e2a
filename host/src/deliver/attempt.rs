//! One attempt: plugins, sign, send, decide, record.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;

use super::Deliver;
use super::content::{Content, Decision};
use crate::domain::delivery::{self, Leased};
use crate::domain::endpoint::{Endpoint, EndpointState};
use crate::domain::header::PluginHeaders;
use crate::domain::lanes::Health;
use crate::domain::outcome::{Outcome, SendError};
use crate::domain::retry::RetrySchedule;
use crate::domain::trace::TraceParent;
use crate::store::{Attempt, Finished, Lease, StoreError};
use crate::telemetry::METRICS;

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Revnoxa-Webhooks/", env!("CARGO_PKG_VERSION")));
const SIGNATURE: HeaderName = HeaderName::from_static("x-revnoxa-signature");
const EVENT: HeaderName = HeaderName::from_static("x-revnoxa-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-revnoxa-delivery");
const ATTEMPT: HeaderName = HeaderName::from_static("x-revnoxa-attempt");
// https://www.w3.org/TR/trace-context/
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

impl Deliver {
    /// Attempts a delivery from the lanes and has the result recorded.
    pub(super) async fn attempt_leased(&self, leased: Leased) -> Health {
        let lease = self.leases.hold(&leased);
        if self.runs_out(&lease) {
            // It waited too long: before the lease is renewed, another host might have begun its own attempt.
            self.writer.release(vec![leased]).await;
            return Health::Unknown;
        }
        match self.store.endpoint(&leased.tenant, leased.endpoint).await {
            Ok(Some(endpoint)) if endpoint.state == EndpointState::Active => {
                self.attempt_at(&endpoint, leased, &lease).await
            }
            // Disabled since it was claimed: it waits in the table.
            Ok(Some(_)) => {
                self.writer.release(vec![leased]).await;
                Health::Unknown
            }
            // Deleted since it was claimed: its deliveries go with it.
            Ok(None) => Health::Unknown,
            Err(error) => self.unreadable(leased, &error).await,
        }
    }

    async fn attempt_at(&self, endpoint: &Endpoint, leased: Leased, lease: &Lease) -> Health {
        let content = match self.content(endpoint, &leased).await {
            Ok(content) => content,
            Err(error) => return self.unreadable(leased, &error).await,
        };
        // The database did not answer meanwhile, or this process stood still; plugins that ran do so again.
        if self.runs_out(lease) {
            self.writer.release(vec![leased]).await;
            return Health::Unknown;
        }
        let once = RetrySchedule::once();
        let schedule = if leased.event_type.is_test() { &once } else { &self.schedule };
        // Nor afterwards, while its connection was made.
        let finished = match self.attempt(endpoint, leased, content, schedule, lease).await {
            Ok(finished) => finished,
            Err(Overtaken(leased)) => {
                self.writer.release(vec![leased]).await;
                return Health::Unknown;
            }
        };
        let health = finished.attempt.as_ref().map_or(Health::Unknown, |attempt| Health::of(&attempt.outcome));
        self.writer.record(finished).await;
        health
    }

    /// It may end before it is renewed.
    fn runs_out(&self, lease: &Lease) -> bool {
        lease.runs_out(self.clock.now(), self.renewal)
    }

    async fn unreadable(&self, leased: Leased, error: &StoreError) -> Health {
        tracing::error!(
            delivery.id = %leased.id,
            error = error as &dyn std::error::Error,
            "cannot read what a delivery needs"
        );
        // What is unreadable would be so again at once: it waits until its lease ends.
        if !matches!(error, StoreError::Unreadable { .. }) {
            self.writer.release(vec![leased]).await;
        }
        Health::Unknown
    }

    /// Sends one request, if plugins did not decide otherwise, and decides what follows from it.
    pub(super) async fn attempt(
        &self,
        endpoint: &Endpoint,
        leased: Leased,
        content: Content,
        schedule: &RetrySchedule,
        lease: &Lease,
    ) -> Result<Finished, Overtaken> {
        let started_at = self.clock.now();
        let Content { decision, ran: plugins } = content;
        let span = self.span(endpoint, &leased, plugins.as_ref(), started_at);
        let (outcome, request_headers) = match decision {
            Decision::Send(body, added) => {
                let headers = headers(endpoint, &leased, &body, &added, span.context(), started_at);
                let request_headers = as_sent(&headers);
                let (lease, clock, renewal) = (lease.clone(), self.clock.clone(), self.renewal);
                let may_begin = move || !lease.runs_out(clock.now(), renewal);
                let posted = self.outbound.post(leased.tenant.as_str(), &endpoint.url, headers, body, may_begin).await;
                let Some(outcome) = posted else {
                    span.end_without_request();
                    return Err(Overtaken(leased));
                };
                (outcome, request_headers)
            }
            Decision::Fail(how) => {
                let duration = plugins.iter().flat_map(|ran| &ran.runs).map(|run| run.duration).sum();
                (Outcome { duration, result: Err(SendError::Plugin(how)) }, String::new())
            }
            Decision::Drop(reason) => {
                span.end_without_request();
                let next = leased.delivery.dropped();
                return Ok(Finished { leased, next, attempt: None, plugins, reason: Some(reason), gone: false });
            }
        };
        let next = leased
            .delivery
            .after(&outcome, self.clock.now(), schedule, rand::random())
            .expect("only pending deliveries are leased");
        let error = error_text(&outcome);
        // A plugin's words may be the event's, or its settings'.
        let by_plugin = matches!(outcome.result, Err(SendError::Plugin(_)));
        tracing::debug!(
            delivery.id = %leased.id,
            endpoint.id = %leased.endpoint,
            attempt = next.attempts(),
            duration_ms = u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
            status_code = outcome.result.as_ref().ok().map(|answer| answer.status),
            error = if by_plugin { Some("a plugin failed") } else { error.as_deref() },
            "attempted"
        );
        METRICS.attempted(outcome.duration, outcome.cause());
        span.end(&outcome);
        let gone = delivery::is_gone(&outcome);
        let attempt = Attempt { started_at, outcome, request_headers, error };
        Ok(Finished { leased, next, attempt: Some(attempt), plugins, reason: None, gone })
    }
}

/// Nothing was sent: by the time the connection was there, another host might have begun its own attempt.
pub(super) struct Overtaken(pub(super) Leased);

/// Shown to the tenant; `None`: the receiver's answer says it all.
pub(super) fn error_text(outcome: &Outcome) -> Option<String> {
    match &outcome.result {
        Ok(answer) if (300..400).contains(&answer.status) => Some("redirect not followed".to_owned()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

fn headers(
    endpoint: &Endpoint,
    leased: &Leased,
    body: &[u8],
    added: &PluginHeaders,
    trace: Option<TraceParent>,
    now: Timestamp,
) -> HeaderMap {
    let signatures = endpoint.keys.sign(leased.event.as_str(), now, body);
    // Ids, type names, numbers and signatures are visible ASCII by their own rules.
    let value = |text: &str| HeaderValue::from_str(text).expect("visible ASCII");
    let own = endpoint.headers.as_map();
    // Room for all of them at once.
    let mut headers = HeaderMap::with_capacity(own.len() + added.as_map().len() + 12);
    headers.extend(own.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(added.as_map().clone());
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(SIGNATURE, value(&signatures.hex));
    headers.insert(EVENT, value(leased.event_type.as_str()));
    headers.insert(DELIVERY, value(&leased.id.to_string()));
    headers.insert(ATTEMPT, HeaderValue::from(leased.delivery.attempts() + 1));
    headers.insert(WEBHOOK_ID, value(leased.event.as_str()));
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now.as_second()));
    headers.insert(WEBHOOK_SIGNATURE, value(&signatures.standard));
    if let Some(trace) = trace {
        headers.insert(TRACEPARENT, value(&trace.to_string()));
    }
    headers
}

/// One `name: value` a line. Values of the tenant's own headers are often credentials and stay out of the history.
fn as_sent(headers: &HeaderMap) -> String {
    let mut text = String::with_capacity(512);
    for (name, value) in headers {
        let value = if value.is_sensitive() { "(as configured)" } else { value.to_str().unwrap_or_default() };
        text.extend([name.as_str(), ": ", value, "\n"]);
    }
    text
}
