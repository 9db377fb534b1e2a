//! End-to-end tests: the real host, a real database, real receivers. One module a story; one binary, so that it links once.

mod address;
mod batch;
mod data;
mod delivery;
mod dev;
mod durability;
mod endpoint;
mod event;
mod event_type;
mod fairness;
mod history;
mod outbound;
mod problem;
mod promises;
mod refusals;
mod retention;
mod retries;
mod rotation;
mod service;
mod settings;
mod shutdown;
mod story;
mod tenant;
mod token;
