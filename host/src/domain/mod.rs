//! The words and rules of webhook delivery: no I/O, no async, no clock of its own.
//!
//! *Tenant*: a customer; owns endpoints. *Event*: one fact the core product posted. *Endpoint*: a tenant's URL
//! with its filter and secret. *Delivery*: one event for one endpoint. *Attempt*: one HTTP request of a delivery.
//! *Outcome*: what an attempt came to. *Plugin*: a tenant's sandboxed component; *attachment*: a plugin on an endpoint.
//! *Quota*: how many events or calls a tenant may make in a time.

pub mod address;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod header;
pub mod hour;
pub mod id;
pub mod json;
pub mod lanes;
pub mod outcome;
pub mod plugin;
pub mod quota;
pub mod retry;
pub mod secret;
pub mod session;
pub mod token;
pub mod trace;
