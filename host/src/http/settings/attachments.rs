//! What is attached to an endpoint, all in one form.

use std::borrow::Cow;
use std::collections::HashMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::super::AppState;
use super::super::attachments::{self as api, NewAttachment};
use super::super::auth::PathId;
use super::super::endpoints::existing;
use super::super::problem::{FieldError, Problem};
use super::plugins::{all_plugins, example_settings, versions};
use super::session::{Submitted, Visitor};
use super::trials::typed_json;
use super::{OnPage, Page, PageError, Section, Shell, filters, with_status};
use crate::domain::id::EndpointId;
use crate::domain::json::indented;
use crate::domain::plugin::{ATTACHMENTS_LIMIT, Attachment, InvalidRollout, OnError, PluginName, SETTINGS_LIMIT};
use crate::store::{PluginRecord, VersionRecord};

/// The key of the row that adds an attachment.
const NEW: &str = "new";

#[derive(Template)]
#[template(path = "settings/attachments.html")]
struct AttachmentsPage {
    shell: Shell,
    endpoint: EndpointId,
    url: String,
    rows: Vec<Row>,
    /// Those that can be attached, by name.
    plugins: Vec<PluginRecord>,
    /// Of each plugin that a row has, the newest first.
    versions: HashMap<String, Vec<VersionRecord>>,
    /// What is wrong with all rows together.
    error: Option<FieldError>,
    saved: bool,
}

/// The form as it was sent: each field once a row, `remove` aside, which has the keys of the rows that go.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AttachmentsForm {
    row: Vec<String>,
    plugin: Vec<String>,
    version: Vec<String>,
    settings: Vec<String>,
    on_error: Vec<String>,
    percent: Vec<String>,
    baseline: Vec<String>,
    order: Vec<String>,
    remove: Vec<String>,
}

/// An attachment as it was typed.
struct Row {
    /// Tells it from the others, wherever the script moves it.
    key: String,
    /// Empty: nothing is added.
    plugin: String,
    /// Empty: the newest.
    version: String,
    settings: String,
    on_error: String,
    percent: String,
    baseline: String,
    order: String,
    remove: bool,
    error: Option<FieldError>,
}

/// An option of a list.
struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

pub(super) async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
) -> Page {
    attachments_page(&state, &visitor, id, None, false).await
}

pub(super) async fn save(
    State(state): State<AppState>,
    OnPage(PathId(id)): OnPage<PathId<EndpointId>>,
    submitted: Submitted<AttachmentsForm>,
) -> Page {
    let Submitted { visitor, form } = submitted;
    let mut rows = form.rows()?;
    match attach(&state, &visitor, id, &rows).await {
        Ok(()) => attachments_page(&state, &visitor, id, None, true).await,
        Err(problem) => {
            let error = problem.mendable()?;
            let at = at_row(&error.field, "rows").and_then(|(at, field)| Some((rows.get_mut(at)?, field.to_owned())));
            let error = match at {
                Some((row, field)) => {
                    row.error = Some(FieldError { field, rule: error.rule });
                    None
                }
                None => Some(error),
            };
            attachments_page(&state, &visitor, id, Some((rows, error)), false).await
        }
    }
}

/// `again` has the rows of a form that was not saved, and what is wrong with all of them.
async fn attachments_page(
    state: &AppState,
    visitor: &Visitor,
    id: EndpointId,
    again: Option<(Vec<Row>, Option<FieldError>)>,
    saved: bool,
) -> Page {
    let endpoint = existing(state, &visitor.tenant, id).await?;
    let status = if again.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let (rows, error) = again.unwrap_or_else(|| (stored(&endpoint.plugins), None));
    let plugins = all_plugins(state, visitor).await?;
    let versions = versions_of(state, visitor, &rows).await?;
    let (shell, url) = (visitor.shell(Section::Endpoints), endpoint.url.as_str().to_owned());
    with_status(status, AttachmentsPage { shell, endpoint: id, url, rows, plugins, versions, error, saved })
}

async fn versions_of(
    state: &AppState,
    visitor: &Visitor,
    rows: &[Row],
) -> Result<HashMap<String, Vec<VersionRecord>>, PageError> {
    let mut of_each = HashMap::new();
    for row in rows {
        let Ok(name) = row.plugin.parse::<PluginName>() else { continue };
        if !of_each.contains_key(&row.plugin) {
            of_each.insert(row.plugin.clone(), versions(state, visitor, &name).await?);
        }
    }
    Ok(of_each)
}

