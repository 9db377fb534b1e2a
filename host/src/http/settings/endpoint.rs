//! One endpoint: its state, its history, and what can be done with it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::super::AppState;
use super::super::auth::PathId;
use super::super::body::{Json, OptionalJson, Params};
use super::super::deliveries::{DeliveryParams, STATES};
use super::super::endpoints::{self as api, Enable, Recover, Rotate, Test};
use super::super::problem::{FieldError, Problem};
use super::chart::{Chart, Range};
use super::session::{Pressed, Submitted, Visitor};
use super::snippets::Snippet;
use super::{OnPage, Page, PageError, Section, Shell, filters, page};
use crate::domain::endpoint::{Endpoint, EndpointState, OVERLAP_LIMIT_S};
use crate::domain::id::EndpointId;
use crate::store::{DeliveryRecord, Held, LastAttempt};

/// Deliveries of one page of the history.
const DELIVERIES_SHOWN: &str = "25";

#[derive(Template)]
#[template(path = "settings/endpoint.html")]
struct EndpointPage {
    shell: Shell,
    endpoint: Arc<Endpoint>,
    notice: Option<Notice>,
    range: Range,
    chart: Chart,
    history: History,
    snippets: Vec<Snippet>,
}

/// What the visitor just did came to.
enum Notice {
    Tested(Test),
    /// Shown this once.
    NewSecret(String),
    Done(String),
    Refused(FieldError),
}

/// A page of the history, alone when the script asks what is new.
#[derive(Template)]
#[template(path = "settings/history.html")]
struct History {
    endpoint: EndpointId,
    filter: HistoryFilter,
    /// Why the filter cannot be used.
    error: Option<FieldError>,
    rows: Vec<HistoryRow>,
    /// Attempts that a delivery has at most.
    attempts_limit: usize,
    next_cursor: Option<String>,
}

struct HistoryRow {
    delivery: DeliveryRecord,
    last: Option<LastAttempt>,
}

/// Which part of the history; empty texts are as good as none.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct HistoryFilter {
    state: String,
    #[serde(rename = "type")]
    event_type: String,
    after: String,
    before: String,
    cursor: String,
    /// Of the chart beside it; empty: 24 hours.
    range: String,
}

pub(super) async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    OnPage(Params(filter)): OnPage<Params<HistoryFilter>>,
) -> Page {
    endpoint_page(&state, &visitor, id, filter, None).await
}

pub(super) async fn history(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    OnPage(Params(filter)): OnPage<Params<HistoryFilter>>,
) -> Page {
    api::existing(&state, &visitor.tenant, id).await?;
    page(History::read(&state, &visitor, id, filter).await?)
}

pub(super) async fn test(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<Pressed>,
) -> Page {
    let tested = api::test(State(state.clone()), submitted.visitor.acts(), PathId(id)).await;
    let notice = tested.map(|axum::Json(test)| Notice::Tested(test));
    after(&state, &submitted.visitor, id, notice).await
}

/// How to rotate.
#[derive(Deserialize)]
pub(super) struct RotateForm {
    overlap_seconds: String,
}

pub(super) async fn rotate_secret(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<RotateForm>,
) -> Page {
    let Submitted { visitor, form } = submitted;
    let rotated = match form.overlap_seconds.parse() {
        Ok(overlap_seconds) => {
            let rotate = OptionalJson(Rotate { overlap_seconds });
            api::rotate_secret(State(state.clone()), visitor.acts(), PathId(id), rotate).await
        }
        Err(_) => {
            let rule = format_args!("must be 0 to {OVERLAP_LIMIT_S}").to_string();
            Err(Problem::Unprocessable(FieldError::new("overlap_seconds", rule)))
        }
    };
    after(&state, &visitor, id, rotated.map(|axum::Json(rotated)| Notice::NewSecret(rotated.secret))).await
}

/// What becomes of what was held.
#[derive(Deserialize)]
pub(super) struct EnableForm {
    held: Held,
}

pub(super) async fn enable(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<EnableForm>,
) -> Page {
    let Submitted { visitor, form } = submitted;
    let enable = OptionalJson(Enable { held: Some(form.held) });
    let enabled = api::enable(State(state.clone()), visitor.acts(), PathId(id), enable).await;
    let done = match form.held {
        Held::Deliver => "Enabled. What was held is being delivered.",
        Held::Drop => "Enabled. What was held was dropped.",
    };
    after(&state, &visitor, id, enabled.map(|_| Notice::Done(done.to_owned()))).await
}

pub(super) async fn disable(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<Pressed>,
) -> Page {
    let disabled = api::disable(State(state.clone()), submitted.visitor.acts(), PathId(id)).await;
    let done = "Disabled. Its events are held until it is enabled.".to_owned();
    after(&state, &submitted.visitor, id, disabled.map(|_| Notice::Done(done))).await
}

/// Since when failed deliveries are sent again.
#[derive(Deserialize)]
pub(super) struct RecoverForm {
    /// As `datetime-local` controls write it, in UTC.
    since: String,
}

