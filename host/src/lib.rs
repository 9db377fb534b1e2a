//! map

pub mod admin;
pub mod app;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod dev;
pub mod domain;
pub mod http;
pub mod ingest;
pub mod outbound;
pub mod retention;
pub mod store;
pub mod telemetry;
