use std::fmt;

use revnoxa_plugin::{Found, Pointer};
use serde_json::Value;

/// One look at one field. Met when any of the field's values meets it.
pub(crate) struct Test {
    pub(crate) field: Pointer,
    pub(crate) check: Check,
}

pub(crate) enum Check {
    Equals(Value),
    OneOf(Vec<Value>),
    Exists(bool),
    /// A part of a text, or an element of an array.
    Contains(Value),
    GreaterThan(f64),
    AtLeast(f64),
    LessThan(f64),
    AtMost(f64),
}

impl Test {
    /// Why none of the field's `values` meets the test; `None` when one does.
    pub(crate) fn failure(&self, values: &[Found]) -> Option<String> {
        let is_met = match self.check {
            Check::Exists(expected) => values.is_empty() != expected,
            _ => values.iter().any(|found| self.check.accepts(found.json)),
        };
        if is_met {
            None
        } else if values.is_empty() {
            Some(format!("{} is missing", self.field))
        } else {
            Some(self.sentence(false))
        }
    }

    fn sentence(&self, is_met: bool) -> String {
        let not = if is_met { "" } else { " not" };
        let field = &self.field;
        match &self.check {
            Check::Equals(value) => format!("{field} is{not} {value}"),
            Check::OneOf(values) => {
                let values: Vec<_> = values.iter().map(Value::to_string).collect();
                format!("{field} is{not} one of {}", values.join(", "))
            }
            Check::Exists(expected) if *expected == is_met => format!("{field} is there"),
            Check::Exists(_) => format!("{field} is missing"),
            Check::Contains(value) if is_met => format!("{field} contains {value}"),
            Check::Contains(value) => format!("{field} does not contain {value}"),
            Check::GreaterThan(number) => format!("{field} is{not} greater than {number}"),
            Check::AtLeast(number) => format!("{field} is{not} at least {number}"),
            Check::LessThan(number) => format!("{field} is{not} less than {number}"),
            Check::AtMost(number) => format!("{field} is{not} at most {number}"),
        }
    }
}

/// Says that the test is met.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.sentence(true))
    }
}

impl Check {
    fn accepts(&self, json: &str) -> bool {
        // A number beyond 64-bit floating point, as JSON allows it, is infinite here.
        let number = || json.parse::<f64>().ok();
        // Any other value that serde_json cannot hold equals nothing that settings can hold.
        let value = || serde_json::from_str::<Value>(json).ok();
        match self {
            Self::Equals(expected) => value().is_some_and(|value| same(&value, expected)),
            Self::OneOf(expected) => value().is_some_and(|value| expected.iter().any(|one| same(&value, one))),
            Self::Exists(expected) => *expected,
            Self::Contains(part) => value().is_some_and(|value| contains(&value, part)),
            Self::GreaterThan(limit) => number().is_some_and(|number| number > *limit),
            Self::AtLeast(limit) => number().is_some_and(|number| number >= *limit),
            Self::LessThan(limit) => number().is_some_and(|number| number < *limit),
            Self::AtMost(limit) => number().is_some_and(|number| number <= *limit),
        }
    }
}

fn contains(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::String(text), Value::String(part)) => text.contains(part),
        (Value::Array(elements), _) => elements.iter().any(|element| same(element, part)),
        _ => false,
    }
}

/// Equality that takes 1, 1.0 and 1e0 for the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
