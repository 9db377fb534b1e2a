//! What stands beside the measured load and is not to be felt by it: neighbours that are dead, noisy or hostile.

use std::time::Duration;

use revnoxa_tests::{Machine, Tenant};
use serde_json::json;

use crate::{
    generator::{self, Load, Pace, Posted},
    hostile::Hostile,
    receiver::{self, Ports},
    rows,
};

/// Events of a tenant in a second, where they are limited; each tenant of the measured load has a quarter of it.
const QUOTA: usize = 20;
/// Each has its part of the hostile receivers.
const HOSTILE_TENANTS: usize = 10;
/// Connections that the neighbours' events come over.
const PRODUCERS: usize = 4;

/// The neighbours.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    /// None.
    Nothing,
    /// Of the tenants of the measured load so many, the last of them, have endpoints that never answer.
    DeadTenants(usize),
    /// So many deliveries wait for a further tenant's endpoint, which never answers.
    Backlog(usize),
    /// A further tenant posts ten times as many events as each tenant may.
    OverQuota,
    /// A further tenant has so many endpoints that never answer, and posts an event a second, which goes to all of
    /// them.
    DeadEndpoints(usize),
    /// Ten further tenants have so many endpoints, each at a hostile receiver of its own. Each tenant posts an event
    /// every two seconds, which goes to all of its endpoints.
    Hostile(usize),
}

impl Beside {
    /// Of the tenants of the measured load those that are dead.
    pub(crate) fn dead_tenants(self) -> usize {
        if let Self::DeadTenants(dead) = self { dead } else { 0 }
    }

    /// What the hosts are set to because of them.
    pub(crate) fn set(self, machine: Machine) -> Machine {
        match self {
            Self::Nothing | Self::DeadTenants(_) | Self::Backlog(_) | Self::DeadEndpoints(_) => machine,
            Self::OverQuota => machine.set("REVNOXA_EVENT_RATE_LIMIT", &format!("{QUOTA}/1s")),
            // So that there can be an attempt at each of them at once: one half of all attempts is for endpoints that
            // do not answer promptly, and of that no tenant gets more than all of them leave free.
            Self::Hostile(receivers) => {
                let all = 2 * receivers * (HOSTILE_TENANTS + 1) / HOSTILE_TENANTS;
                machine.set("REVNOXA_MAX_IN_FLIGHT", &all.to_string())
            }
        }
    }

    /// Makes the tenants that the measured load does not have, from `first` on, with their endpoints. The hostile
    /// receivers turn.
    pub(crate) async fn make(self, machine: &Machine, first: usize, ports: &Ports) -> Option<Hostile> {
        let name = generator::tenant(first);
        match self {
            Self::Nothing | Self::DeadTenants(_) => None,
            Self::Backlog(_) => {
                dead_endpoint(&machine.tenant(&name).await, "127.0.0.1", ports).await;
                None
            }
            Self::OverQuota => {
                // The receiver counts what comes to numbers only.
                let url = format!("http://127.0.0.1:{}/noise", ports.http);
                machine.tenant(&name).await.endpoint_with(json!({"url": url})).await;
                None
            }
            Self::DeadEndpoints(endpoints) => {
                let url = |number| format!("http://{}:{}/", receiver::address(number), ports.silent);
                rows::add_endpoints(machine, &name, (0..endpoints).map(url)).await;
                None
            }
            Self::Hostile(receivers) => {
                let mut hostile = Hostile::start(receivers).await;
                for (number, urls) in hostile.urls.chunks(receivers.div_ceil(HOSTILE_TENANTS)).enumerate() {
                    let tenant = machine.tenant(&generator::tenant(first + number)).await;
                    for url in urls {
                        let made = tenant.endpoint_with(json!({"url": url})).await;
                        assert_eq!(made.created["state"], "active", "{}", made.created);
                    }
                }
                hostile.turn().await;
                Some(hostile)
            }
        }
    }

    /// Posts what the neighbours post in this time, to the hosts of the measured load. `None`: nothing.
    pub(crate) async fn post(self, measured: &Load, time: Duration) -> Option<Posted> {
        let (tenants, per_second) = match self {
            Self::Nothing | Self::DeadTenants(_) | Self::Backlog(_) => return None,
            Self::OverQuota => (1, 10 * QUOTA),
            Self::DeadEndpoints(_) => (1, 1),
            Self::Hostile(_) => (HOSTILE_TENANTS, HOSTILE_TENANTS / 2),
        };
        let first = measured.tenants.end;
        let load = Load { tenants: first..first + tenants, producers: PRODUCERS, refusals: true, ..measured.clone() };
        Some(load.post(Pace::Fixed(per_second, time)).await)
    }
}

/// Makes an endpoint that never answers.
pub(crate) async fn dead_endpoint(tenant: &Tenant, address: &str, ports: &Ports) {
    // Only an endpoint that answered its test becomes active.
    let made = tenant.endpoint_with(json!({"url": format!("http://{address}:{}/none", ports.http)})).await;
    made.patch("", json!({"url": format!("http://{address}:{}/", ports.silent)})).await.expect(200);
}