/// What is attached, and a row to add to it.
fn stored(attached: &[Attachment]) -> Vec<Row> {
    let mut rows: Vec<Row> = attached.iter().enumerate().map(|(at, attachment)| Row::of(at, attachment)).collect();
    if rows.len() < ATTACHMENTS_LIMIT {
        rows.push(Row::new(rows.len() + 1));
    }
    rows
}

/// Replaces what is attached by what the rows say; an error blames `rows[…]`.
async fn attach(state: &AppState, visitor: &Visitor, id: EndpointId, rows: &[Row]) -> Result<(), Problem> {
    let order = order(rows)?;
    let items: Vec<NewAttachment<'_>> = order.iter().map(|at| rows[*at].item(*at)).collect::<Result<_, _>>()?;
    api::attach(state, &visitor.tenant, id, items).await.map_err(|problem| match problem {
        Problem::Unprocessable(FieldError { field, rule }) => {
            let row = at_row(&field, "items").and_then(|(at, name)| Some(of_row(*order.get(at)?, name)));
            Problem::Unprocessable(FieldError { field: row.unwrap_or(field), rule })
        }
        other => other,
    })
}

/// The rows that stay, in the order they are to run: by their numbers. Of those with the same number one that was moved up to
/// it comes first, and one that was moved down to it last.
fn order(rows: &[Row]) -> Result<Vec<usize>, Problem> {
    let mut numbered = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.remove && !row.plugin.is_empty()) {
        let number: Result<usize, _> = row.order.trim().parse();
        let number = number.map_err(|_| refused(of_row(at, "order"), "must be a number"))?;
        numbered.push((number, number.cmp(&(at + 1)), at));
    }
    numbered.sort_unstable();
    Ok(numbered.into_iter().map(|(.., at)| at).collect())
}

/// Settings as they are shown to be changed: on lines of their own, unless whoever gave them chose the lines.
pub(super) fn editable(settings: &str) -> String {
    let lines = indented(settings);
    if settings.contains('\n') || lines.len() > SETTINGS_LIMIT { settings.to_owned() } else { lines }
}

impl AttachmentsForm {
    fn rows(self) -> Result<Vec<Row>, PageError> {
        let rows = self.row.len();
        let columns = [&self.plugin, &self.version, &self.settings, &self.on_error];
        let columns = columns.into_iter().chain([&self.percent, &self.baseline, &self.order]);
        if columns.map(Vec::len).any(|length| length != rows) {
            return Err(Problem::InvalidRequest(FieldError::new("", "each row must have all of its fields")).into());
        }
        let mut columns = [self.plugin, self.version, self.settings, self.on_error].map(Vec::into_iter);
        let [plugin, version, settings, on_error] = &mut columns;
        let mut columns = [self.percent, self.baseline, self.order].map(Vec::into_iter);
        let [percent, baseline, order] = &mut columns;
        let row = |key: String| {
            Some(Row {
                remove: self.remove.contains(&key),
                key,
                plugin: plugin.next()?,
                version: version.next()?,
                // Forms end lines as HTTP does.
                settings: settings.next()?.replace("\r\n", "\n"),
                on_error: on_error.next()?,
                percent: percent.next()?,
                baseline: baseline.next()?,
                order: order.next()?,
                error: None,
            })
        };
        Ok(self.row.into_iter().map_while(row).collect())
    }
}

impl Row {
    fn of(at: usize, attachment: &Attachment) -> Self {
        let rollout = attachment.rollout;
        Self {
            key: at.to_string(),
            plugin: attachment.plugin.to_string(),
            version: attachment.version.to_string(),
            settings: editable(&attachment.settings),
            on_error: attachment.on_error.name().to_owned(),
            percent: rollout.map(|rollout| rollout.percent().to_string()).unwrap_or_default(),
            baseline: rollout
                .and_then(|rollout| rollout.baseline)
                .map(|baseline| baseline.to_string())
                .unwrap_or_default(),
            order: (at + 1).to_string(),
            remove: false,
            error: None,
        }
    }

