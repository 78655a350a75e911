//! Tables (`meta.k8s.io/v1`): columns, cells and the few cells that many kinds share.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::value::{at, entries, text};
use super::{Column, Kind, Object};

/// Column of the object's name.
pub const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", description: "Name of the object.", priority: 0 };
/// Column of the time since creation.
pub const AGE: Column = Column {
    name: "Age",
    kind: "string",
    format: "",
    description: "Time since the object was created.",
    priority: 0,
};

/// A column that is always shown.
pub const fn column(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name, kind, format: "", description, priority: 0 }
}

/// A column shown with `-o wide`.
pub const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 1 }
}

/// What a row carries beside its cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; `None` when the value is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// What a Table is made with.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions<'a> {
    /// Now, RFC 3339.
    pub now: &'a str,
    pub include: IncludeObject,
    /// Whether column definitions are sent; a watch sends them only with its first event.
    pub with_columns: bool,
}

/// Returns the Table of some objects; `list_metadata` is `metadata` of the list (`resourceVersion`, `continue`, …).
pub fn table<'a>(
    kind: &Kind,
    objects: impl IntoIterator<Item = &'a Object>,
    list_metadata: Value,
    options: TableOptions<'_>,
) -> Value {
    let columns =
        if options.with_columns { column_definitions(kind.strategy.columns()) } else { Value::Null };
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let mut row = json!({"cells": kind.strategy.row(object, options.now)});
            let beside = match options.include {
                IncludeObject::None => None,
                IncludeObject::Metadata => Some(partial_metadata(object)),
                IncludeObject::Object => Some(Value::Object(object.clone())),
            };
            if let (Some(row), Some(beside)) = (row.as_object_mut(), beside) {
                row.insert("object".to_owned(), beside);
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// Returns the `PartialObjectMetadata` of an object.
pub fn partial_metadata(object: &Object) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn column_definitions(columns: &[Column]) -> Value {
    columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect()
}

/// Returns the cell of the object's name.
pub fn name(object: &Object) -> Value {
    Value::from(text(object, &["metadata", "name"]))
}

/// Returns the cell of the object's age.
pub fn age(object: &Object, now: &str) -> Value {
    Value::from(since(at(object, &["metadata", "creationTimestamp"]).and_then(Value::as_str), now))
}

/// Text of a cell without a value.
pub const NONE: &str = "<none>";

/// Returns the text, or `<none>` when it is empty.
pub fn or_none(text: &str) -> Value {
    Value::from(if text.is_empty() { NONE } else { text })
}

/// Returns a map of labels as `a=b,c=d`, or `<none>`.
pub fn labels(object: &Object, path: &[&str]) -> Value {
    let pairs: Vec<String> = entries(object, path)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

/// Returns the first `max` items, and how many more there are.
pub fn some_of(items: &[String], max: usize, none: &str) -> Value {
    let shown = items.get(..max.min(items.len())).unwrap_or_default().join(",");
    match items.len() {
        0 => Value::from(none),
        count if count > max => Value::from(format!("{shown} + {} more...", count - max)),
        _ => Value::from(shown),
    }
}

/// Returns how long ago a time was, in kubectl's short form.
pub fn since(then: Option<&str>, now: &str) -> String {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    match (then.and_then(parse), parse(now)) {
        (Some(then), Some(now)) => human_duration(now.as_second() - then.as_second()),
        _ => "<unknown>".to_owned(),
    }
}

/// Shortens a time span the way kubectl shows it: two units while they matter, one beyond.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        252_288_000.. => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_shows_them() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
        assert_eq!(since(Some("2026-01-01T00:00:00Z"), "2026-01-01T00:01:30Z"), "90s");
        assert_eq!(since(None, "2026-01-01T00:01:30Z"), "<unknown>");
    }
}
