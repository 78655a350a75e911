//! Directives of strategic merge patches, one by one.

use serde_json::{Value, json};

use super::*;
use crate::schema::Schemas;

fn patch_pod(original: Value, patch: Value) -> Result<Value, PatchError> {
    let schemas = Schemas::builtin();
    let (original, patch) = (original.as_object().unwrap(), patch.as_object().unwrap());
    apply(schemas, schemas.of_kind("", "v1", "Pod"), original, patch).map(Value::Object)
}

fn containers(names: &[&str]) -> Value {
    json!({"spec": {"containers": names.iter().map(|name| json!({"name": name, "image": "i"})).collect::<Vec<_>>()}})
}

fn names(pod: &Value) -> Vec<&str> {
    pod["spec"]["containers"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn items_merge_by_key_and_new_ones_join() {
    let patched = patch_pod(
        containers(&["a", "b"]),
        json!({"spec": {"containers": [{"name": "b", "image": "j"}, {"name": "c"}]}}),
    )
    .unwrap();
    assert_eq!(names(&patched), ["a", "b", "c"]);
    assert_eq!(patched["spec"]["containers"][1], json!({"name": "b", "image": "j"}));
}

#[test]
fn items_are_deleted_and_lists_replaced_by_directive() {
    let delete = json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "zz", "$patch": "delete"}]}});
    assert_eq!(names(&patch_pod(containers(&["a", "b"]), delete).unwrap()), ["b"]);
    let replace = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "only"}]}});
    assert_eq!(names(&patch_pod(containers(&["a", "b"]), replace).unwrap()), ["only"]);
}

#[test]
fn element_order_places_named_items() {
    let order = |order: &[&str], patch: Value| {
        let order: Vec<Value> = order.iter().map(|name| json!({"name": name})).collect();
        patch_pod(
            containers(&["a", "b", "c"]),
            json!({"spec": {"$setElementOrder/containers": order, "containers": patch}}),
        )
    };
    assert_eq!(names(&order(&["c", "a"], json!([{"name": "a", "image": "j"}])).unwrap()), ["b", "c", "a"]);
    assert_eq!(names(&order(&["n", "c", "b", "a"], json!([{"name": "n"}])).unwrap()), ["n", "c", "b", "a"]);
    assert!(order(&["a"], json!([{"name": "b"}])).is_err());
}

#[test]
fn retained_keys_drop_the_others() {
    let pod = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch = |keys: Value| json!({"spec": {"volumes": [{"name": "v", "$retainKeys": keys, "hostPath": {"path": "/x"}}]}});
    let patched = patch_pod(pod.clone(), patch(json!(["name", "hostPath"]))).unwrap();
    assert_eq!(patched["spec"]["volumes"], json!([{"name": "v", "hostPath": {"path": "/x"}}]));
    assert!(patch_pod(pod, patch(json!(["name"]))).is_err());
}

#[test]
fn primitive_lists_merge_and_lose_items() {
    let pod = json!({"metadata": {"finalizers": ["x/1", "x/2"]}});
    let patched = patch_pod(
        pod,
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/1"], "$setElementOrder/finalizers": ["x/3", "x/2"],
            "finalizers": ["x/3"]}}),
    )
    .unwrap();
    assert_eq!(patched["metadata"]["finalizers"], json!(["x/3", "x/2"]));
}

#[test]
fn maps_are_replaced_deleted_and_thinned() {
    let pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let patch = |labels: Value| patch_pod(pod.clone(), json!({"metadata": {"labels": labels}})).unwrap();
    assert_eq!(patch(json!({"$patch": "replace", "z": "1"}))["metadata"]["labels"], json!({"z": "1"}));
    assert_eq!(patch(json!({"$patch": "delete"}))["metadata"]["labels"], json!({}));
    assert_eq!(patch(json!({"a": null, "c": "3"}))["metadata"]["labels"], json!({"b": "2", "c": "3"}));
}

#[test]
fn atomic_lists_are_replaced() {
    let pod = json!({"spec": {"tolerations": [{"key": "a"}]}});
    let patched = patch_pod(pod, json!({"spec": {"tolerations": [{"key": "b"}]}})).unwrap();
    assert_eq!(patched["spec"]["tolerations"], json!([{"key": "b"}]));
}

#[test]
fn directives_never_reach_the_object() {
    let patch = json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "x": null}],
        "$setElementOrder/volumes": [{"name": "v"}]}});
    assert_eq!(patch_pod(json!({}), patch).unwrap(), json!({"spec": {"volumes": [{"name": "v"}]}}));
}

#[test]
fn a_missing_merge_key_is_refused() {
    assert!(patch_pod(containers(&["a"]), json!({"spec": {"containers": [{"image": "x"}]}})).is_err());
    assert!(
        patch_pod(containers(&["a"]), json!({"spec": {"containers": [{"name": "a", "$patch": "x"}]}}))
            .is_err()
    );
}
