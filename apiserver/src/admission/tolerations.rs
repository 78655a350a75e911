//! Every pod tolerates a node that is not ready or unreachable for five minutes, unless it says otherwise.

use serde_json::{Value, json};

use crate::registry::Object;

const SECONDS: u32 = 300;

pub(super) fn add_defaults(pod: &mut Object) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let slot = spec.entry("tolerations").or_insert_with(|| json!([]));
    if slot.is_null() {
        *slot = json!([]);
    }
    let Some(tolerations) = slot.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|toleration| tolerates(toleration, key)) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
            }));
        }
    }
}

fn tolerates(toleration: &Value, wanted: &str) -> bool {
    let field = |name: &str| toleration.get(name).and_then(Value::as_str).unwrap_or_default();
    matches!(field("key"), key if key == wanted || key.is_empty())
        && matches!(field("effect"), "NoExecute" | "")
}
