//! Builds the parts, runs them, stops them.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::clock::Clock;
use crate::config::{Config, Rate};
use crate::deliver::Deliver;
use crate::domain::address::AddressPolicy;
use crate::domain::lanes::Limits;
use crate::domain::quota::Quota;
use crate::domain::retry::RetrySchedule;
use crate::http::settings::Site;
use crate::http::{self, Access, AppState};
use crate::ingest::Ingest;
use crate::limits::{Counted, Quotas};
use crate::outbound::{CollectorClient, Outbound, OutboundConfig};
use crate::plugins::{BUILT_IN, Plugins};
use crate::store::{Handover, Store, WriterTask};
use crate::traces::Traces;
use crate::{retention, telemetry};

/// A running host.
pub struct App {
    address: SocketAddr,
    config: Config,
    store: Arc<Store>,
    deliver: Arc<Deliver>,
    traces: Traces,
    /// Soft: take nothing new and finish.
    soft: CancellationToken,
    /// Drop what runs.
    hurry: CancellationToken,
    writer_stop: CancellationToken,
    /// The writers apart from the rest: they must outlive them.
    writers: JoinSet<&'static str>,
    tasks: JoinSet<&'static str>,
}

/// Starts a host; when this returns it listens. `program` is this program's file, which is run again to compile plugins.
pub async fn start(config: Config, clock: Clock, program: &Path) -> anyhow::Result<App> {
    config.check()?;
    let keys = config.master_keys().context(
        "setting `master_key` is missing: base64 of 32 bytes, such as `openssl rand -base64 32` makes; keep it",
    )?;
    let metrics = telemetry::metrics();
    let limits = Limits { in_flight: config.max_in_flight, per_endpoint: config.max_in_flight_per_endpoint };
    let handover = Arc::new(Handover::new(limits));
    let store = Arc::new(Store::open_to_serve(config.database_url.reveal(), &keys, clock.clone(), handover).await?);
    let traces = match &config.otlp_endpoint {
        Some(collector) => Traces::to(collector, config.trace_one_in, CollectorClient::new()?)?,
        None => Traces::off(),
    };
    let policy = if config.allow_insecure_endpoints {
        tracing::warn!("`allow_insecure_endpoints` is on: tenants can reach this machine's network");
        AddressPolicy::AllowInsecure
    } else {
        AddressPolicy::PublicOnly
    };
    let outbound = Outbound::new(OutboundConfig {
        policy,
        attempt_timeout: config.attempt_timeout,
        extra_ca: config.extra_ca.clone(),
        dns_servers: config.dns_servers.clone(),
    })?;
    let machine_code = config.data_dir.join("plugins");
    let plugins = Plugins::new(config.plugins.clone(), program, Some((&machine_code, &keys)), clock.clone())?;
    for (name, component) in BUILT_IN {
        store.keep_built_in(&name.parse()?, Bytes::from_static(component)).await?;
    }
    let chain = Arc::new(Chain::new(store.clone(), Arc::new(plugins)));
    let (soft, hurry, writer_stop) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let (writer, writers) = WriterTask::new(store.clone(), config.lease, config.disable_after_failing_for);
    let deliver = Arc::new(Deliver::new(
        store.clone(),
        writer.clone(),
        outbound,
        chain.clone(),
        clock.clone(),
        traces.clone(),
        RetrySchedule::new(config.retry_delays.clone()),
        config.attempt_timeout,
        config.lease,
    ));
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (setting `listen`)", config.listen))?;
    let address = listener.local_addr()?;
    let quotas = |counted, rate: Option<Rate>| {
        rate.map(|rate| Quotas::new(counted, Quota::new(rate.count(), rate.time()), clock.clone()))
    };
    let events = quotas(Counted::Events, config.event_rate_limit);
    let ingest = Ingest::new(store.clone(), writer, clock.clone(), events, traces.clone());
    let state = AppState::new(
        store.clone(),
        ingest,
        deliver.clone(),
        chain,
        Access {
            policy,
            operator_token: config.operator_token.clone(),
            calls: quotas(Counted::Calls, config.api_rate_limit),
            site: Site::new(config.public_url.as_ref(), address, &config.frame_ancestors),
        },
        metrics.clone(),
    );
    // Answers are small and awaited: Nagle's algorithm would only delay them.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    // As a service that is made once: a router itself would be copied, with all its routes, for each connection.
    let service = http::router(state).into_make_service();
    let server = axum::serve(listener, service).with_graceful_shutdown(soft.clone().cancelled_owned());

    let mut writer_tasks = JoinSet::new();
    for task in writers {
        let stop = writer_stop.clone();
        // On a thread of its own: many are woken by each of its transactions, and it does not wait behind them all.
        writer_tasks.spawn_blocking(move || {
            Handle::current().block_on(task.run(stop));
            "a writer"
        });
    }
    let (hours, hours_stop) = (store.clone(), writer_stop.clone());
    writer_tasks.spawn(async move {
        hours.keep_hours(hours_stop).await;
        "the writer of hourly counts"
    });
    let mut tasks = JoinSet::new();
    let (dispatch, dispatch_soft) = (deliver.clone(), soft.clone());
    tasks.spawn(async move {
        dispatch.dispatch(dispatch_soft).await;
        "the dispatcher"
    });
    tasks.spawn(telemetry::upkeep(metrics.clone(), soft.clone()));
    let (backlog, backlog_soft) = (store.clone(), soft.clone());
    tasks.spawn(async move {
        backlog_soft.run_until_cancelled(backlog.watch_backlog()).await;
        "the count of what is due"
    });
    let (writing, writing_soft) = (store.clone(), soft.clone());
    tasks.spawn(async move {
        writing_soft.run_until_cancelled(writing.watch_writing()).await;
        "the watch over writing"
    });
    let (statistics, statistics_soft) = (store.clone(), soft.clone());
    tasks.spawn(async move {
        statistics_soft.run_until_cancelled(statistics.watch_statistics()).await;
        "the watch over a young database"
    });
    let (poll, poll_soft) = (deliver.clone(), soft.clone());
    tasks.spawn(async move {
        poll.poll(poll_soft).await;
        "the safety poll"
    });
    let (renew, renew_soft) = (deliver.clone(), soft.clone());
    tasks.spawn(async move {
        renew_soft.run_until_cancelled(renew.renew_leases()).await;
        "the renewal of leases"
    });
    let (peers, url, peers_soft) = (store.clone(), config.database_url.clone(), soft.clone());
    tasks.spawn(async move {
        let (listen, announce) = (Box::pin(peers.listen(url.reveal())), Box::pin(peers.announce()));
        let with_peers = async { tokio::join!(listen, announce, Box::pin(peers.follow_clock())) };
        peers_soft.run_until_cancelled(with_peers).await;
        "the talk with other hosts"
    });
    let (retention_store, retention_soft) = (store.clone(), soft.clone());
    let retention = config.retention;
    tasks.spawn(async move {
        retention::run(retention_store, clock, retention, retention_soft).await;
        "retention"
    });
    tasks.spawn(async move {
        if let Err(error) = server.into_future().await {
            tracing::error!(%error, "the HTTP server failed");
        }
        "the HTTP server"
    });
    Ok(App { address, config, store, deliver, traces, soft, hurry, writer_stop, writers: writer_tasks, tasks })
}

