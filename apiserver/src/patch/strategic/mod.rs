//! Strategic merge patch: merge patch whose lists merge by key, steered by the schema and by directives in the patch.
//!
//! Directives: `$patch: replace|delete|merge` in a map or a list item, `$retainKeys` in a map, and beside a list
//! `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`. The rules are those of the API conventions ("Strategic
//! Merge Patch") and of the design of element order: items that the patch names stand in the patch's order, all others keep
//! their place relative to each other.

mod list;

use serde_json::{Map, Value};

use super::PatchError;
use crate::registry::Object;
use crate::schema::{Field, MergeRule, Schemas, Shape, Struct};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER_PREFIX: &str = "$setElementOrder/";
const DELETE_FROM_PREFIX: &str = "$deleteFromPrimitiveList/";

/// Returns what `patch` makes of `original`; without a schema every list is replaced.
///
/// # Errors
/// A directive that makes no sense, or a list item without its merge key.
pub fn apply(
    schemas: &Schemas,
    schema: Option<&Struct>,
    original: &Object,
    patch: &Object,
) -> Result<Object, PatchError> {
    Merge { schemas }.map(original.clone(), patch.clone(), schema)
}

struct Merge<'a> {
    schemas: &'a Schemas,
}

impl<'a> Merge<'a> {
    /// Merges one map.
    fn map(
        &self,
        mut original: Object,
        mut patch: Object,
        schema: Option<&'a Struct>,
    ) -> Result<Object, PatchError> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            match directive.as_str() {
                Some("replace") => return Ok(drop_directives_from(patch)),
                Some("delete") => return Ok(Map::new()),
                Some("merge") => {}
                _ => return Err(refuse(format!("unknown patch type: {directive}"))),
            }
        }
        retain_keys(&mut original, &mut patch)?;
        let orders = take_prefixed(&mut patch, SET_ORDER_PREFIX)?;
        let deletions = take_prefixed(&mut patch, DELETE_FROM_PREFIX)?;
        for (name, deleted) in deletions {
            if let Some(Value::Array(items)) = original.get_mut(&name) {
                items.retain(|item| !deleted.contains(item));
            }
        }
        for (name, order) in orders {
            self.ordered_list(&mut original, &mut patch, &name, &order, schema)?;
        }
        for (name, value) in patch {
            let field = schema.and_then(|schema| schema.fields.get(&name));
            let old = original.remove(&name);
            if let Some(new) = self.value(old, value, field)? {
                original.insert(name, new);
            }
        }
        Ok(original)
    }

    /// Merges one field; `None` removes it.
    fn value(
        &self,
        old: Option<Value>,
        patch: Value,
        field: Option<&'a Field>,
    ) -> Result<Option<Value>, PatchError> {
        match (old, patch) {
            (_, Value::Null) => Ok(None),
            (Some(Value::Object(old)), Value::Object(patch)) => {
                let schema = field.and_then(|field| self.struct_of(&field.shape));
                self.map(old, patch, schema).map(|map| Some(Value::Object(map)))
            }
            (Some(Value::Array(old)), Value::Array(patch)) => match field {
                Some(field) if field.merge.merges => {
                    self.list(old, patch, field, None).map(|list| Some(Value::Array(list)))
                }
                _ => Ok(Some(drop_directives(Value::Array(patch)))),
            },
            (_, patch) => Ok(Some(drop_directives(patch))),
        }
    }

    /// Merges the list that a `$setElementOrder` directive names and takes it out of the patch.
    fn ordered_list(
        &self,
        original: &mut Object,
        patch: &mut Object,
        name: &str,
        order: &[Value],
        schema: Option<&'a Struct>,
    ) -> Result<(), PatchError> {
        let field = schema.and_then(|schema| schema.fields.get(name)).filter(|field| field.merge.merges);
        let Some(field) = field else { return Ok(()) };
        if matches!(patch.get(name), Some(Value::Null)) || original.get(name).is_none() {
            return Ok(());
        }
        let additions = match patch.remove(name) {
            Some(Value::Array(items)) => items,
            Some(_) => return Err(refuse(format!("the patch of list {name} is no list"))),
            None => Vec::new(),
        };
        list::check_order(&additions, order, &field.merge)?;
        if let Some(Value::Array(old)) = original.remove(name) {
            let merged = self.list(old, additions, field, Some(order))?;
            original.insert(name.to_owned(), Value::Array(merged));
        }
        Ok(())
    }

    /// Merges a list whose items have identity.
    fn list(
        &self,
        original: Vec<Value>,
        patch: Vec<Value>,
        field: &'a Field,
        order: Option<&[Value]>,
    ) -> Result<Vec<Value>, PatchError> {
        let Some(key) = field.merge.key.as_deref() else {
            let mut merged = original.clone();
            for item in &patch {
                if !merged.contains(item) {
                    merged.push(item.clone());
                }
            }
            return Ok(list::arrange(merged, order.unwrap_or(&patch), &original, &MergeRule::default()));
        };
        let special = list::take_special(patch, key)?;
        if special.replaces {
            return Ok(special.items.into_iter().map(drop_directives).collect());
        }
        let mut merged = original;
        merged.retain(|item| !special.deleted.iter().any(|value| item.get(key) == Some(value)));
        let server_order = merged.clone();
        let item_schema = match &field.shape {
            Shape::List(items) => self.struct_of(items),
            _ => None,
        };
        for item in &special.items {
            let Value::Object(item) = item else {
                return Err(refuse("a list of maps has an item that is no map".into()));
            };
            let identity = item.get(key).ok_or_else(|| missing_key(item, key))?;
            match merged.iter_mut().find(|old| old.get(key) == Some(identity)) {
                Some(Value::Object(old)) => {
                    *old = self.map(std::mem::take(old), item.clone(), item_schema)?
                }
                _ => merged.push(drop_directives(Value::Object(item.clone()))),
            }
        }
        Ok(list::arrange(merged, order.unwrap_or(&special.items), &server_order, &field.merge))
    }

    fn struct_of(&self, shape: &Shape) -> Option<&'a Struct> {
        match shape {
            Shape::Struct(name) => self.schemas.get(name),
            _ => None,
        }
    }
}

