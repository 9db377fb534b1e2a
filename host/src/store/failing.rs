//! Endpoints that fail: since when, and when that is too long.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyConnection, Row};

use super::batch::Finished;
use super::database::Kind;
use super::sized::Column::{Integer, Text};
use super::sized::Sized;
use super::{StoreError, millis};
use crate::domain::id::{EndpointId, TenantId};
use crate::domain::outcome::{Outcome, SendError};

/// An endpoint that is to get no more.
struct Hopeless<'f> {
    tenant: &'f TenantId,
    endpoint: EndpointId,
    reason: String,
}

/// Endpoints noted at most; beyond it all are noted anew.
const NOTED: usize = 100_000;
/// How long an endpoint that goes on as it was noted needs no further note. Meanwhile another host, or whoever enabled it, may
/// have noted the contrary: so much too early or too late its time of failure begins. And so much later it may be disabled.
const NOTED_FOR: SignedDuration = SignedDuration::from_secs(60);

/// Endpoints whose row says whether they fail, as far as this host knows, and since when: most go on as they were, and then
/// there is nothing to write.
#[derive(Default)]
pub(super) struct Notes(Mutex<HashMap<EndpointId, Note>>);

struct Note {
    fails: bool,
    at: Timestamp,
}

impl Notes {
    /// Which of these endpoints fail. After the commit.
    pub(super) fn add(&self, endpoints: Vec<(EndpointId, bool)>, now: Timestamp) {
        if endpoints.is_empty() {
            return;
        }
        let mut notes = self.notes();
        if notes.len() + endpoints.len() > NOTED {
            notes.clear();
        }
        notes.extend(endpoints.into_iter().map(|(endpoint, fails)| (endpoint, Note { fails, at: now })));
    }

    /// After a commit that says for another reason that it does not fail.
    pub(super) fn forget(&self, endpoint: EndpointId) {
        self.notes().remove(&endpoint);
    }

