//! Matching of node selector terms: label expressions and the field `metadata.name`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::scheduler::snapshot::NodeInfo;

/// The only field that a term may name.
const NAME_FIELD: &str = "metadata.name";

/// Returns true when all requirements of a term hold. A term without any matches no node.
pub fn matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let mut expressions = term.match_expressions.iter().flatten().peekable();
    let mut fields = term.match_fields.iter().flatten().peekable();
    if expressions.peek().is_none() && fields.peek().is_none() {
        return false;
    }
    expressions.all(|requirement| holds(requirement, node.label(&requirement.key)))
        && fields.all(|requirement| requirement.key == NAME_FIELD && holds(requirement, Some(&node.name)))
}

/// Returns the nodes that a term names; `None` when it names none and any node could match.
pub fn named_nodes(term: &NodeSelectorTerm) -> Option<BTreeSet<String>> {
    let mut named: Option<BTreeSet<String>> = None;
    for field in term.match_fields.iter().flatten() {
        if field.key == NAME_FIELD && field.operator == "In" {
            let values: BTreeSet<String> = field.values.iter().flatten().cloned().collect();
            named = Some(match named {
                Some(earlier) => earlier.intersection(&values).cloned().collect(),
                None => values,
            });
        }
    }
    named
}

/// Returns true when `value`, absent or present, meets the requirement. Unknown operators are never met.
fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.iter().any(|allowed| allowed == value)),
        "NotIn" => value.is_none_or(|value| values.iter().all(|forbidden| forbidden != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(value, values).is_some_and(|(value, bound)| value > bound),
        "Lt" => compared(value, values).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Reads label and bound as integers; anything else compares as neither greater nor less.
fn compared(value: Option<&str>, values: &[String]) -> Option<(i64, i64)> {
    let [bound] = values else { return None };
    Some((value?.parse().ok()?, bound.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::fixtures::labelled_node;

    fn check(term: Value, expected: bool) {
        let node = labelled_node("n1", json!({ "zone": "a", "cores": "8", "word": "many" }));
        let parsed: NodeSelectorTerm = serde_json::from_value(term.clone()).unwrap();
        assert_eq!(matches(&parsed, &node), expected, "{term}");
    }

    fn label(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
    }

    fn field(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({ "matchFields": [{ "key": key, "operator": operator, "values": values }] })
    }

    #[test]
    fn every_operator_has_its_meaning() {
        check(label("zone", "In", &["b", "a"]), true);
        check(label("zone", "In", &["b"]), false);
        check(label("none", "In", &[""]), false);
        check(label("zone", "NotIn", &["b"]), true);
        check(label("zone", "NotIn", &["a"]), false);
        check(label("none", "NotIn", &["a"]), true);
        check(label("zone", "Exists", &[]), true);
        check(label("none", "Exists", &[]), false);
        check(label("zone", "DoesNotExist", &[]), false);
        check(label("none", "DoesNotExist", &[]), true);
        check(label("cores", "Gt", &["7"]), true);
        check(label("cores", "Gt", &["8"]), false);
        check(label("cores", "Lt", &["9"]), true);
        check(label("cores", "Lt", &["8"]), false);
        check(label("none", "Lt", &["8"]), false);
        check(label("word", "Gt", &["1"]), false);
        check(label("cores", "Gt", &["1", "2"]), false);
        check(label("zone", "Like", &["a"]), false);
    }

    #[test]
    fn fields_know_only_the_name() {
        check(field("metadata.name", "In", &["n1"]), true);
        check(field("metadata.name", "In", &["n2"]), false);
        check(field("metadata.name", "NotIn", &["n2"]), true);
        check(field("metadata.uid", "NotIn", &["n2"]), false);
    }

    #[test]
    fn a_term_needs_all_requirements_and_at_least_one() {
        check(json!({}), false);
        let mut both = label("zone", "In", &["a"]);
        both["matchFields"] = field("metadata.name", "In", &["n1"])["matchFields"].clone();
        check(both.clone(), true);
        both["matchExpressions"][0]["values"] = json!(["b"]);
        check(both, false);
    }
}
