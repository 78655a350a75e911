//! Label selectors: the text grammar of `labelSelector` parameters and the object form of specs (`metav1.LabelSelector`).
//!
//! Both become one [`Selector`], a conjunction of requirements sorted by key.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::names;

/// More requirements than this are refused: each costs per object of a list.
pub const REQUIREMENTS_MAX: usize = 256;

/// What an object's labels must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All of these; without requirements it matches everything.
    All(Vec<Requirement>),
    /// Nothing matches (an absent object-form selector).
    Nothing,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted; one value for the comparing operators, none for the existence operators.
    pub values: BTreeSet<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// Why a text or object is no label selector; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LabelSelectorError(pub String);

impl Selector {
    /// Matches everything.
    pub const EVERYTHING: Self = Self::All(Vec::new());

    /// Parses the text of a `labelSelector` parameter.
    ///
    /// # Errors
    /// The caller's mistake, for a 400 answer.
    pub fn parse(text: &str) -> Result<Self, LabelSelectorError> {
        parse::parse(text).map(Self::sorted)
    }

    /// Reads the object form; `null` (absent) matches nothing, an empty object everything.
    ///
    /// # Errors
    /// An unknown operator or a malformed key or value.
    pub fn from_value(value: &Value) -> Result<Self, LabelSelectorError> {
        let Value::Object(selector) = value else { return Ok(Self::Nothing) };
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            requirements.push(Requirement::checked(key, Operator::Equals, [value.to_owned()].into())?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(Requirement::from_expression(expression)?);
        }
        Ok(Self::sorted(requirements))
    }

    /// Reads a plain map of labels, as in a Service's `spec.selector`.
    pub fn from_map(map: &Map<String, Value>) -> Self {
        let requirement = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: [value.as_str().unwrap_or_default().to_owned()].into(),
        };
        Self::sorted(map.iter().map(requirement).collect())
    }

    /// Reports whether everything matches.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    /// Returns the requirements; none when nothing matches.
    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::All(requirements) => requirements,
            Self::Nothing => &[],
        }
    }

    /// Reports whether labels match, given a look-up by key.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::All(requirements) => {
                requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
            }
            Self::Nothing => false,
        }
    }

    /// Reports whether the labels of an object (`metadata.labels`, possibly absent) match.
    pub fn matches_value(&self, labels: Option<&Value>) -> bool {
        let labels = labels.and_then(Value::as_object);
        self.matches_with(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
    }

    /// Reports whether the labels of a typed object match.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_with(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
    }

    fn sorted(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self::All(requirements)
    }
}

impl Requirement {
    /// Builds a requirement after checking key and values.
    fn checked(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, LabelSelectorError> {
        check_key(key)?;
        for (index, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err()
            {
                return Err(LabelSelectorError(format!(
                    "values[{index}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    quote(value)
                )));
            }
            if let Some(text) = names::label_value(value).first() {
                return Err(LabelSelectorError(format!(
                    "values[{index}][{key}]: Invalid value: {}: {text}",
                    quote(value)
                )));
            }
        }
        Ok(Self { key: key.to_owned(), operator, values })
    }

    fn from_expression(expression: &Value) -> Result<Self, LabelSelectorError> {
        let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(LabelSelectorError(format!(
                    "{} is not a valid label selector operator",
                    quote(other)
                )));
            }
        };
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
        Self::checked(text("key"), operator, values)
    }

    /// Reports whether a label with this value (`None` when absent) satisfies the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::Equals | Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotEquals | Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compares(value, |label, bound| label > bound),
            Operator::LessThan => self.compares(value, |label, bound| label < bound),
        }
    }

    fn compares(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        match (number(value), number(self.values.first().map(String::as_str))) {
            (Some(label), Some(bound)) => holds(label, bound),
            _ => false,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = || self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::Equals => write!(f, "{key}={}", values()),
            Operator::NotEquals => write!(f, "{key}!={}", values()),
            Operator::In => write!(f, "{key} in ({})", values()),
            Operator::NotIn => write!(f, "{key} notin ({})", values()),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{}", values()),
            Operator::LessThan => write!(f, "{key}<{}", values()),
        }
    }
}

fn check_key(key: &str) -> Result<(), LabelSelectorError> {
    match names::qualified_name(key).as_slice() {
        [] => Ok(()),
        findings => {
            Err(LabelSelectorError(format!("<nil>: Invalid value: {}: {}", quote(key), findings.join("; "))))
        }
    }
}

/// Quotes as Go's `%q` does for the characters that occur here.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn object_form_follows_its_two_halves() {
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}],
        });
        let selector = Selector::from_value(&selector).unwrap();
        assert!(selector.matches_value(Some(&json!({"app": "web"}))));
        assert!(!selector.matches_value(Some(&json!({"app": "web", "tier": "db"}))));
        assert!(!selector.matches_value(None));
        assert_eq!(selector.to_string(), "app=web,tier notin (db)");
    }

    #[test]
    fn absent_matches_nothing_and_empty_matches_everything() {
        assert!(!Selector::from_value(&Value::Null).unwrap().matches_value(Some(&json!({"a": "b"}))));
        assert!(Selector::from_value(&json!({})).unwrap().matches_value(None));
    }

    #[test]
    fn unknown_operators_are_refused() {
        let error = Selector::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}))
            .unwrap_err();
        assert_eq!(error.to_string(), "\"Like\" is not a valid label selector operator");
    }
}
