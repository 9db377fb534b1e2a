//! Subcommands that work on the database beside a running host.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::domain::lanes::Limits;
use crate::domain::token::Scope;
use crate::store::{self, Handover, Move, Rekeyed, Store};

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

/// Moves what the SQLite file at `from` holds into the configured PostgreSQL database, with a bar that shows how far it is.
pub async fn move_from(config: &Config, from: &DatabaseUrl) -> anyhow::Result<()> {
    let source = Config { database_url: from.clone(), ..config.clone() };
    let moving = Move::begin((from.reveal(), open(&source).await?), open(config).await?).await?;
    let (all, done) = moving.rows().await?;
    let bar = ProgressBar::new(all).with_position(done);
    bar.set_style(ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} rows, {eta} left").expect("valid"));
    let moved = moving.run(|rows| bar.inc(rows)).await;
    bar.finish_and_clear();
    moving.close().await;
    moved.context("the move is not through; the same command goes on with it")?;
    println!("moved {all} rows; serve the PostgreSQL database from now on");
    Ok(())
}

/// Lets the SQLite file be served again; what a move took over already is left there, for the next move to replace.
pub async fn give_up_move(config: &Config, from: &DatabaseUrl) -> anyhow::Result<()> {
    let source = Config { database_url: from.clone(), ..config.clone() };
    let store = open(&source).await?;
    store.give_up_move(from.reveal()).await?;
    store.close().await;
    println!("the SQLite file can be served again; do not serve the PostgreSQL database");
    Ok(())
}

/// Makes `master_key` the key that everything is sealed under, beside running hosts, with a count of what it did.
pub async fn rekey(config: &Config) -> anyhow::Result<()> {
    let store = open(config).await?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{human_pos} values sealed again, {elapsed}").expect("valid"));
    let rekeyed = store.rekey(config.database_url.reveal(), |values| bar.inc(values)).await;
    bar.finish_and_clear();
    store.close().await;
    let Rekeyed { key, sealed, unreadable } = rekeyed?;
    println!("everything is sealed under the master key {key}; {sealed} values were sealed again");
    if unreadable > 0 {
        println!("{unreadable} values could be opened with no key; they are as they were, and named in the log");
    }
    println!(
        "previous keys are no longer needed: take `previous_master_keys` away and restart the hosts, one after the other"
    );
    Ok(())
}

/// Copies the SQLite database of the settings into a new file. A host may go on serving it.
pub async fn back_up(config: &Config, to: &Path) -> anyhow::Result<()> {
    let bytes = store::back_up(config.database_url.reveal(), to).await?;
    println!(
        "{} holds {bytes} bytes. Its secrets are encrypted: keep the master key, too, somewhere else.",
        to.display()
    );
    Ok(())
}

async fn open(config: &Config) -> anyhow::Result<Store> {
    let keys = config.master_keys().context("setting `master_key` is missing")?;
    // Nothing is delivered from here: the lanes stay empty.
    let limits = Limits { in_flight: config.max_in_flight, per_endpoint: config.max_in_flight_per_endpoint };
    Ok(Store::open(config.database_url.reveal(), &keys, Clock::system(), Arc::new(Handover::new(limits))).await?)
}
