//! What clients read from the documents; the recorded documents of the original are the yardstick where they exist.

use serde_json::Value;

use super::*;

#[test]
fn legacy_and_aggregated_documents_agree() {
    for (group, version) in catalog::group_versions() {
        let list = resource_list(group, version).unwrap();
        let legacy: Vec<&str> =
            list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
        let root = if group.is_empty() { Root::Core } else { Root::Groups };
        let aggregated = aggregated(AggregatedVersion::V2, root);
        let item = aggregated["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["metadata"]["name"].as_str().unwrap_or_default() == group);
        let mut names = Vec::new();
        for resource in item.unwrap()["versions"][0]["resources"].as_array().unwrap() {
            let name = resource["resource"].as_str().unwrap();
            names.push(name.to_owned());
            for subresource in resource["subresources"].as_array().into_iter().flatten() {
                names.push(format!("{name}/{}", subresource["subresource"].as_str().unwrap()));
            }
        }
        names.sort();
        assert_eq!(legacy, names, "{group}/{version}");
    }
}

#[test]
fn unknown_groups_have_no_document() {
    assert_eq!(group("nope"), None);
    assert_eq!(group(""), None);
    assert_eq!(resource_list("", "v2"), None);
}

#[test]
fn documents_do_not_change_between_calls() {
    let once = document_hash(&aggregated(AggregatedVersion::V2, Root::Groups));
    assert_eq!(once, document_hash(&aggregated(AggregatedVersion::V2, Root::Groups)));
    assert_ne!(once, document_hash(&aggregated(AggregatedVersion::V2beta1, Root::Groups)));
}

#[test]
fn namespaces_cannot_be_deleted_as_a_collection() {
    let list = resource_list("", "v1").unwrap();
    let entry =
        list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "namespaces").unwrap();
    assert!(!entry["verbs"].as_array().unwrap().contains(&Value::from("deletecollection")));
}
