//! Kinds of the group `events.k8s.io`, and what both event kinds share.

pub(super) mod event;

use serde_json::Value;

use super::Object;
use super::table::since;
use super::value::{at, integer, text};

/// Where a version of Event keeps what a row shows.
pub(super) struct EventView {
    pub object: &'static str,
    pub source: &'static str,
    pub reporter: &'static str,
    pub message: &'static str,
    pub first: &'static str,
    pub last: &'static str,
    pub count: Option<i64>,
}

/// Returns an event's cells in column order.
pub(super) fn row(event: &Object, view: &EventView, now: &str) -> Vec<Value> {
    let time = |path: &[&str]| at(event, path).and_then(Value::as_str);
    let event_time = time(&["eventTime"]);
    let first = time(&[view.first]).or(event_time);
    let series = time(&["series", "lastObservedTime"]);
    let last = series.or_else(|| time(&[view.last])).or(first);
    let series_count = integer(event, &["series", "count"]);
    let count = series_count.or(view.count).filter(|count| *count > 0).unwrap_or(1);
    let regarding = |field: &str| text(event, &[view.object, field]);
    let target = match regarding("name") {
        "" => regarding("kind").to_lowercase(),
        name => format!("{}/{name}", regarding("kind").to_lowercase()),
    };
    vec![
        Value::from(since(last, now)),
        Value::from(text(event, &["type"])),
        Value::from(text(event, &["reason"])),
        Value::from(target),
        Value::from(regarding("fieldPath")),
        Value::from(source(event, view)),
        Value::from(text(event, &[view.message]).trim()),
        Value::from(since(first, now)),
        Value::from(count),
        Value::from(text(event, &["metadata", "name"])),
    ]
}

fn source(event: &Object, view: &EventView) -> String {
    let (component, host) = (text(event, &[view.source, "component"]), text(event, &[view.source, "host"]));
    let (component, host) = if component.is_empty() {
        (text(event, &[view.reporter]), text(event, &["reportingInstance"]))
    } else {
        (component, host)
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
