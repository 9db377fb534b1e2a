//! `revnoxa-host`: arguments to one call per subcommand.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use revnoxa_host::clock::Clock;
use revnoxa_host::config::{Config, DatabaseUrl};
use revnoxa_host::domain::token::Scope;
use revnoxa_host::{admin, app, author, dev, http, plugins, telemetry};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a delivery allocates lives for a moment and is freed by another thread, which costs an eighth of all CPU time less here than with
/// glibc's. SQLite and TLS, which are C, have it, too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(version, about = "Delivers Revnoxa's webhooks")]
struct Arguments {
    /// TOML file of settings; the environment (`REVNOXA_…`) wins over it.
    #[arg(long, global = true, env = "REVNOXA_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the host.
    Serve,
    /// Runs a host for trying things out: SQLite in ./data, loopback, http receivers allowed, a tenant `dev`.
    Dev,
    /// Receives the deliveries of the tenant `dev`, verifies and prints them.
    Listen,
    /// Brings the database's schema up to date and ends.
    Migrate,
    /// Copies the SQLite database into a new file, while a host may serve it. To restore it stop the host, remove the database with
    /// its -wal and -shm files, and put the copy in its place.
    Backup {
        /// The new file.
        to: PathBuf,
    },
    /// Moves all that a SQLite file holds into the PostgreSQL database of the settings. Stop the host first. Cut short, it goes on
    /// where it stood.
    Move {
        /// The file as `sqlite://PATH`.
        #[arg(long)]
        from: DatabaseUrl,
        /// Lets the file be served again instead, as long as the PostgreSQL database was not.
        #[arg(long)]
        give_up: bool,
    },
    /// Seals everything under `master_key` that is sealed under one of `previous_master_keys`, while hosts go on. Restart every host
    /// with both first. Cut short, it goes on where it stood.
    Rekey,
    /// Makes API tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// For authors of plugins; needs no running host.
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Compiles and checks a component as an upload would.
    Check {
        /// The component.
        component: PathBuf,
    },
    /// Calls a component once, in the sandbox with its limits, and prints what became of it as JSON.
    Run {
        /// The component.
        component: PathBuf,
        /// A JSON file of an event: `{"type", "data"}`, `"id"` and `"timestamp"` if wanted.
        #[arg(long)]
        event: PathBuf,
        /// A JSON file of the attachment's settings. Default `{}`.
        #[arg(long)]
        settings: Option<PathBuf>,
    },
    /// Compiles a component from stdin to stdout within these limits; what the host itself starts.
    #[command(hide = true)]
    Compile {
        /// Bytes of address space.
        memory: u64,
        /// Seconds of CPU time.
        seconds: u64,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Makes a token and prints it, this once.
    Create {
        /// What it may do.
        #[arg(long)]
        scope: ScopeName,
        /// Whose token, with `--scope tenant`.
        #[arg(long, required_if_eq("scope", "tenant"))]
        tenant: Option<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ScopeName {
    Operator,
    Producer,
    Tenant,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Command::Plugin(PluginCommand::Compile { memory, seconds }) = arguments.command {
        // No runtime: its threads would take address space from the compiler.
        std::process::exit(plugins::compile_child(memory, seconds));
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command(arguments))
}

async fn command(arguments: Arguments) -> anyhow::Result<()> {
    telemetry::init_logs();
    // `--config` has a variable of its own, which is no setting.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "REVNOXA_CONFIG");
    let config = Config::load(arguments.config.as_deref(), environment)?;
    // Before anything else starts: a signal during the start stops as gracefully as one after it.
    let mut signals = Signals::new()?;
    match arguments.command {
        Command::Serve => run(app::start(config, Clock::system(), &this_program()?).await?, signals).await,
        Command::Dev => {
            let app = app::start(dev::config(config)?, Clock::system(), &this_program()?).await?;
            dev::introduce(&app).await?;
            run(app, signals).await
        }
        Command::Listen => {
            let host = dev::Introduction::read(&config.data_dir)?;
            http::listen::run(&host.url, &host.tenant, &host.tenant_token, signals.next()).await
        }
        Command::Migrate => admin::migrate(&config).await,
        Command::Backup { to } => admin::back_up(&config, &to).await,
        Command::Move { from, give_up: false } => admin::move_from(&config, &from).await,
        Command::Move { from, give_up: true } => admin::give_up_move(&config, &from).await,
        Command::Rekey => admin::rekey(&config).await,
        Command::Token(TokenCommand::Create { scope, tenant }) => {
            let scope = match (scope, tenant) {
                (ScopeName::Operator, None) => Scope::Operator,
                (ScopeName::Producer, None) => Scope::Producer,
                (ScopeName::Tenant, Some(tenant)) => Scope::Tenant(tenant.parse().context("`--tenant`")?),
                _ => anyhow::bail!("`--tenant` goes with `--scope tenant`"),
            };
            admin::create_token(&config, scope).await
        }
        Command::Plugin(PluginCommand::Check { component }) => {
            author::check(&config, &this_program()?, &component).await
        }
        Command::Plugin(PluginCommand::Run { component, event, settings }) => {
            author::run(&config, &this_program()?, &component, &event, settings.as_deref()).await
        }
        Command::Plugin(PluginCommand::Compile { .. }) => unreachable!("it has no runtime"),
    }
}

/// This program's file, to be run again. On Linux by a name that stays true when the file is replaced by a newer one.
fn this_program() -> anyhow::Result<PathBuf> {
    let linux = PathBuf::from("/proc/self/exe");
    if linux.exists() { Ok(linux) } else { std::env::current_exe().context("cannot tell this program's file") }
}

/// Connections are files: lets this process have as many as it may, instead of the usual 1,024.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Runs until a signal, then stops gracefully; a second signal drops what still runs. A part that ends by itself is an
/// error.
async fn run(mut app: app::App, mut signals: Signals) -> anyhow::Result<()> {
    raise_file_limit();
    // For whoever waits for it in a pipe: the address, at once.
    let mut out = std::io::stdout();
    writeln!(out, "listening on http://{}", app.address())
        .and_then(|()| out.flush())
        .context("cannot write to stdout")?;
    tokio::select! {
        failure = app.failed() => return Err(failure),
        () = signals.next() => {}
    }
    tracing::info!("stopping; a second signal drops running attempts");
    let hurry = app.hurry();
    tokio::spawn(async move {
        signals.next().await;
        hurry.cancel();
    });
    app.stop().await
}

/// SIGTERM and SIGINT, from the moment it is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
