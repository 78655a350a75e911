//! Pod templates as identities: equality without our own label, and the hash that names a ReplicaSet. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that keeps the pods of different templates apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Letters that spell no words, as upstream uses in names.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// Says whether a ReplicaSet makes pods of the Deployment's present template.
pub(super) fn is_of(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let mut template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    remove_hash(&mut template);
    let mut wanted = deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    remove_hash(&mut wanted);
    template == wanted
}

/// Empty and absent labels are the same template.
fn remove_hash(template: &mut PodTemplateSpec) {
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
        if labels.is_empty() {
            metadata.labels = None;
        }
    }
}

/// Returns the hash of a template, FNV-1a over its JSON; the collision count makes another name of the same template.
pub(super) fn hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let json = serde_json::to_vec(template).unwrap_or_default();
    let collision = collision_count.map(i32::to_le_bytes);
    let bytes = json.iter().chain(collision.iter().flatten());
    let hash = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME));
    let letters = hash.to_string().into_bytes().into_iter().map(|digit| {
        let letter = ALPHABET.get(usize::from(digit) % ALPHABET.len()).copied();
        char::from(letter.unwrap_or(b'b'))
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_stable_and_collisions_change_it() {
        let template = PodTemplateSpec::default();
        assert_eq!(hash(&template, None), hash(&template, None));
        assert_ne!(hash(&template, None), hash(&template, Some(1)));
        assert!(hash(&template, None).bytes().all(|letter| ALPHABET.contains(&letter)));
    }
}