/// Obeys `$retainKeys`: keys outside the list go, and the patch may set only keys of the list.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || PatchError::Malformed("invalid patch format of retainKeys".to_owned());
    let Value::Array(keys) = directive else { return Err(malformed()) };
    let retained = |key: &String| keys.iter().any(|kept| kept == key.as_str());
    let sets = |(key, value): (&String, &Value)| !value.is_null() && !key.starts_with('$') && !retained(key);
    if patch.iter().any(sets) {
        return Err(malformed());
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

/// Takes the directives of one prefix out of a patch: field name and list.
fn take_prefixed(patch: &mut Object, prefix: &str) -> Result<Vec<(String, Vec<Value>)>, PatchError> {
    let names: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    let mut directives = Vec::new();
    for name in names {
        match patch.remove(&name) {
            Some(Value::Array(items)) => {
                directives.push((name.strip_prefix(prefix).unwrap_or_default().to_owned(), items));
            }
            _ => return Err(refuse(format!("{name} is no list"))),
        }
    }
    Ok(directives)
}

/// Removes directives and nulls from a value that the patch adds as a whole.
fn drop_directives(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(drop_directives_from(object)),
        Value::Array(items) => {
            let is_directive =
                |item: &Value| item.as_object().is_some_and(|item| item.contains_key(DIRECTIVE));
            Value::Array(items.into_iter().filter(|item| !is_directive(item)).map(drop_directives).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn drop_directives_from(object: Object) -> Object {
    let kept = |(key, value): &(String, Value)| !key.starts_with('$') && !value.is_null();
    object.into_iter().filter(kept).map(|(key, value)| (key, drop_directives(value))).collect()
}

fn missing_key(item: &Object, key: &str) -> PatchError {
    let shown = Value::Object(item.clone());
    refuse(format!("map: {shown} does not contain declared merge key: {key}"))
}

fn refuse(text: String) -> PatchError {
    PatchError::NotApplicable(text)
}

#[cfg(test)]
mod tests;
