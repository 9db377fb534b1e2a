//! The list of endpoints, and the form that makes and changes one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::super::auth::PathId;
use super::super::body::{Json, PageParams, Params};
use super::super::endpoints::{self as api, ChangeEndpoint, NewEndpoint};
use super::super::problem::{FieldError, Problem};
use super::super::{AppState, endpoints::CreatedEndpoint};
use super::chart::{self, Range};
use super::session::{Submitted, Visitor};
use super::snippets::Snippet;
use super::{OnPage, Page, Section, Shell, filters, page, with_status};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::EndpointId;
use crate::store::{DeliveryRecord, EventTypeRecord, Filter, PageRequest, Totals};

/// Endpoints of one page; each shows its last deliveries.
const ENDPOINTS_SHOWN: u32 = 25;
/// Deliveries that the list shows of each endpoint.
const DELIVERIES_SHOWN: u32 = 12;
/// Event types of the catalogue that a form offers.
const TYPES_OFFERED: u32 = 100;

#[derive(Template)]
#[template(path = "settings/endpoints.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    /// Whether this is not the first page.
    later: bool,
    next_cursor: Option<String>,
}

struct Row {
    endpoint: Endpoint,
    /// The newest first.
    last: Vec<DeliveryRecord>,
    /// Of the last 24 hours.
    attempts: Totals,
}

pub(super) async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(Params(params)): OnPage<Params<PageParams>>,
) -> Page {
    let request = PageRequest { limit: ENDPOINTS_SHOWN, cursor: params.request()?.cursor };
    let later = request.cursor.is_some();
    let endpoints = state.store.endpoints(&visitor.tenant, &request).await?;
    let mut totals = match (endpoints.items.first(), endpoints.items.last()) {
        (Some(first), Some(last)) => {
            let since = Range::Day.since(state.store.now());
            state.store.totals(&visitor.tenant, first.id, last.id, since).await?
        }
        _ => HashMap::new(),
    };
    let mut rows = Vec::with_capacity(endpoints.items.len());
    for endpoint in endpoints.items {
        let newest = PageRequest { limit: DELIVERIES_SHOWN, cursor: None };
        let filter = Filter::default();
        let last = state.store.deliveries_of_endpoint(&visitor.tenant, endpoint.id, &filter, &newest).await?;
        let attempts = totals.remove(&endpoint.id).unwrap_or_default();
        rows.push(Row { endpoint, last: last.items, attempts });
    }
    let next_cursor = endpoints.next.map(|cursor| cursor.to_string());
    page(ListPage { shell: visitor.shell(Section::Endpoints), rows, later, next_cursor })
}

/// The form of an endpoint as it was sent, or as it is shown.
#[derive(Default, Deserialize)]
pub(super) struct EndpointForm {
    url: String,
    description: String,
    /// `all` or `chosen`.
    types: String,
    #[serde(default)]
    event_types: Vec<String>,
    /// One `Name: value` a line.
    headers: String,
}

#[derive(Template)]
#[template(path = "settings/endpoint_form.html")]
struct FormPage {
    shell: Shell,
    /// The endpoint that is changed; `None`: a new one.
    endpoint: Option<EndpointId>,
    form: EndpointForm,
    types: Vec<OfferedType>,
    error: Option<FieldError>,
}

struct OfferedType {
    name: String,
    description: String,
    chosen: bool,
}

impl FormPage {
    /// The rule that a field breaks.
    fn error_of(&self, field: &str) -> Option<&str> {
        let error = self.error.as_ref()?;
        // `headers.x-team`, `event_types[0]`
        let blamed = error.field.split(['.', '[']).next().unwrap_or_default();
        (blamed == field).then_some(error.rule.as_str())
    }
}

#[derive(Template)]
#[template(path = "settings/endpoint_created.html")]
struct CreatedPage {
    shell: Shell,
    created: CreatedEndpoint,
    snippets: Vec<Snippet>,
}

pub(super) async fn new(State(state): State<AppState>, visitor: Visitor) -> Page {
    let form = EndpointForm { types: "all".to_owned(), ..EndpointForm::default() };
    form_page(&state, &visitor, None, form, None).await
}

