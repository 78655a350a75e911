//! Which files a ConfigMap, Secret, downward API or projected volume holds. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use super::atomic_writer::{File, Files};
use crate::pod::env::{self, EnvError, Facts};

/// Permissions where the volume names none.
pub(super) const DEFAULT_MODE: u32 = 0o644;

/// Data by key, whatever the object.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Returns all data of a ConfigMap.
pub(super) fn config_map(object: &ConfigMap) -> Data {
    let text = object.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = object.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}

/// Returns all data of a Secret.
pub(super) fn secret(object: &Secret) -> Data {
    object.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

/// Returns the file mode, without bits that are no permissions.
pub(super) fn mode(mode: Option<i32>, default: u32) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).map_or(default, |mode| mode & 0o777)
}

/// Adds data to a volume: every key, or the chosen ones under their paths. Returns the first required key that is missing.
pub(super) fn add(
    files: &mut Files,
    data: &Data,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
) -> Option<String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let all =
            data.iter().map(|(key, bytes)| (key.clone(), File { bytes: bytes.clone(), mode: default_mode }));
        files.extend(all);
        return None;
    };
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                let file = File { bytes: bytes.clone(), mode: mode(item.mode, default_mode) };
                files.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Some(item.key.clone()),
        }
    }
    None
}

/// Adds downward API files.
pub(super) fn add_downward(
    files: &mut Files,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    facts: &Facts,
) -> Result<(), EnvError> {
    let none = Container::default();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => env::field(pod, field, facts)?,
            (None, Some(resource)) => env::resource_field(pod, &none, resource, facts)?,
            (None, None) => String::new(),
        };
        files.insert(
            item.path.clone(),
            File { bytes: text.into_bytes(), mode: mode(item.mode, default_mode) },
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_and_rename() {
        let data = Data::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let item = |key: &str, path: &str| KeyToPath {
            key: key.to_owned(),
            path: path.to_owned(),
            mode: Some(0o400),
        };
        let mut files = Files::new();
        assert_eq!(add(&mut files, &data, Some(&[item("a", "x/y")]), DEFAULT_MODE, false), None);
        assert_eq!(files, Files::from([("x/y".to_owned(), File { bytes: b"1".to_vec(), mode: 0o400 })]));
        assert_eq!(
            add(&mut files, &data, Some(&[item("c", "z")]), DEFAULT_MODE, false),
            Some("c".to_owned())
        );
        assert_eq!(add(&mut files, &data, Some(&[item("c", "z")]), DEFAULT_MODE, true), None);
        assert_eq!(add(&mut files, &data, None, DEFAULT_MODE, false), None);
        assert_eq!(files.len(), 3);
    }
}
