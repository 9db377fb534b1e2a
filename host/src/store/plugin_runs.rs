//! What plugins did before an attempt: stored with it, read again for the retries and the history.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::batch::Finished;
use super::database::Kind;
use super::sized::Sized;
use super::{Store, StoreError, unreadable};
use crate::domain::delivery::Leased;
use crate::domain::header::PluginHeaders;
use crate::domain::id::{DeliveryId, TenantId};
use crate::domain::plugin::{Decision, FailureKind, PluginName, Ran, Run, Version};

/// Bytes of what plugins did in one statement at most, unless one attempt alone has more.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;

/// What is sent in place of the event.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// `None`: the event's own body.
    pub body: Option<Bytes>,
    /// Added to the request.
    pub headers: PluginHeaders,
}

// It is payload: it stays out of logs.
impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body_bytes = self.body.as_ref().map(Bytes::len);
        f.debug_struct("Output").field("body_bytes", &body_bytes).finish_non_exhaustive()
    }
}

/// One call of a plugin as the history shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Number of the attempt it ran for, from 1.
    pub attempt: u32,
    /// What it came to.
    pub run: Run,
}

/// What the calls of one version came to, all together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginUsage {
    /// How many.
    pub calls: u64,
    /// Their CPU time.
    pub cpu: Duration,
    /// Memory of the one that took most.
    pub memory_peak_bytes: u64,
    /// How many failed, by kind; kinds that did not happen are left out.
    pub failures: HashMap<FailureKind, u64>,
}

pub(super) const OUTPUT: &str = "SELECT headers, body FROM plugin_runs
     WHERE tenant_id = $1 AND delivery_id = $2 AND headers IS NOT NULL ORDER BY attempt DESC LIMIT 1";
pub(super) const RUNS: &str =
    "SELECT attempt, runs FROM plugin_runs WHERE tenant_id = $1 AND delivery_id = $2 ORDER BY attempt";

impl Store {
    /// What plugins made of a delivery, to be sent by each of its attempts. `None`: they made nothing.
    pub async fn output(&self, tenant: &TenantId, id: DeliveryId) -> Result<Option<Output>, StoreError> {
        let id = id.to_string();
        let row = sqlx::query_as(OUTPUT).bind(tenant.as_str()).bind(&id).fetch_optional(&self.read);
        let row: Option<(String, Option<Vec<u8>>)> = self.within_limit(async { Ok(row.await?) }).await?;
        let Some((headers, body)) = row else { return Ok(None) };
        let pairs: Option<Vec<(String, String)>> = serde_json::from_str(&headers).ok();
        let restore = |pairs: Vec<(String, String)>| {
            PluginHeaders::restore(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))).ok()
        };
        let headers = pairs.and_then(restore).ok_or_else(|| unreadable("plugin_runs", "headers", &id))?;
        Ok(Some(Output { body: body.map(Bytes::from), headers }))
    }

    /// Whether a request was made for this delivery before; an attempt that a plugin's failure prevented has no headers.
    pub async fn was_sent(&self, tenant: &TenantId, id: DeliveryId) -> Result<bool, StoreError> {
        let sent = sqlx::query_scalar(
            "SELECT COUNT(*) FROM attempts WHERE tenant_id = $1 AND delivery_id = $2 AND request_headers <> ''",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_one(&self.read);
        let sent: i64 = self.within_limit(async { Ok(sent.await?) }).await?;
        Ok(sent > 0)
    }

    /// What the calls of a version came to on this tenant's events.
    pub async fn plugin_usage(
        &self,
        tenant: &TenantId,
        plugin: &PluginName,
        version: Version,
    ) -> Result<PluginUsage, StoreError> {
        static SELECT: LazyLock<String> = LazyLock::new(|| {
            let failures = FailureKind::ALL.map(FailureKind::name).join(", ");
            format!(
                "SELECT calls, cpu_us, memory_peak_bytes, {failures} FROM plugin_usage
                 WHERE tenant_id = $1 AND plugin = $2 AND version = $3"
            )
        });
        let row = sqlx::query(AssertSqlSafe(SELECT.as_str()))
            .bind(tenant.as_str())
            .bind(plugin.as_str())
            .bind(version.to_string())
            .fetch_optional(&self.browse)
            .await?;
        let Some(row) = row else { return Ok(PluginUsage::default()) };
        let count = |at: usize| {
            let count: i64 = row.try_get(at)?;
            u64::try_from(count).map_err(|_| unreadable("plugin_usage", "calls and what follows", &version.to_string()))
        };
        let mut usage = PluginUsage {
            calls: count(0)?,
            cpu: Duration::from_micros(count(1)?),
            memory_peak_bytes: count(2)?,
            failures: HashMap::new(),
        };
        for (at, kind) in FailureKind::ALL.into_iter().enumerate() {
            let failed = count(3 + at)?;
            if failed > 0 {
                usage.failures.insert(kind, failed);
            }
        }
        Ok(usage)
    }
}