pub(super) async fn create(State(state): State<AppState>, submitted: Submitted<EndpointForm>) -> Page {
    let Submitted { visitor, form } = submitted;
    let created = match form.new_endpoint() {
        Ok(new) => api::create(State(state.clone()), visitor.acts(), Json(new)).await,
        Err(error) => Err(error),
    };
    match created {
        Ok((status, axum::Json(created))) => {
            let snippets = Snippet::all(&created.endpoint.url);
            with_status(status, CreatedPage { shell: visitor.shell(Section::Endpoints), created, snippets })
        }
        Err(problem) => form_page(&state, &visitor, None, form, Some(problem.mendable()?)).await,
    }
}

pub(super) async fn edit(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
) -> Page {
    let endpoint = api::existing(&state, &visitor.tenant, id).await?;
    form_page(&state, &visitor, Some(id), EndpointForm::of(&endpoint), None).await
}

pub(super) async fn change(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<EndpointForm>,
) -> Page {
    let Submitted { visitor, form } = submitted;
    let changed = match form.new_endpoint() {
        Ok(new) => {
            let change = ChangeEndpoint {
                url: Some(new.url),
                description: Some(new.description),
                event_types: Some(new.event_types),
                headers: Some(new.headers),
            };
            api::change(State(state.clone()), visitor.acts(), PathId(id), Json(change)).await
        }
        Err(error) => Err(error),
    };
    match changed {
        Ok(_) => Ok(Redirect::to(&format!("/settings/webhooks/endpoints/{id}")).into_response()),
        Err(problem) => form_page(&state, &visitor, Some(id), form, Some(problem.mendable()?)).await,
    }
}

async fn form_page(
    state: &AppState,
    visitor: &Visitor,
    endpoint: Option<EndpointId>,
    form: EndpointForm,
    error: Option<FieldError>,
) -> Page {
    let catalogue = state.store.event_types(&PageRequest { limit: TYPES_OFFERED, cursor: None }).await?.items;
    let types = offered(catalogue, &form.event_types);
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let shell = visitor.shell(Section::Endpoints);
    with_status(status, FormPage { shell, endpoint, form, types, error })
}

/// The catalogue, and what was chosen of it once and has been retired since.
fn offered(catalogue: Vec<EventTypeRecord>, chosen: &[String]) -> Vec<OfferedType> {
    let known: BTreeSet<String> = catalogue.iter().map(|known| known.name.to_string()).collect();
    let retired = chosen.iter().filter(|name| !known.contains(*name)).map(|name| OfferedType {
        name: name.clone(),
        description: "retired: no new events of it come".to_owned(),
        chosen: true,
    });
    let retired: Vec<OfferedType> = retired.collect();
    let current = catalogue.into_iter().map(|known| OfferedType {
        chosen: chosen.iter().any(|name| name == known.name.as_str()),
        name: known.name.to_string(),
        description: known.description,
    });
    current.chain(retired).collect()
}

impl Row {
    /// The share of attempts that were answered 2xx.
    fn success(&self) -> String {
        match self.attempts.succeeded + self.attempts.failed {
            0 => "–".to_owned(),
            all => chart::percent(self.attempts.succeeded, all),
        }
    }
}

impl EndpointForm {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        let headers = endpoint.headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let types = endpoint.event_types.as_deref();
        Self {
            url: endpoint.url.as_str().to_owned(),
            description: endpoint.description.clone(),
            types: if types.is_some() { "chosen".to_owned() } else { "all".to_owned() },
            event_types: types.unwrap_or_default().iter().map(ToString::to_string).collect(),
            headers: headers.collect::<Vec<_>>().join("\n"),
        }
    }

    fn new_endpoint(&self) -> Result<NewEndpoint, Problem> {
        Ok(NewEndpoint {
            url: self.url.trim().to_owned(),
            description: self.description.trim().to_owned(),
            event_types: (self.types == "chosen").then(|| self.event_types.clone()),
            headers: header_lines(&self.headers)?,
        })
    }
}

fn header_lines(text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let refuse = |rule: String| Problem::Unprocessable(FieldError::new("headers", rule));
    let mut headers = BTreeMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let malformed = || refuse(format!("line {} must be `Name: value`", at + 1));
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        let name = name.trim().to_ascii_lowercase();
        if headers.insert(name.clone(), value.trim().to_owned()).is_some() {
            return Err(refuse(format!("`{name}` is given twice")));
        }
    }
    Ok(headers)
}