pub(super) async fn recover(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<RecoverForm>,
) -> Page {
    let Submitted { visitor, form } = submitted;
    let recover = Json(Recover { since: utc(&form.since) });
    let recovered = api::recover(State(state.clone()), visitor.acts(), PathId(id), recover).await;
    let notice = recovered.map(|(_, axum::Json(recovered))| {
        Notice::Done(match recovered.deliveries {
            0 => "No delivery has failed since then.".to_owned(),
            1 => "1 failed delivery is sent again.".to_owned(),
            deliveries => format!("{deliveries} failed deliveries are sent again."),
        })
    });
    after(&state, &visitor, id, notice).await
}

pub(super) async fn delete(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<Pressed>,
) -> Page {
    api::delete(State(state), submitted.visitor.acts(), PathId(id)).await?;
    Ok(Redirect::to("/settings/webhooks").into_response())
}

/// The endpoint's page, with what the visitor did to it.
async fn after(state: &AppState, visitor: &Visitor, id: EndpointId, notice: Result<Notice, Problem>) -> Page {
    let notice = match notice {
        Ok(notice) => notice,
        Err(problem) => Notice::Refused(problem.mendable()?),
    };
    endpoint_page(state, visitor, id, HistoryFilter::default(), Some(notice)).await
}

async fn endpoint_page(
    state: &AppState,
    visitor: &Visitor,
    id: EndpointId,
    filter: HistoryFilter,
    notice: Option<Notice>,
) -> Page {
    let endpoint = api::existing(state, &visitor.tenant, id).await?;
    let (now, range) = (state.store.now(), filter.range.parse().unwrap_or(Range::Day));
    let hours = state.store.hours_of_endpoint(&visitor.tenant, id, range.since(now)).await?;
    let history = History::read(state, visitor, id, filter).await?;
    page(EndpointPage {
        shell: visitor.shell(Section::Endpoints),
        notice,
        range,
        chart: Chart::new(&hours, now, range),
        history,
        snippets: Snippet::all(endpoint.url.as_str()),
        endpoint,
    })
}

impl History {
    async fn read(
        state: &AppState,
        visitor: &Visitor,
        endpoint: EndpointId,
        filter: HistoryFilter,
    ) -> Result<Self, PageError> {
        let attempts_limit = state.deliver.attempts_limit();
        let (stored, request, error) = match filter.params().parsed() {
            Ok((stored, request)) => (stored, request, None),
            Err(problem) => {
                let (stored, request) = HistoryFilter::default().params().parsed()?;
                (stored, request, Some(problem.mendable()?))
            }
        };
        let tenant = &visitor.tenant;
        let deliveries = state.store.deliveries_of_endpoint(tenant, endpoint, &stored, &request).await?;
        let mut last = state.store.last_attempts(tenant, &deliveries.items).await?;
        let row = |delivery: DeliveryRecord| HistoryRow { last: last.remove(&delivery.id), delivery };
        let rows = deliveries.items.into_iter().map(row).collect();
        let next_cursor = deliveries.next.map(|cursor| cursor.to_string());
        Ok(Self { endpoint, filter, error, rows, attempts_limit, next_cursor })
    }

    /// The query of the same part of the history from `cursor` on.
    fn query(&self, cursor: &str) -> String {
        let filter = &self.filter;
        let pairs = [
            ("state", &*filter.state),
            ("type", &filter.event_type),
            ("after", &filter.after),
            ("before", &filter.before),
            ("range", &filter.range),
            ("cursor", cursor),
        ];
        let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
    }
}

impl HistoryRow {
    /// `2 of 5`; a retry by hand begins anew, but goes on counting.
    fn attempt(&self, limit: &usize) -> String {
        let made = self.delivery.attempts;
        if usize::try_from(made).is_ok_and(|made| made <= *limit) {
            format!("{made}/{limit}")
        } else {
            made.to_string()
        }
    }
}

impl LastAttempt {
    fn excerpt(&self) -> String {
        String::from_utf8_lossy(self.response_excerpt.as_deref().unwrap_or_default()).into_owned()
    }
}

impl HistoryFilter {
    fn params(&self) -> DeliveryParams {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        DeliveryParams {
            state: given(&self.state),
            event_type: given(&self.event_type),
            after: given(&utc(&self.after)),
            before: given(&utc(&self.before)),
            limit: Some(DELIVERIES_SHOWN.to_owned()),
            cursor: given(&self.cursor),
        }
    }

    /// Whether it leaves out any.
    fn is_narrow(&self) -> bool {
        [&self.state, &self.event_type, &self.after, &self.before, &self.cursor]
            .into_iter()
            .any(|text| !text.is_empty())
    }

    /// Whether it shows the newest deliveries, those that come while one looks.
    fn is_live(&self) -> bool {
        self.cursor.is_empty() && self.before.is_empty()
    }
}

/// What a `datetime-local` control gives, which has no zone, as the RFC 3339 time that it is in UTC.
fn utc(text: &str) -> String {
    let local = text.trim();
    match local.len() {
        16 => format!("{local}:00Z"),
        19 => format!("{local}Z"),
        _ => local.to_owned(),
    }
}