/// Every call for a delivery, in the order they were made.
pub(super) async fn runs(
    connection: &mut AnyConnection,
    tenant: &TenantId,
    id: &str,
) -> Result<Vec<RunRecord>, StoreError> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as(RUNS).bind(tenant.as_str()).bind(id).fetch_all(&mut *connection).await?;
    let mut records = Vec::new();
    for (attempt, runs) in rows {
        let attempt = u32::try_from(attempt).map_err(|_| unreadable("plugin_runs", "attempt", id))?;
        let runs: Vec<Run> = serde_json::from_str(&runs).map_err(|_| unreadable("plugin_runs", "runs", id))?;
        records.extend(runs.into_iter().map(|run| RunRecord { attempt, run }));
    }
    Ok(records)
}

/// Stores what plugins did and decided, where any ran.
pub(super) async fn record(connection: &mut AnyConnection, finished: &[&Finished]) -> Result<(), StoreError> {
    let decided: Vec<&Finished> = finished.iter().filter(|finished| to_record(finished)).copied().collect();
    if decided.is_empty() {
        return Ok(());
    }
    mark_deliveries(connection, &decided).await?;
    let ran: Vec<(&Leased, &Ran)> =
        decided.iter().filter_map(|finished| Some((&finished.leased, finished.plugins.as_ref()?))).collect();
    insert_runs(connection, &ran).await?;
    add_usage(connection, &ran).await
}

/// Whether plugins have done anything.
pub(super) fn to_record(finished: &Finished) -> bool {
    finished.plugins.is_some() || finished.reason.is_some()
}

/// About how much memory and room it takes.
pub(super) fn size_bytes(ran: &Ran) -> usize {
    let of_run = |run: &Run| {
        let decision = match &run.decision {
            Decision::Deliver => 0,
            Decision::Drop { reason } => reason.len(),
            Decision::Failed { error } => error.message.len(),
        };
        let log: usize = run.log.iter().map(|line| size_of_val(line) + line.level.len() + line.message.len()).sum();
        size_of_val(run) + decision + log
    };
    let headers = |(name, value): (&str, &str)| name.len() + value.len();
    let of_output =
        ran.output.as_ref().map_or(0, |output| output.body.len() + output.headers.iter().map(headers).sum::<usize>());
    ran.runs.iter().map(of_run).sum::<usize>() + of_output
}

