//! Documents of the catalogue: what kubectl looks for is there.

use super::*;

fn document(path: &str) -> Value {
    serde_json::from_slice(&v3_document(path).unwrap().body).unwrap()
}

#[test]
fn every_group_version_has_a_document_that_the_index_names() {
    let index = v3_index();
    for (group, version) in catalog::group_versions() {
        let path = v3_path(group, version);
        let url = index["paths"][&path]["serverRelativeURL"].as_str().unwrap();
        assert!(url.ends_with(&v3_document(&path).unwrap().hash), "{url}");
    }
    assert!(v3_document("apis/nope/v1").is_none());
}

#[test]
fn every_reference_resolves() {
    for path in v3_index()["paths"].as_object().unwrap().keys() {
        let document = document(path);
        let mut names = BTreeSet::new();
        collect_references(&document, &mut names);
        for name in names {
            assert!(document["components"]["schemas"].get(&name).is_some(), "{path}: {name}");
        }
    }
}

#[test]
fn patch_tells_clients_that_the_server_validates() {
    let document = document("apis/apps/v1");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|parameter| parameter["name"] == "fieldValidation")
    );
    let containers =
        &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
}

#[test]
fn the_older_document_has_only_its_own_references() {
    let text = String::from_utf8(v2_json().body.clone()).unwrap();
    assert!(!text.contains(REFERENCE_PREFIX) && text.contains("#/definitions/io.k8s.api.core.v1.Pod\""));
    assert!(v2_protobuf().body.len() > 100_000);
}
