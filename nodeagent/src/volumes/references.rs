//! Reads the ConfigMaps and Secrets that a container's environment names.

use std::collections::{BTreeMap, BTreeSet};

use client::{ApiError, Client};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};

use super::payload::{self, Data};
use crate::pod::env::References;

/// Returns what a container's environment refers to; what does not exist is left out.
///
/// # Errors
/// When the API does not answer or refuses the read.
pub async fn references(
    client: &Client,
    namespace: &str,
    container: &Container,
) -> Result<References, ApiError> {
    let (config_maps, secrets) = names(container);
    let mut found = References::default();
    for name in config_maps {
        if let Some(object) = get::<ConfigMap>(client, namespace, &name).await? {
            found.config_maps.insert(name, text(payload::config_map(&object)));
        }
    }
    for name in secrets {
        if let Some(object) = get::<Secret>(client, namespace, &name).await? {
            found.secrets.insert(name, text(payload::secret(&object)));
        }
    }
    Ok(found)
}

/// Reads an object that may be absent.
pub(super) async fn get<K: client::ApiObject>(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<K>, ApiError> {
    match client.get::<K>(namespace, name).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(data: Data) -> BTreeMap<String, String> {
    data.into_iter().map(|(key, bytes)| (key, String::from_utf8_lossy(&bytes).into_owned())).collect()
}

fn names(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut config_maps = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|selector| selector.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|selector| selector.name.clone()));
    }
    (config_maps, secrets)
}