    fn new(order: usize) -> Self {
        Self {
            key: NEW.to_owned(),
            plugin: String::new(),
            version: String::new(),
            settings: String::new(),
            on_error: OnError::default().name().to_owned(),
            percent: String::new(),
            baseline: String::new(),
            order: order.to_string(),
            remove: false,
            error: None,
        }
    }

    fn item(&self, at: usize) -> Result<NewAttachment<'_>, Problem> {
        fn given(text: &str) -> Option<Cow<'_, str>> {
            (!text.is_empty()).then_some(Cow::Borrowed(text))
        }
        let percent = self.percent.trim();
        let percent = if percent.is_empty() { None } else { Some(percent.parse::<i64>()) };
        let on_error = OnError::named(&self.on_error);
        Ok(NewAttachment {
            plugin: Cow::Borrowed(&self.plugin),
            version: given(&self.version),
            settings: typed_json(&of_row(at, "settings"), &self.settings)?,
            on_error: on_error.ok_or_else(|| refused(of_row(at, "on_error"), "must be `retry`, `skip` or `drop`"))?,
            percent: percent.transpose().map_err(|_| refused(of_row(at, "percent"), InvalidRollout))?,
            baseline: given(&self.baseline),
        })
    }

    fn is_new(&self) -> bool {
        self.key == NEW
    }

    /// Whether it runs for some of the events only, or was meant to.
    fn is_rolled_out(&self) -> bool {
        !self.percent.is_empty() || !self.baseline.is_empty()
    }

    /// The rule that a field breaks.
    fn error_of(&self, field: &str) -> Option<&str> {
        self.error.as_ref().filter(|error| error.field == field).map(|error| error.rule.as_str())
    }
}

impl AttachmentsPage {
    /// The versions of a row's plugin, and the chosen one even where it is none of them.
    fn choices(&self, row: &Row, chosen: &str) -> Vec<Choice> {
        let known = self.versions.get(&row.plugin).map(Vec::as_slice).unwrap_or_default();
        let choice = |record: &VersionRecord| {
            let value = record.version.to_string();
            let digest: String = value.chars().take("sha256:".len() + 12).collect();
            let label = format!("{digest}, of {}", record.created_at.strftime("%b %-d, %H:%M UTC"));
            Choice { chosen: value == chosen, label, value }
        };
        let mut choices: Vec<Choice> = known.iter().map(choice).collect();
        if !chosen.is_empty() && choices.iter().all(|choice| !choice.chosen) {
            choices.push(Choice { value: chosen.to_owned(), label: chosen.to_owned(), chosen: true });
        }
        choices
    }

    /// What the settings of a row may look like.
    fn example(&self, row: &Row) -> &'static str {
        row.plugin.parse().map_or("{}", |plugin| example_settings(&plugin))
    }
}

fn of_row(at: usize, field: &str) -> String {
    format!("rows[{at}].{field}")
}

/// `list[at].field` taken apart.
fn at_row<'f>(field: &'f str, list: &str) -> Option<(usize, &'f str)> {
    let (at, name) = field.strip_prefix(list)?.strip_prefix('[')?.split_once("].")?;
    Some((at.parse().ok()?, name))
}

fn refused(field: String, rule: impl std::fmt::Display) -> Problem {
    Problem::Unprocessable(FieldError::new(field, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_goes_where_its_new_number_says() {
        let cases = [
            ("1 2 3", "012"),
            ("3 1 2", "120"),
            ("1 2 1", "201"),
            ("3 2 3", "120"),
            ("1 1 3", "102"),
            ("2 2 3", "102"),
            ("10 2 0", "210"),
        ];
        for (numbers, expected) in cases {
            let row = |number: &str| Row { plugin: "p".to_owned(), order: number.to_owned(), ..Row::new(1) };
            let rows: Vec<Row> = numbers.split(' ').map(row).collect();
            let order = order(&rows).unwrap().into_iter().map(|at| at.to_string()).collect::<String>();
            assert_eq!(order, expected, "{numbers}");
        }
        let removed = Row { remove: true, plugin: "p".to_owned(), order: "x".to_owned(), ..Row::new(1) };
        assert_eq!(order(&[removed, Row::new(2)]).unwrap(), [0; 0]);
    }
}
