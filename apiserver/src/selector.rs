//! Both selectors of a request, applied to objects of a kind.

use proto::api::fields::Selector as FieldSelector;
use proto::api::labels::Selector as LabelSelector;

use crate::object;
use crate::registry::{Kind, Object};

/// Label and field selector; both must match.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
}

impl Default for Selector {
    fn default() -> Self {
        Self { labels: LabelSelector::EVERYTHING, fields: FieldSelector::default() }
    }
}

impl Selector {
    /// Parses both; the error is upstream's text.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, String> {
        let labels = LabelSelector::parse(labels).map_err(|error| error.to_string())?;
        let fields = FieldSelector::parse(fields).map_err(|error| error.to_string())?;
        let known = kind.strategy.selectable_fields(&Object::new());
        for term in fields.terms() {
            let field = term.field.as_str();
            let selectable = matches!(field, "metadata.name" | "metadata.namespace")
                || known.iter().any(|(name, _)| *name == field);
            if !selectable {
                return Err(format!("field label not supported: {field}"));
            }
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, kind: &Kind, object: &Object) -> bool {
        if !self.labels.matches_value(object::metadata(object).and_then(|metadata| metadata.get("labels"))) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let own = kind.strategy.selectable_fields(object);
        self.fields.matches(|field| match field {
            "metadata.name" => Some(object::name(object)),
            "metadata.namespace" => Some(object::namespace(object)),
            field => own.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str()),
        })
    }
}
