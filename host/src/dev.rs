//! `dev`: a host on this machine that needs no settings, and what it tells `listen`.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::config::{Config, MasterKey};
use crate::domain::id::TenantId;
use crate::domain::token::{self, Scope};
use crate::http::settings::sign_in_path;
use crate::store::Store;

const TENANT: &str = "dev";

/// What is kept of a `dev` host between its starts, in `<data_dir>/dev.json`, readable by its owner only.
#[derive(Serialize, Deserialize)]
pub struct Introduction {
    /// Base URL of its API.
    pub url: String,
    /// The tenant to try things with.
    pub tenant: String,
    /// That tenant's token.
    pub tenant_token: String,
    /// Posts events.
    pub producer_token: String,
}

impl Introduction {
    /// What the `dev` host of this folder wrote.
    pub fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = file(data_dir);
        let text = std::fs::read(&path)
            .with_context(|| format!("cannot read {}; start `revnoxa-host dev` first", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let path = file(data_dir);
        let text = serde_json::to_vec_pretty(self)?;
        write_private(&path, &text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// `config` with what `dev` changes: receivers on this machine are allowed, and the master key comes from a file that
/// is made when missing.
pub fn config(mut config: Config) -> anyhow::Result<Config> {
    config.allow_insecure_endpoints = true;
    if config.master_key.is_none() {
        config.master_key = Some(new_key_file(&config)?);
    }
    Ok(config)
}

/// Makes the tenant `dev` and its tokens, unless they are there, and prints how to go on.
pub async fn introduce(app: &App) -> anyhow::Result<()> {
    let store = app.store();
    let url = format!("http://{}", app.address());
    let tenant: TenantId = TENANT.parse()?;
    store.create_tenant(&tenant, "Development").await?;

    let known = Introduction::read(app.data_dir()).ok();
    let usable = match &known {
        Some(known) => is_usable(store, known).await?,
        None => false,
    };
    let introduction = match known.filter(|_| usable) {
        Some(known) => Introduction { url, ..known },
        None => {
            let operator_token = make(store, Scope::Operator).await?;
            let producer_token = make(store, Scope::Producer).await?;
            let tenant_token = make(store, Scope::Tenant(tenant.clone())).await?;
            println!("Tokens, shown this once:");
            println!("  operator  {operator_token}");
            println!("  producer  {producer_token}");
            println!("  tenant    {tenant_token}   (tenant `{TENANT}`)\n");
            Introduction { url, tenant: TENANT.to_owned(), tenant_token, producer_token }
        }
    };
    introduction.write(app.data_dir())?;

    println!("Receive in a second terminal:");
    println!("  cargo run --release -- listen\n");
    println!("Post an event:");
    println!("  curl {}/v1/events -H 'Authorization: Bearer {}' \\", introduction.url, introduction.producer_token);
    println!("    -H 'Content-Type: application/json' \\");
    println!(
        "    -d '{{\"tenant\":\"{TENANT}\",\"type\":\"incident.created\",\"data\":{{\"title\":\"Checkout is down\",\"severity\":1}}}}'\n"
    );
    let link = store.create_portal_link(&tenant).await?.context("the tenant `dev` is gone")?.0;
    println!("Settings › Webhooks, for five minutes and once; restart for another link:");
    println!("  {}{}\n", introduction.url, sign_in_path(link.reveal()));
    println!("API documentation: {}/docs", introduction.url);
    Ok(())
}

async fn is_usable(store: &Store, known: &Introduction) -> anyhow::Result<bool> {
    let tenant = store.scope_of(&token::hash(&known.tenant_token)).await?;
    let producer = store.scope_of(&token::hash(&known.producer_token)).await?;
    Ok(tenant.is_some() && producer.is_some())
}

async fn make(store: &Store, scope: Scope) -> anyhow::Result<String> {
    let (_, token) = store.create_token(scope).await?.context("the tenant `dev` is gone")?;
    Ok(token.reveal().to_owned())
}

fn new_key_file(config: &Config) -> anyhow::Result<MasterKey> {
    let (path, key) = (config.key_file(), MasterKey::from_bytes(rand::random()));
    DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir)?;
    write_private(&path, key.reveal().as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key)
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("dev.json")
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}
