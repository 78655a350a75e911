//! Updates: what may change, and what upstream says when it may not.

use std::collections::BTreeMap;

use super::{cases, message, report};
use apiserver::registry::{Context, Object, Part};

#[test]
fn changes_get_the_same_findings() {
    const KNOWN: &[&str] = &[
        // The API machinery restores what a client may not set.
        "update v1 ConfigMap: metadata.deletionTimestamp=",
        // Admission puts the tolerations back that this takes away.
        "update v1 Pod: spec.tolerations=[]",
        "update v1 Pod: spec.volumes=[]",
        // The recorded service is of another type by then; ours says what is wrong with the family.
        "update v1 Service: spec.ipFamilies=",
        // Same finding, shown in another order of fields or twice.
        "update v1 Endpoints: subsets=[{",
        "update rbac.authorization.k8s.io/v1",
    ];
    let mut state: BTreeMap<String, Object> = BTreeMap::new();
    let (mut replayed, mut differences) = (0, Vec::new());
    for case in cases("validation.json.gz") {
        let Some((kind, namespace, tail)) = case.target() else { continue };
        let name =
            case.body["metadata"]["name"].as_str().or_else(|| case.answer["metadata"]["name"].as_str());
        let name = tail.first().map_or_else(|| name.unwrap_or_default().to_owned(), Clone::clone);
        let key = format!("{}/{namespace}/{name}", kind.qualified_resource());
        let before = state.get(&key).cloned();
        if matches!(case.status, 200 | 201) && case.answer["kind"] == kind.kind {
            state.insert(key, case.answer.as_object().unwrap().clone());
        }
        if !case.name.starts_with("update ") || case.method != "PUT" || !matches!(case.status, 200 | 422) {
            continue;
        }
        let Some(before) = before else { continue };
        replayed += 1;
        let ours = match kind.decode(case.body.to_string().as_bytes()) {
            Err(error) => error.to_string(),
            Ok(decoded) => {
                let mut object = decoded.object;
                // A writer that leaves these out means the ones that are there.
                let metadata = object["metadata"].as_object_mut().unwrap();
                for field in ["uid", "creationTimestamp", "namespace", "deletionTimestamp"] {
                    match before["metadata"].get(field) {
                        Some(value) => metadata.insert(field.to_owned(), value.clone()),
                        None => metadata.remove(field),
                    };
                }
                let context = Context { now: "2026-01-01T00:00:00Z", namespace: &namespace, user: "admin" };
                kind.strategy.default(&mut object);
                kind.strategy.prepare_update(&context, Part::Main, &mut object, &before);
                let errors = kind.strategy.validate_update(Part::Main, &object, &before);
                if errors.is_empty() { "ok".to_owned() } else { message(kind, &name, &errors) }
            }
        };
        let theirs =
            if case.status == 200 { "ok" } else { case.answer["message"].as_str().unwrap_or_default() };
        // Behind the first line upstream prints a difference of Go structures.
        let theirs = theirs.lines().next().unwrap_or_default();
        if ours != theirs {
            differences.push((case.name.clone(), format!("ours   {ours}\ntheirs {theirs}")));
        }
    }
    report(replayed, differences, KNOWN);
}
