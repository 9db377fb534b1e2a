//! The test event that decides whether a new endpoint becomes active.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt::{self, Overtaken};
use super::{Deliver, TESTS_OF_A_TENANT};
use crate::domain::endpoint::{Endpoint, EndpointState};
use crate::domain::event::{Event, EventType, request_body};
use crate::domain::id::{EventId, TenantId};
use crate::domain::lanes::Health;
use crate::domain::retry::RetrySchedule;
use crate::store::{AcceptError, StoreError};

/// What a test event came to.
#[derive(Debug, Clone)]
pub struct TestResult {
    /// Whether it was answered with 2xx.
    pub delivered: bool,
    /// The answer's status; `None`: no answer.
    pub status_code: Option<u16>,
    /// Why there was no answer, or that it was a redirect.
    pub error: Option<String>,
}

/// Why no test event was sent, or its result is not known to be stored.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The host is stopping.
    #[error("the host is stopping")]
    Stopping,
    /// Too many test events are under way.
    #[error("too many test events are under way")]
    Busy,
    /// This host stood still, or the network did, so long that another may be sending it.
    #[error("the test event was taken over by another host")]
    Overtaken,
    /// The endpoint was deleted meanwhile.
    #[error("the endpoint is gone")]
    Gone,
    /// The test event could not be stored.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// The endpoint's state could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Deliver {
    /// Sends a test event to the endpoint, once. 2xx makes a pending endpoint active; anything else is its reason.
    ///
    /// Once begun it goes on when the caller no longer waits.
    pub async fn test_endpoint(self: &Arc<Self>, endpoint: Arc<Endpoint>) -> Result<TestResult, TestError> {
        let patience = self.attempt_timeout.unsigned_abs();
        let turn = tokio::time::timeout(patience, self.turn(&endpoint.tenant)).await.map_err(|_| TestError::Busy)?;
        let this = self.clone();
        let task = self.attempts.spawn(async move {
            let _turn = turn;
            let hard = this.hard.clone();
            tokio::select! {
                () = hard.cancelled() => Err(TestError::Stopping),
                result = this.test(&endpoint) => result,
            }
        });
        task.await.unwrap_or(Err(TestError::Stopping))
    }

    async fn test(&self, endpoint: &Endpoint) -> Result<TestResult, TestError> {
        let leased = self.writer.accept_test(self.test_event(endpoint), endpoint.id).await?.ok_or(TestError::Gone)?;
        let lease = self.leases.hold(&leased);
        let content = self.content(endpoint, &leased).await?;
        let finished = match self.attempt(endpoint, leased, content, &RetrySchedule::once(), &lease).await {
            Ok(finished) => finished,
            Err(Overtaken(leased)) => {
                self.writer.release(vec![leased]).await;
                return Err(TestError::Overtaken);
            }
        };
        let outcome = &finished.attempt.as_ref().expect("plugins drop no test event").outcome;
        let result = TestResult {
            delivered: outcome.succeeded(),
            status_code: outcome.result.as_ref().ok().map(|answer| answer.status),
            error: attempt::error_text(outcome),
        };
        self.store.handover.lanes().observe(&endpoint.tenant, endpoint.id, Health::of(outcome));
        self.writer.record_now(finished).await;
        if matches!(endpoint.state, EndpointState::Pending { .. }) {
            self.store.record_test(endpoint, failure(&result).as_deref()).await?;
        }
        Ok(result)
    }

    /// The tenant's turn first: its own crowd must not take the others' places.
    async fn turn(&self, tenant: &TenantId) -> [OwnedSemaphorePermit; 2] {
        let of_tenant = self
            .tests_of_tenants
            .get_or_insert_with(tenant, || Ok::<_, Infallible>(Arc::new(Semaphore::new(TESTS_OF_A_TENANT))));
        let Ok(of_tenant) = of_tenant;
        let acquire = async |semaphore: Arc<Semaphore>| semaphore.acquire_owned().await.expect("never closed");
        let first = acquire(of_tenant).await;
        [first, acquire(self.tests.clone()).await]
    }

    fn test_event(&self, endpoint: &Endpoint) -> Event {
        let now = self.clock.now();
        let (id, event_type) = (EventId::new(now), EventType::test());
        let data = format!(r#"{{"endpoint_id":"{}","message":"This is a test event from Revnoxa."}}"#, endpoint.id);
        let body = request_body(&id, &event_type, now, &data);
        Event { tenant: endpoint.tenant.clone(), id, event_type, body, fingerprint: None, trace: None }
    }
}

/// The reason a pending endpoint shows.
fn failure(result: &TestResult) -> Option<String> {
    if result.delivered {
        return None;
    }
    let what = result.error.clone().or_else(|| result.status_code.map(|status| format!("status {status}")));
    Some(format!("the test event failed: {}", what.unwrap_or_default()))
}
