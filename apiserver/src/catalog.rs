//! Kinds that the machinery itself needs by name.

use crate::registry::{Kind, catalog};

/// Finds a kind by group and plural, in the version that is stored.
pub(crate) fn stored_kind(group: &str, resource: &str) -> Option<&'static Kind> {
    catalog::all().iter().find(|kind| kind.group == group && kind.resource == resource)
}
