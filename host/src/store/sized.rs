//! Statements over many rows at once, in a few sizes.

use std::sync::Arc;

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use super::database::Kind;

/// Rows of one statement. Few statements are ever prepared: the driver keeps 100 of them for a connection to SQLite, and on
/// PostgreSQL each costs the way there and back.
const ROWS: &[usize] = &[ROWS_LIMIT, 128, 64, 32, 16, 8, 4, 2, 1];
/// The most.
pub(super) const ROWS_LIMIT: usize = 256;

pub(super) type Bound = Query<'static, Any, AnyArguments>;

/// What a column of a statement's rows holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    Text,
    Integer,
    Binary,
}

/// One statement in all its sizes.
pub(super) struct Sized {
    sqlite: Vec<(usize, Arc<str>)>,
    postgres: Vec<(usize, Arc<str>)>,
    /// Of the rows of NULLs that fill a statement up; empty: it takes none.
    padding: Vec<Column>,
}

impl Sized {
    /// `head` and `tail` around as many rows of `columns` values as wanted.
    pub(super) fn new(head: &str, columns: usize, tail: &str) -> Self {
        let text = |kind: Kind| move |rows: usize| format!("{head} {} {tail}", values(kind, columns, rows));
        Self::of(text(Kind::Sqlite), text(Kind::Postgres), Vec::new())
    }

    /// The same, where rows of NULLs change nothing: few rows fill a larger statement up with them, so that they take one
    /// statement and not several, each of which is passed from thread to thread or over the network.
    pub(super) fn padded(head: &str, columns: &[Column], tail: &str) -> Self {
        Self { padding: columns.to_vec(), ..Self::new(head, columns.len(), tail) }
    }

    /// From the texts for each number of rows.
    pub(super) fn of(
        sqlite: impl Fn(usize) -> String,
        postgres: impl Fn(usize) -> String,
        padding: Vec<Column>,
    ) -> Self {
        Self {
            sqlite: ROWS.iter().map(|rows| (*rows, or_fail(&sqlite(*rows)).into())).collect(),
            postgres: ROWS.iter().map(|rows| (*rows, postgres(*rows).into())).collect(),
            padding,
        }
    }

    /// The smallest with room for so many rows, and its size.
    pub(super) fn fitting(&self, kind: Kind, rows: usize) -> (Bound, usize) {
        let texts = self.texts(kind);
        let (size, text) = texts.iter().rev().find(|(size, _)| *size >= rows).expect("at most ROWS_LIMIT");
        (sqlx::query(AssertSqlSafe(text.clone())), *size)
    }

    /// `rows` cut into the sizes there are, each with its statement, to which the padding is bound already.
    pub(super) fn over<'s, 'r, T>(
        &'s self,
        kind: Kind,
        mut rows: &'r [T],
    ) -> impl Iterator<Item = (Bound, &'r [T])> + use<'s, 'r, T> {
        let texts = self.texts(kind);
        std::iter::from_fn(move || {
            if rows.is_empty() {
                return None;
            }
            let (largest, smallest) = (&texts[0], || texts.iter().rev().find(|(size, _)| *size >= rows.len()));
            let (size, text) = match self.padding.is_empty() {
                true => texts.iter().find(|(size, _)| *size <= rows.len()).expect("one row is a size"),
                false => smallest().unwrap_or(largest),
            };
            let (these, rest) = rows.split_at(rows.len().min(*size));
            rows = rest;
            let query = sqlx::query(AssertSqlSafe(text.clone()));
            Some((pad(query, &self.padding, size - these.len()), these))
        })
    }

    fn texts(&self, kind: Kind) -> &[(usize, Arc<str>)] {
        match kind {
            Kind::Sqlite => &self.sqlite,
            Kind::Postgres => &self.postgres,
        }
    }
}

/// The same, but left half done should it fail: its transaction is rolled back as a whole anyway, and SQLite need not keep a journal to
/// undo this statement alone (<https://www.sqlite.org/lang_conflict.html>).
fn or_fail(text: &str) -> String {
    text.replace("INSERT INTO ", "INSERT OR FAIL INTO ").replace("UPDATE deliveries ", "UPDATE OR FAIL deliveries ")
}

/// So many rows of parameters, as they stand after `VALUES`.
pub(super) fn values(kind: Kind, columns: usize, rows: usize) -> String {
    match kind {
        // Not `$1`: SQLite finds a parameter with a name by going through all names.
        Kind::Sqlite => rows_of(|_| "?".to_owned(), columns, rows),
        Kind::Postgres => values_after(0, columns, rows),
    }
}

/// The same on PostgreSQL, after so many other parameters.
pub(super) fn values_after(taken: usize, columns: usize, rows: usize) -> String {
    rows_of(|number| format!("${}", taken + number), columns, rows)
}

fn rows_of(value: impl Fn(usize) -> String, columns: usize, rows: usize) -> String {
    let row = |row: usize| (1..=columns).map(|column| value(row * columns + column)).collect::<Vec<_>>().join(", ");
    let rows: Vec<String> = (0..rows).map(|number| format!("({})", row(number))).collect();
    rows.join(", ")
}

/// Binds so many rows of NULLs.
pub(super) fn pad(mut query: Bound, columns: &[Column], rows: usize) -> Bound {
    for column in (0..rows).flat_map(|_| columns) {
        query = match column {
            Column::Text => query.bind(None::<String>),
            Column::Integer => query.bind(None::<i64>),
            Column::Binary => query.bind(None::<Vec<u8>>),
        };
    }
    query
}
