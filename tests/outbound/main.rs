//! The outbound client by itself: address rules, name resolution, connections, TLS. What the host makes of its outcomes is
//! in `e2e`.

mod addresses;
mod registry;
mod requests;
mod resolving;
mod support;
mod tls;
