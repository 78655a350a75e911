//! Discovery: what we say of our kinds is what the original says of them.

use apiserver::discovery;
use apiserver::registry::catalog;
use serde_json::Value;

use super::{cases, report};

#[test]
fn our_kinds_are_described_as_the_original_describes_them() {
    const KNOWN: &[&str] = &[];
    let (mut replayed, mut differences) = (0, Vec::new());
    for case in cases("discovery.json.gz") {
        if case.answer["kind"] != "APIResourceList" {
            continue;
        }
        let group_version = case.answer["groupVersion"].as_str().unwrap_or_default();
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        let Some(ours) = discovery::resource_list(group, version) else { continue };
        for resource in ours["resources"].as_array().unwrap() {
            let theirs = case.answer["resources"]
                .as_array()
                .unwrap()
                .iter()
                .find(|theirs| theirs["name"] == resource["name"]);
            let strip = |value: &Value| {
                let mut value = value.clone();
                value.as_object_mut().unwrap().remove("storageVersionHash");
                value
            };
            replayed += 1;
            match theirs {
                Some(theirs) if strip(theirs) == strip(resource) => {}
                other => differences.push((
                    format!("{group_version} {}", resource["name"]),
                    format!("ours {resource}\ntheirs {other:?}"),
                )),
            }
        }
    }
    assert!(catalog::all().len() > 10);
    report(replayed, differences, KNOWN);
}
