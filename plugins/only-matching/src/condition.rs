use std::fmt;

use revnoxa_plugin::Pointer;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Values;
use crate::test::{Check, Test};

/// How deep conditions can be within each other.
const MAX_DEPTH: usize = 16;

/// How many tests a condition can have: each is compared with the keys of every object it leads into.
const MAX_TESTS: usize = 100;

/// What an event must be like to be let through.
#[derive(Deserialize)]
#[serde(try_from = "Text")]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test(Test),
}

impl Condition {
    pub(crate) fn parse(settings: &str) -> Result<Self, String> {
        let condition: Self = revnoxa_plugin::settings(settings)?;
        if condition.depth() > MAX_DEPTH {
            return Err(format!("settings: conditions are within each other more than {MAX_DEPTH} deep"));
        }
        match condition.fields().len() {
            0..=MAX_TESTS => Ok(condition),
            n => Err(format!("settings: {n} tests, at most {MAX_TESTS} are possible")),
        }
    }

    /// The field of every test.
    pub(crate) fn fields(&self) -> Vec<&Pointer> {
        match self {
            Self::All(conditions) | Self::Any(conditions) => conditions.iter().flat_map(Self::fields).collect(),
            Self::Not(condition) => condition.fields(),
            Self::Test(test) => vec![&test.field],
        }
    }

    /// Why the condition is not met, or `None` when it is.
    pub(crate) fn failure(&self, values: &Values) -> Option<String> {
        match self {
            Self::All(conditions) => conditions.iter().find_map(|condition| condition.failure(values)),
            Self::Any(conditions) => {
                let failures: Option<Vec<_>> = conditions.iter().map(|condition| condition.failure(values)).collect();
                Some(failures?.join(" and "))
            }
            Self::Not(condition) => match condition.failure(values) {
                Some(_) => None,
                None => Some(condition.to_string()),
            },
            Self::Test(test) => test.failure(&values[&test.field]),
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                1 + conditions.iter().map(Self::depth).max().unwrap_or_default()
            }
            Self::Not(condition) => 1 + condition.depth(),
            Self::Test(_) => 1,
        }
    }
}

/// Says that the condition is met.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let joined = |conditions: &[Self], word| conditions.iter().map(Self::to_string).collect::<Vec<_>>().join(word);
        match self {
            Self::All(conditions) => write!(f, "({})", joined(conditions, " and ")),
            Self::Any(conditions) => write!(f, "({})", joined(conditions, " or ")),
            Self::Not(condition) => write!(f, "not {condition}"),
            Self::Test(test) => test.fmt(f),
        }
    }
}

/// A condition as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    all: Option<Vec<Condition>>,
    any: Option<Vec<Condition>>,
    not: Option<Box<Condition>>,
    field: Option<Pointer>,
    #[serde(default, deserialize_with = "even_null")]
    equals: Option<Value>,
    one_of: Option<Vec<Value>>,
    exists: Option<bool>,
    #[serde(default, deserialize_with = "even_null")]
    contains: Option<Value>,
    greater_than: Option<f64>,
    at_least: Option<f64>,
    less_than: Option<f64>,
    at_most: Option<f64>,
}

impl TryFrom<Text> for Condition {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        let mut checks = [
            text.equals.map(Check::Equals),
            text.one_of.map(Check::OneOf),
            text.exists.map(Check::Exists),
            text.contains.map(Check::Contains),
            text.greater_than.map(Check::GreaterThan),
            text.at_least.map(Check::AtLeast),
            text.less_than.map(Check::LessThan),
            text.at_most.map(Check::AtMost),
        ]
        .into_iter()
        .flatten();
        let condition = match (text.all, text.any, text.not, text.field, checks.next()) {
            (Some(conditions), None, None, None, None) => Self::All(conditions),
            (None, Some(conditions), None, None, None) => Self::Any(conditions),
            (None, None, Some(condition), None, None) => Self::Not(condition),
            (None, None, None, Some(field), Some(check)) if checks.next().is_none() => {
                Self::Test(Test { field, check })
            }
            (None, None, None, Some(_), _) => {
                return Err("beside `field` there must be exactly one of `equals`, `one_of`, `exists`, `contains`, \
                            `greater_than`, `at_least`, `less_than`, `at_most`");
            }
            _ => return Err("a condition is exactly one of `all`, `any`, `not`, or a `field` with its test"),
        };
        match &condition {
            Self::All(conditions) | Self::Any(conditions) if conditions.is_empty() => {
                Err("`all` and `any` need at least one condition")
            }
            Self::Test(Test { check: Check::OneOf(values), .. }) if values.is_empty() => {
                Err("`one_of` needs at least one value")
            }
            _ => Ok(condition),
        }
    }
}

/// Reads `null` as a value, not as a missing one.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
