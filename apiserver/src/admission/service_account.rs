//! Pods run as a service account: `default` unless they say otherwise, with a token mounted.

use serde_json::{Value, json};

use crate::catalog::stored_kind;
use crate::endpoints::create::suffix;
use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call};
use crate::object;
use crate::registry::Object;

const DEFAULT_ACCOUNT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Upstream's "one hour and a bit", so that a kubelet that renews at 80 % always has slack.
const TOKEN_SECONDS: u32 = 3_607;

/// Sets the account, checks that it exists, and mounts its token.
pub(super) async fn mount(api: &Api, call: &Call, pod: &mut Object) -> Result<(), Status> {
    let Some(accounts) = stored_kind("", "serviceaccounts") else { return Ok(()) };
    let mut account = object::str_at(pod, &["spec", "serviceAccountName"]).to_owned();
    if account.is_empty() {
        account = DEFAULT_ACCOUNT.to_owned();
    }
    object::set_at(pod, &["spec", "serviceAccountName"], account.as_str().into());
    object::set_at(pod, &["spec", "serviceAccount"], account.as_str().into());
    let pod_name = object::name(pod).to_owned();
    let found = api.storage.get(accounts, &call.namespace, &account).await;
    let found = found.map_err(|error| Status::from_storage(error, accounts, &account))?.ok_or_else(|| {
        let why = format!(
            "error looking up service account {}/{account}: serviceaccount \"{account}\" not found",
            call.namespace
        );
        Status::forbidden(call.kind, &pod_name, &why)
    })?;
    if wants_token(pod, &found.object) {
        add_token_volume(pod, &suffix(api.outside.as_ref()));
    }
    add_pull_secrets(pod, &found.object);
    Ok(())
}

fn wants_token(pod: &Object, account: &Object) -> bool {
    let pods_word = object::at(pod, &["spec", "automountServiceAccountToken"]).and_then(Value::as_bool);
    let accounts_word = object::at(account, &["automountServiceAccountToken"]).and_then(Value::as_bool);
    pods_word.or(accounts_word).unwrap_or(true)
}

fn add_pull_secrets(pod: &mut Object, account: &Object) {
    let own = object::at(pod, &["spec", "imagePullSecrets"]).and_then(Value::as_array);
    if own.is_some_and(|own| !own.is_empty()) {
        return;
    }
    if let Some(secrets) = account.get("imagePullSecrets").filter(|secrets| secrets.is_array()) {
        object::set_at(pod, &["spec", "imagePullSecrets"], secrets.clone());
    }
}

fn add_token_volume(pod: &mut Object, suffix: &str) {
    let volume = format!("{VOLUME_PREFIX}{suffix}");
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let containers =
            pod.get_mut("spec").and_then(|spec| spec.get_mut(field)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            mounted |= add_mount(container, &volume);
        }
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut).filter(|_| mounted) else { return };
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(token_volume(&volume));
    }
}

/// Returns whether the container needed the mount; one that mounts something there itself keeps that.
fn add_mount(container: &mut Object, volume: &str) -> bool {
    let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
    let Some(mounts) = mounts.as_array_mut() else { return false };
    if mounts.iter().any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(MOUNT_PATH)) {
        return false;
    }
    mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
    true
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
        },
    })
}