async fn mark_deliveries(connection: &mut AnyConnection, decided: &[&Finished]) -> Result<(), StoreError> {
    static UPDATE: LazyLock<Sized> = LazyLock::new(|| {
        let head = "UPDATE deliveries SET state_reason = v.column3,
                        transformed = CASE WHEN v.column4 = 1 THEN 1 ELSE deliveries.transformed END
                    FROM (VALUES";
        let tail = ") AS v WHERE deliveries.tenant_id = v.column1 AND deliveries.id = v.column2";
        Sized::new(head, 4, tail)
    });
    for (mut query, decided) in UPDATE.over(Kind::of(connection), decided) {
        for Finished { leased, plugins, reason, .. } in decided {
            let transformed = plugins.as_ref().is_some_and(|ran| ran.output.is_some());
            query = query
                .bind(leased.tenant.to_string())
                .bind(leased.id.to_string())
                .bind(reason.clone())
                .bind(i64::from(transformed));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert_runs(connection: &mut AnyConnection, ran: &[(&Leased, &Ran)]) -> Result<(), StoreError> {
    static UPSERT: LazyLock<Sized> = LazyLock::new(|| {
        let head = "INSERT INTO plugin_runs (tenant_id, delivery_id, attempt, runs, headers, body) VALUES";
        // A drop makes no attempt: after a retry by hand the next one has its number.
        let tail = "ON CONFLICT (tenant_id, delivery_id, attempt)
                    DO UPDATE SET runs = excluded.runs, headers = excluded.headers, body = excluded.body";
        Sized::new(head, 6, tail)
    });
    let mut rest = ran;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, ran): &&(&Leased, &Ran)| {
            bytes += size_bytes(ran);
            bytes <= STATEMENT_BYTES
        };
        let (these, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = later;
        for (mut query, ran) in UPSERT.over(Kind::of(connection), these) {
            for (leased, ran) in ran {
                let headers = ran.output.as_ref().map(|output| output.headers.iter().collect::<Vec<_>>());
                let body = ran.output.as_ref().map(|output| &output.body).filter(|body| **body != leased.body);
                query = query
                    .bind(leased.tenant.to_string())
                    .bind(leased.id.to_string())
                    .bind(i64::from(leased.delivery.attempts()) + 1)
                    .bind(serde_json::to_string(&ran.runs).expect("texts and numbers are JSON"))
                    .bind(headers.map(|headers| serde_json::to_string(&headers).expect("texts are JSON")))
                    .bind(body.map(|body| body.to_vec()));
            }
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Adds to what is known of each version that still exists.
async fn add_usage(connection: &mut AnyConnection, ran: &[(&Leased, &Ran)]) -> Result<(), StoreError> {
    static UPSERT: LazyLock<Sized> = LazyLock::new(|| {
        let failures = FailureKind::ALL.map(FailureKind::name);
        let sum = |column: &str| format!("{column} = plugin_usage.{column} + excluded.{column}");
        let sums: Vec<String> = ["calls", "cpu_us"].iter().chain(&failures).map(|column| sum(column)).collect();
        let head = format!(
            "INSERT INTO plugin_usage (tenant_id, plugin, version, memory_peak_bytes, calls, cpu_us, {})
             SELECT v.* FROM (VALUES",
            failures.join(", ")
        );
        let tail = format!(
            ") AS v WHERE EXISTS (
                 SELECT 1 FROM plugin_versions p
                 WHERE p.tenant_id IN (v.column1, '') AND p.plugin = v.column2 AND p.version = v.column3)
             ON CONFLICT (tenant_id, plugin, version) DO UPDATE SET {},
                 memory_peak_bytes = CASE WHEN excluded.memory_peak_bytes > plugin_usage.memory_peak_bytes
                     THEN excluded.memory_peak_bytes ELSE plugin_usage.memory_peak_bytes END",
            sums.join(", ")
        );
        Sized::new(&head, 6 + failures.len(), &tail)
    });
    let mut usage: HashMap<(&TenantId, &PluginName, Version), PluginUsage> = HashMap::new();
    for (leased, run) in ran.iter().flat_map(|(leased, ran)| ran.runs.iter().map(|run| (*leased, run))) {
        let usage = usage.entry((&leased.tenant, &run.plugin, run.version)).or_default();
        usage.calls += 1;
        usage.cpu += run.cpu;
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(run.memory_bytes);
        if let Decision::Failed { error } = &run.decision {
            *usage.failures.entry(error.kind).or_default() += 1;
        }
    }
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut usage: Vec<_> = usage.into_iter().collect();
    // Always in the same order: two writers that lock the same rows must not wait for each other.
    usage.sort_unstable_by_key(|(of, _)| *of);
    for (mut query, usage) in UPSERT.over(Kind::of(connection), &usage) {
        for ((tenant, plugin, version), usage) in usage {
            query = query
                .bind(tenant.to_string())
                .bind(plugin.to_string())
                .bind(version.to_string())
                .bind(integer(usage.memory_peak_bytes))
                .bind(integer(usage.calls))
                .bind(i64::try_from(usage.cpu.as_micros()).unwrap_or(i64::MAX));
            for kind in FailureKind::ALL {
                query = query.bind(integer(usage.failures.get(&kind).copied().unwrap_or(0)));
            }
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
