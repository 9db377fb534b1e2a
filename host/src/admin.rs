//! Subcommands that work on the database beside a running host.

use std::sync::Arc;

use anyhow::Context;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::lanes::Limits;
use crate::domain::token::Scope;
use crate::store::{Handover, Store};

/// Brings the schema up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    open(config).await?.close().await;
    Ok(())
}

/// Makes a token and prints it.
pub async fn create_token(config: &Config, scope: Scope) -> anyhow::Result<()> {
    let store = open(config).await?;
    let created = store.create_token(scope).await?;
    store.close().await;
    let (_, token) = created.context("there is no such tenant")?;
    println!("{}", token.reveal());
    Ok(())
}

async fn open(config: &Config) -> anyhow::Result<Store> {
    let key = config.master_key.as_ref().context("setting `master_key` is missing")?;
    // Nothing is delivered from here: the lanes stay empty.
    let limits = Limits { in_flight: config.max_in_flight, per_endpoint: config.max_in_flight_per_endpoint };
    Ok(Store::open(config.database_url.reveal(), key, Clock::system(), Arc::new(Handover::new(limits))).await?)
}
