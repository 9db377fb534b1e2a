//! What an attempt sends: what the plugins made at the first attempt, or the event as it is.

use bytes::Bytes;

use super::Deliver;
use crate::chain::{Chained, Decided, Input};
use crate::domain::delivery::Leased;
use crate::domain::endpoint::Endpoint;
use crate::domain::header::PluginHeaders;
use crate::domain::plugin::{Changed, Ran};
use crate::store::StoreError;

/// What is to be sent, and the calls that made it.
pub(super) struct Content {
    /// A request, or why there is none.
    pub(super) decision: Decision,
    /// `None`: no plugin was called.
    pub(super) ran: Option<Ran>,
}

/// Whether there is a request.
pub(super) enum Decision {
    /// With this body, and these headers of plugins.
    Send(Bytes, PluginHeaders),
    /// None, ever, for this reason.
    Drop(String),
    /// Not this time: a plugin failed in this way.
    Fail(String),
}

impl Deliver {
    /// Plugins run until they have once decided; what they made is stored and sent by all later attempts.
    pub(super) async fn content(&self, endpoint: &Endpoint, leased: &Leased) -> Result<Content, StoreError> {
        let as_it_is = || Decision::Send(leased.body.clone(), PluginHeaders::default());
        if leased.transformed {
            let stored = self.store.output(&leased.tenant, leased.id).await?;
            let decision = stored.map_or_else(as_it_is, |output| {
                Decision::Send(output.body.unwrap_or_else(|| leased.body.clone()), output.headers)
            });
            return Ok(Content { decision, ran: None });
        }
        // What was sent without plugins once is sent so again, whatever was attached since.
        let first = leased.delivery.attempts() == 0;
        if endpoint.plugins.is_empty() || !first && self.store.was_sent(&leased.tenant, leased.id).await? {
            return Ok(Content { decision: as_it_is(), ran: None });
        }
        let input = Input {
            tenant: leased.tenant.clone(),
            event: leased.event.clone(),
            event_type: leased.event_type.clone(),
            body: leased.body.clone(),
        };
        // In a box: it is three times as large as all else that an attempt keeps, also where there are no plugins.
        let Chained { runs, decided } = Box::pin(self.chain.run(&endpoint.plugins, &input)).await;
        let (decision, output) = match decided {
            Decided::Deliver(Changed { body, headers }) => {
                (Decision::Send(body.clone(), headers.clone()), Some(Changed { body, headers }))
            }
            Decided::Drop(reason) => (Decision::Drop(reason), None),
            Decided::Fail(how) => (Decision::Fail(how), None),
        };
        Ok(Content { decision, ran: Some(Ran { runs, output }) })
    }
}
