//! Order and special items of merged lists.

use serde_json::Value;

use super::{DIRECTIVE, PatchError, missing_key, refuse};
use crate::schema::MergeRule;

/// A patch list without the items that only steer.
pub(super) struct Special {
    /// Items to merge.
    pub items: Vec<Value>,
    /// Merge keys of items to delete.
    pub deleted: Vec<Value>,
    /// The list is replaced by `items`.
    pub replaces: bool,
}

/// Takes `$patch` items out of a patch list.
pub(super) fn take_special(patch: Vec<Value>, key: &str) -> Result<Special, PatchError> {
    let mut special = Special { items: Vec::new(), deleted: Vec::new(), replaces: false };
    for mut item in patch {
        let directive = item.as_object_mut().and_then(|object| object.remove(DIRECTIVE));
        match directive.as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
            None | Some("merge") => special.items.push(item),
            Some("replace") => special.replaces = true,
            Some("delete") => match item.as_object() {
                Some(object) => {
                    special.deleted.push(object.get(key).ok_or_else(|| missing_key(object, key))?.clone())
                }
                None => return Err(refuse("a directive stands in an item that is no map".to_owned())),
            },
            Some(other) => return Err(refuse(format!("unknown patch type: {other} in map: {item}"))),
        }
    }
    Ok(special)
}

/// Every item of a patch list must stand in `$setElementOrder`, in the same order.
pub(super) fn check_order(patch: &[Value], order: &[Value], rule: &MergeRule) -> Result<(), PatchError> {
    let mut rest = order.iter();
    let steers = |item: &Value| item.as_object().is_some_and(|item| item.contains_key(DIRECTIVE));
    for item in patch.iter().filter(|item| !steers(item)) {
        if !rest.any(|placed| same_item(placed, item, rule)) {
            let (patch, order) = (Value::from(patch), Value::from(order));
            return Err(refuse(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// Arranges merged items: those in `patch_order` in that order, the others in their order on the server; where both are known
/// to the server, a server-only item that stood before a patch item still does.
pub(super) fn arrange(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    rule: &MergeRule,
) -> Vec<Value> {
    let position = |list: &[Value], item: &Value| list.iter().position(|other| same_item(other, item, rule));
    let (mut patched, mut server_only): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(patch_order, item).is_some());
    patched.sort_by_key(|item| position(patch_order, item));
    server_only.sort_by_key(|item| position(server_order, item));
    let mut arranged = Vec::with_capacity(patched.len() + server_only.len());
    let (mut server_only, mut patched) = (server_only.into_iter().peekable(), patched.into_iter().peekable());
    while let (Some(left), Some(right)) = (server_only.peek(), patched.peek()) {
        let first_left = match (position(server_order, left), position(server_order, right)) {
            (Some(left), Some(right)) => left < right,
            _ => false,
        };
        arranged.extend(if first_left { server_only.next() } else { patched.next() });
    }
    arranged.extend(server_only);
    arranged.extend(patched);
    arranged
}

/// Items are the same by merge key, or by value in lists without one.
fn same_item(left: &Value, right: &Value, rule: &MergeRule) -> bool {
    match rule.key.as_deref() {
        Some(key) => left.get(key).is_some() && left.get(key) == right.get(key),
        None => left == right,
    }
}