    /// Whether none of these needs a note, nor ends what is known of its endpoint.
    pub(super) fn need_no_more<'f>(&self, mut finished: impl Iterator<Item = &'f Finished>, now: Timestamp) -> bool {
        let notes = self.notes();
        finished.all(|finished| {
            let says = |outcome: &Outcome| says(&notes, finished.leased.endpoint, !outcome.succeeded(), now);
            !finished.gone && asked(finished).is_none_or(says)
        })
    }

    /// Takes away what needs no note; what is known of the others holds no longer.
    fn news<'f>(
        &self,
        failing: BTreeMap<(&'f TenantId, EndpointId), bool>,
        now: Timestamp,
    ) -> Vec<((&'f TenantId, EndpointId), bool)> {
        let mut notes = self.notes();
        let is_news = |((_, endpoint), fails): &((&TenantId, EndpointId), bool)| {
            let is_news = !says(&notes, *endpoint, *fails, now);
            if is_news {
                notes.remove(endpoint);
            }
            is_news
        };
        failing.into_iter().filter(is_news).collect()
    }

    fn notes(&self) -> MutexGuard<'_, HashMap<EndpointId, Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is noted that an endpoint fails, or that it does not, and not too long ago.
fn says(notes: &HashMap<EndpointId, Note>, endpoint: EndpointId, fails: bool, now: Timestamp) -> bool {
    notes.get(&endpoint).is_some_and(|note| note.fails == fails && now.duration_since(note.at) < NOTED_FOR)
}

/// What came of looking at who fails.
#[derive(Default)]
pub(super) struct Judged {
    /// The new `endpoints_version` of each tenant that has an endpoint disabled.
    pub(super) disabled: Vec<(TenantId, i64)>,
    /// For [`Notes::add`].
    pub(super) noted: Vec<(EndpointId, bool)>,
}

/// Keeps account of who fails since when, and disables who failed too long or is gone.
pub(super) async fn judge(
    notes: &Notes,
    connection: &mut AnyConnection,
    finished: &[&Finished],
    now: Timestamp,
    disable_after: SignedDuration,
) -> Result<Judged, StoreError> {
    // In the order of their keys: two writers that lock the same rows must not wait for each other.
    let mut failing: BTreeMap<(&TenantId, EndpointId), bool> = BTreeMap::new();
    let mut hopeless = Vec::new();
    for (finished, outcome) in finished.iter().filter_map(|finished| Some((finished, asked(finished)?))) {
        let (tenant, endpoint) = (&finished.leased.tenant, finished.leased.endpoint);
        // One success among them will do.
        *failing.entry((tenant, endpoint)).or_insert(true) &= !outcome.succeeded();
        if finished.gone {
            hopeless.push(Hopeless { tenant, endpoint, reason: "the receiver answered 410 Gone".to_owned() });
        }
    }
    let account = notes.news(failing, now);
    let failing: Vec<(&TenantId, EndpointId)> = account.iter().filter(|(_, fails)| *fails).map(|(of, _)| *of).collect();
    let too_long = now.saturating_sub(disable_after).unwrap_or(Timestamp::MIN).as_millisecond();
    for at in failing_since(connection, &failing, too_long).await? {
        let (tenant, endpoint) = failing[at];
        let reason = format!("every attempt failed for {}", days_and_hours(disable_after));
        hopeless.push(Hopeless { tenant, endpoint, reason });
    }
    // The tenant before its endpoints, as every change does.
    let disabled = change_versions(connection, &hopeless).await?;
    mark(connection, &account, now).await?;
    disable(connection, &hopeless).await?;
    let noted = account.iter().map(|((_, endpoint), fails)| (*endpoint, *fails)).collect();
    Ok(Judged { disabled, noted })
}

async fn change_versions(
    connection: &mut AnyConnection,
    hopeless: &[Hopeless<'_>],
) -> Result<Vec<(TenantId, i64)>, StoreError> {
    let tenants: BTreeSet<&TenantId> = hopeless.iter().map(|hopeless| hopeless.tenant).collect();
    let mut versions = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let version: Option<i64> = sqlx::query_scalar(
            "UPDATE tenants SET endpoints_version = endpoints_version + 1 WHERE id = $1 RETURNING endpoints_version",
        )
        .bind(tenant.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        versions.extend(version.map(|version| (tenant.clone(), version)));
    }
    Ok(versions)
}

async fn disable(connection: &mut AnyConnection, hopeless: &[Hopeless<'_>]) -> Result<(), StoreError> {
    for hopeless in hopeless {
        sqlx::query(
            "UPDATE endpoints SET state = 'disabled', state_reason = $3
             WHERE tenant_id = $1 AND id = $2 AND state = 'active' AND deleted_at IS NULL",
        )
        .bind(hopeless.tenant.as_str())
        .bind(hopeless.endpoint.to_string())
        .bind(hopeless.reason.as_str())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Notes the beginning and the end of a time of failure.
async fn mark(
    connection: &mut AnyConnection,
    failing: &[((&TenantId, EndpointId), bool)],
    now: Timestamp,
) -> Result<(), StoreError> {
    static UPDATE: LazyLock<Sized> = LazyLock::new(|| {
        let head = "UPDATE endpoints SET failing_since = v.column3 FROM (VALUES";
        let tail =
            ") AS v WHERE endpoints.tenant_id = v.column1 AND endpoints.id = v.column2 AND endpoints.state = 'active'
                        AND (endpoints.failing_since IS NULL) <> (v.column3 IS NULL)";
        Sized::padded(head, &[Text, Text, Integer], tail)
    });
    for (mut query, failing) in UPDATE.over(Kind::of(connection), failing) {
        for ((tenant, endpoint), fails) in failing {
            query = query.bind(tenant.to_string()).bind(endpoint.to_string()).bind(fails.then(|| millis(now)));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Indexes of the active ones that have been failing since `since` or longer.
async fn failing_since(
    connection: &mut AnyConnection,
    endpoints: &[(&TenantId, EndpointId)],
    since: i64,
) -> Result<Vec<usize>, StoreError> {
    static SELECT: LazyLock<Sized> = LazyLock::new(|| {
        let head = "SELECT v.column3 FROM (VALUES";
        let tail =
            ") AS v CROSS JOIN endpoints e WHERE e.tenant_id = v.column1 AND e.id = v.column2 AND e.state = 'active'
                        AND e.failing_since <= v.column4";
        Sized::padded(head, &[Text, Text, Integer, Integer], tail)
    });
    let numbered: Vec<(usize, &(&TenantId, EndpointId))> = endpoints.iter().enumerate().collect();
    let mut indexes = Vec::new();
    for (mut query, endpoints) in SELECT.over(Kind::of(connection), &numbered) {
        for (index, (tenant, endpoint)) in endpoints {
            query = query.bind(tenant.to_string()).bind(endpoint.to_string()).bind(*index as i64).bind(since);
        }
        for row in query.fetch_all(&mut *connection).await? {
            let index: i64 = row.try_get(0)?;
            indexes.push(usize::try_from(index).expect("an index that we bound"));
        }
    }
    Ok(indexes)
}

/// What came of asking the receiver for an event; `None`: it was not asked, or for a test.
fn asked(finished: &Finished) -> Option<&Outcome> {
    let outcome = &finished.attempt.as_ref()?.outcome;
    let by_plugin = matches!(outcome.result, Err(SendError::Plugin(_)));
    (!by_plugin && !finished.leased.event_type.is_test()).then_some(outcome)
}

fn days_and_hours(duration: SignedDuration) -> String {
    match duration.as_hours() {
        0 => format!("{} minutes", duration.as_mins()),
        hours if hours % 24 == 0 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}