impl App {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `dev` keeps its files.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// The open database, for `dev` to make its tenant and tokens in.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Drops running attempts as soon as it is cancelled: for a second signal during [`App::stop`].
    #[must_use]
    pub fn hurry(&self) -> CancellationToken {
        self.hurry.clone()
    }

    /// Ends only when a part ended by itself, which it never should.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(ended) = self.tasks.join_next() => ended,
            Some(ended) = self.writers.join_next() => ended,
            else => return anyhow::anyhow!("nothing runs"),
        };
        match ended {
            Ok(part) => anyhow::anyhow!("{part} ended by itself"),
            Err(error) => anyhow::anyhow!("a part of the host panicked: {error}"),
        }
    }

    /// Takes nothing new, finishes running requests and attempts within the grace, writes what is to be written.
    ///
    /// An error tells that a part had failed. Nothing acknowledged is lost either way.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        ensure!(self.tasks.try_join_next().is_none(), "a part of the host ended by itself");
        self.soft.cancel();
        let mut failed = None;
        let drain = async {
            // Requests first: each may still start a test event.
            while let Some(ended) = self.tasks.join_next().await {
                failed = failed.take().or(ended.err());
            }
            self.deliver.drained().await;
        };
        tokio::select! {
            () = drain => {}
            () = tokio::time::sleep(self.config.shutdown_grace) => {
                tracing::warn!("attempts still running are dropped; they are made again after the next start");
            }
            () = self.hurry.cancelled() => {}
        }
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.deliver.abandon().await;
        self.writer_stop.cancel();
        while let Some(ended) = self.writers.join_next().await {
            failed = failed.take().or(ended.err());
        }
        if let Err(error) = self.store.write_hours().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last hourly counts of attempts are lost");
        }
        self.store.close().await;
        self.traces.end().await;
        failed.map_or(Ok(()), |error| Err(error).context("a part of the host panicked"))
    }
}
