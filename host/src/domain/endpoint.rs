//! A tenant's endpoint: where to send, what, signed by which secret.

use jiff::Timestamp;

use super::address::EndpointUrl;
use super::event::EventType;
use super::header::CustomHeaders;
use super::id::{EndpointId, TenantId};
use super::plugin::Attachment;
use super::secret::SigningKeys;

/// Endpoints of one tenant.
pub const ENDPOINTS_LIMIT: usize = 10_000;
/// Bytes of an endpoint's description.
pub const DESCRIPTION_LIMIT: usize = 512;
/// Event types in one endpoint's filter.
pub const EVENT_TYPES_LIMIT: usize = 64;
/// The longest overlap of two secrets after a rotation, in seconds: 7 days.
pub const OVERLAP_LIMIT_S: u32 = 7 * 24 * 60 * 60;

/// Where and how a tenant wants its events.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The endpoint's own id.
    pub id: EndpointId,
    /// Its owner.
    pub tenant: TenantId,
    /// Vetted when it was saved; vetted again at each connect.
    pub url: EndpointUrl,
    /// The tenant's own words; may be empty.
    pub description: String,
    /// The types it wants; `None` is all, those added later included.
    pub event_types: Option<Vec<EventType>>,
    /// Headers added to each request.
    pub headers: CustomHeaders,
    /// What runs on each event before it is sent, in this order.
    pub plugins: Vec<Attachment>,
    /// Whether it gets events, and why not.
    pub state: EndpointState,
    /// When it was created.
    pub created_at: Timestamp,
    /// Prepared from its secrets.
    pub keys: SigningKeys,
}

/// Whether an endpoint gets events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointState {
    /// Its test event has not been answered with 2xx; events pass it by.
    Pending {
        /// What the last test came to; `None` before its end.
        reason: Option<String>,
    },
    /// It gets events.
    Active,
    /// Its events are held until it is enabled.
    Disabled {
        /// Who or what disabled it.
        reason: String,
    },
}

impl EndpointState {
    /// The state's word in the API and the database.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Active => "active",
            Self::Disabled { .. } => "disabled",
        }
    }

    /// Why it is not active, where that is known.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pending { reason } => reason.as_deref(),
            Self::Active => None,
            Self::Disabled { reason } => Some(reason),
        }
    }
}

impl Endpoint {
    /// Whether an event of this type becomes a delivery: sent if active, held if disabled.
    #[must_use]
    pub fn wants(&self, event_type: &EventType) -> bool {
        let wanted = self.event_types.as_ref().is_none_or(|types| types.contains(event_type));
        wanted && !matches!(self.state, EndpointState::Pending { .. })
    }
}
