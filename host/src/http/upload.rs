//! Uploading a version of a plugin: the component is compiled and checked while the caller waits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::channel::Channel;
use quick_cache::sync::Cache;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{ForTenant, PathId};
use super::body;
use super::problem::{FieldError, Problem, ProblemBody};
use crate::domain::id::TenantId;
use crate::domain::plugin::{PluginName, Version};
use crate::plugins::Refused;
use crate::store::PluginError;

/// Uploads held in memory at once, and of one tenant; others wait for a while and are then told to come again.
const UPLOADS: usize = 8;
const UPLOADS_OF_A_TENANT: usize = 1;
const PATIENCE: Duration = Duration::from_secs(60);
/// Tenants whose uploads are counted; beyond it those longest without one are counted anew.
const TENANTS_COUNTED: usize = 10_000;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);
const LINES: &str = "application/x-ndjson";

/// The right to upload, as long as it is kept.
pub(super) type Turn = [OwnedSemaphorePermit; 2];

/// Who may upload now.
pub(super) struct Uploads {
    all: Arc<Semaphore>,
    of_tenants: Cache<TenantId, Arc<Semaphore>>,
}

impl Uploads {
    pub(super) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(UPLOADS)), of_tenants: Cache::new(TENANTS_COUNTED) }
    }

    /// The tenant's turn first: its own crowd must not take the others' places.
    async fn turn(&self, tenant: &TenantId) -> Result<Turn, Problem> {
        let fresh = || Ok::<_, Infallible>(Arc::new(Semaphore::new(UPLOADS_OF_A_TENANT)));
        let Ok(of_tenant) = self.of_tenants.get_or_insert_with(tenant, fresh);
        let acquire = async |turns: Arc<Semaphore>| turns.acquire_owned().await.expect("never closed");
        let turns = async { [acquire(of_tenant).await, acquire(self.all.clone()).await] };
        tokio::time::timeout(PATIENCE, turns).await.map_err(|_| Problem::Unavailable)
    }
}

/// A version that was uploaded.
#[derive(Serialize, ToSchema)]
pub(super) struct Uploaded {
    /// The SHA-256 of the component: its name in paths and attachments.
    #[schema(value_type = String, example = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    pub(super) version: Version,
    /// Of the component.
    pub(super) size_bytes: usize,
    /// False: these bytes were there already.
    pub(super) created: bool,
}

/// A line of an upload's progress; the last has another `state` than `compiling`.
#[derive(Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Progress {
    /// It is being compiled and checked.
    Compiling { elapsed_ms: u64 },
    /// It is a version now.
    Ready(Uploaded),
    /// It is refused: `problem` is what the request without `Accept: application/x-ndjson` is answered.
    Refused { problem: ProblemBody },
}

/// Uploads a component as a version of a plugin: compiles and checks it.
///
/// The same bytes twice are one version. Compiling takes from milliseconds (Rust) to about ten seconds (JavaScript, Python),
/// one component of a tenant at a time. With `Accept: application/x-ndjson` the answer is 200 and tells of the progress each
/// second, a JSON object a line: `{"state":"compiling","elapsed_ms"}`, at last `{"state":"ready","version",…}` or
/// `{"state":"refused","problem":{…}}`.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/plugins/{plugin}/versions", tag = "plugins", params(("tenant" = String, Path), ("plugin" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The component; at most 16 MiB, 32 MiB with its language's engine inside"), responses(
    (status = 201, body = Uploaded), (status = 200, body = Uploaded, description = "These bytes were there already; or the lines of progress"),
    (status = 401, body = ProblemBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "A built-in plugin, or a limit on versions is reached"), (status = 413, body = ProblemBody),
    (status = 415, body = ProblemBody), (status = 422, body = ProblemBody, description = "Not a plugin, or over a limit; says why"), (status = 503, body = ProblemBody)
))]
pub(super) async fn upload(
    State(state): State<AppState>,
    ForTenant(tenant): ForTenant,
    PathId(plugin): PathId<PluginName>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let admitted = if names(&headers, header::CONTENT_TYPE, "application/wasm") {
        admit(&state, &tenant, &plugin).await
    } else {
        Err(Problem::UnsupportedMediaType)
    };
    let turn = match admitted {
        Ok(turn) => turn,
        Err(refused) => {
            body::discard(request).await;
            return Err(refused);
        }
    };
    let component = body::read_any(request, state.chain.plugins().settings().upload_with_engine).await?;
    let take = async move {
        let _turn = turn;
        take(&state, &tenant, &plugin, component).await
    };
    if names(&headers, header::ACCEPT, LINES) {
        return Ok(told(take));
    }
    let uploaded = take.await?;
    let status = if uploaded.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(uploaded)).into_response())
}

/// What can be said without the component.
pub(super) async fn admit(state: &AppState, tenant: &TenantId, plugin: &PluginName) -> Result<Turn, Problem> {
    match state.store.plugin(tenant, plugin).await? {
        None => Err(Problem::NotFound),
        Some(found) if found.built_in => Err(PluginError::BuiltIn.into()),
        Some(_) => state.uploads.turn(tenant).await,
    }
}

fn names(headers: &HeaderMap, header: HeaderName, kind: &str) -> bool {
    let value = headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split([';', ',']).any(|value| value.trim().eq_ignore_ascii_case(kind))
}

/// Compiles, checks and stores the component.
pub(super) async fn take(
    state: &AppState,
    tenant: &TenantId,
    plugin: &PluginName,
    component: Bytes,
) -> Result<Uploaded, Problem> {
    let ready = state.chain.plugins().check(tenant, &component).await?;
    let size_bytes = component.len();
    let (_, created) = state.store.add_version(tenant, plugin, component).await?;
    Ok(Uploaded { version: ready.version(), size_bytes, created })
}

/// The answer in lines of progress. Ends the work when the caller goes away.
fn told(work: impl Future<Output = Result<Uploaded, Problem>> + Send + 'static) -> Response {
    let (mut lines, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        let started = Instant::now();
        let mut work = std::pin::pin!(work);
        let last = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(PROGRESS) => {
                    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                    if lines.send_data(line(&Progress::Compiling { elapsed_ms })).await.is_err() {
                        return;
                    }
                }
            }
        };
        let last = last.map_or_else(|problem| Progress::Refused { problem: problem.body() }, Progress::Ready);
        // Whoever no longer listens has its version all the same.
        let _ = lines.send_data(line(&last)).await;
    });
    ([(header::CONTENT_TYPE, LINES)], Body::new(body)).into_response()
}

fn line(progress: &Progress) -> Bytes {
    let mut line = serde_json::to_vec(progress).expect("texts and numbers");
    line.push(b'\n');
    line.into()
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLarge { limit, .. } => Self::PayloadTooLarge(limit),
            Refused::Compiler(_) => Self::internal(&refused),
            Refused::Busy => Self::Unavailable,
            Refused::NotAComponent(_)
            | Refused::Invalid(_)
            | Refused::Import(_)
            | Refused::ContractVersion { .. }
            | Refused::Contract(_)
            | Refused::Limits(_)
            | Refused::CompileMemory(_)
            | Refused::CompileTime(_)
            | Refused::CompilerEnded(_)
            | Refused::ArtifactSize => Self::Unprocessable(FieldError::new("", refused)),
        }
    }
}
