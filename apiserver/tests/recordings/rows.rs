//! Tables: columns and cells of the recorded objects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{cases, report};

#[test]
fn rows_read_as_the_originals() {
    const KNOWN: &[&str] = &[];
    let cases = cases("tables.json.gz");
    // Objects are recorded beside their Tables; by kind and name they belong together.
    let mut objects: BTreeMap<(String, String, String), Value> = BTreeMap::new();
    for case in &cases {
        let list_kind = case.answer["kind"].as_str().unwrap_or_default();
        let api_version = case.answer["apiVersion"].as_str().unwrap_or_default();
        let Some(kind) = list_kind.strip_suffix("List") else { continue };
        for item in case.answer["items"].as_array().into_iter().flatten() {
            let name = format!("{}/{}", item["metadata"]["namespace"], item["metadata"]["name"]);
            objects.insert((api_version.to_owned(), kind.to_owned(), name), item.clone());
        }
    }
    let (mut replayed, mut differences) = (0, Vec::new());
    for case in &cases {
        let Some((kind, _, _)) = case.target() else { continue };
        if case.answer["kind"] != "Table" || case.path.ends_with("/scale") {
            continue;
        }
        let theirs: Vec<&Value> = case.answer["columnDefinitions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|column| &column["name"])
            .collect();
        let ours: Vec<&str> = kind.strategy.columns().iter().map(|column| column.name).collect();
        if theirs != ours {
            differences.push((case.name.clone(), format!("ours   {ours:?}\ntheirs {theirs:?}")));
        }
        let age = kind.strategy.columns().iter().position(|column| column.name == "Age");
        for row in case.answer["rows"].as_array().into_iter().flatten() {
            let metadata = &row["object"]["metadata"];
            let name = format!("{}/{}", metadata["namespace"], metadata["name"]);
            let key = (kind.api_version(), kind.kind.to_owned(), name.clone());
            let Some(object) = objects.get(&key).and_then(Value::as_object) else { continue };
            replayed += 1;
            let ours = kind.strategy.row(object, "2026-12-31T00:00:00Z");
            let theirs = row["cells"].as_array().unwrap();
            // Cells with times depend on when the Table was made.
            let is_time = |index: usize, cell: &Value| {
                Some(index) == age
                    || matches!(ours_name(kind.strategy.columns(), index), "Last Seen" | "First Seen")
                    || cell.as_str().is_some_and(|text| text.ends_with("ago)"))
            };
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                if ours != theirs && !is_time(index, theirs) {
                    differences
                        .push((format!("{} {name}", case.name), format!("ours   {ours}\ntheirs {theirs}")));
                }
            }
        }
    }
    report(replayed, differences, KNOWN);
}

fn ours_name(columns: &[apiserver::registry::Column], index: usize) -> &'static str {
    columns.get(index).map_or("", |column| column.name)
}
