//! One object at a time: read, create, replace, delete.

use bytes::Bytes;
use serde_json::Value;
use store::kv::Consistency;
use store::mvcc::{DeleteRange, KeyRange, KeyValue, Op, Range, Revision};

use super::condition::{Condition, Expect, Extras, put};
use super::{Storage, StorageError, Stored, keys};
use crate::object;
use crate::registry::{Kind, Object};

impl Storage {
    /// Reads the newest state of an object.
    pub(crate) async fn get(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Stored>, StorageError> {
        let key = keys::object(kind, namespace, name);
        let range = Range::new(KeyRange::single(key));
        let found = self.kv.range(range, Consistency::Linearizable).await?;
        found.kvs.first().map(decode).transpose()
    }

    /// Creates an object; it must not exist.
    pub(crate) async fn create(
        &self,
        kind: &Kind,
        object: &Object,
        extras: Extras,
    ) -> Result<Stored, StorageError> {
        let key = keys::object(kind, object::namespace(object), object::name(object));
        let absent = Condition { key: key.clone(), expect: Expect::Absent, violated: StorageError::Exists };
        self.write(key, absent, object, extras).await
    }

    /// Replaces the state that was read at `read`.
    pub(crate) async fn replace(
        &self,
        kind: &Kind,
        object: &Object,
        read: Revision,
        extras: Extras,
    ) -> Result<Stored, StorageError> {
        let key = keys::object(kind, object::namespace(object), object::name(object));
        let unchanged =
            Condition { key: key.clone(), expect: Expect::At(read), violated: StorageError::Modified };
        self.write(key, unchanged, object, extras).await
    }

    async fn write(
        &self,
        key: String,
        own: Condition,
        object: &Object,
        extras: Extras,
    ) -> Result<Stored, StorageError> {
        let mut steps = vec![Op::Put(put(key, encode(object)))];
        let result = self.commit_with(own, &mut steps, extras).await?;
        let mut object = object.clone();
        object::set_meta(&mut object, "resourceVersion", result.0.to_string());
        Ok(Stored { object, revision: result })
    }

    /// Removes the object whose state was read as `read`; returns the revision of the deletion.
    pub(crate) async fn delete(
        &self,
        kind: &Kind,
        read: &Stored,
        extras: Extras,
    ) -> Result<Revision, StorageError> {
        let key = keys::object(kind, object::namespace(&read.object), object::name(&read.object));
        let unchanged = Condition {
            key: key.clone(),
            expect: Expect::At(read.revision),
            violated: StorageError::Modified,
        };
        let mut steps = vec![Op::DeleteRange(DeleteRange { range: KeyRange::single(key), prev_kv: false })];
        self.commit_with(unchanged, &mut steps, extras).await
    }

    async fn commit_with(
        &self,
        own: Condition,
        steps: &mut Vec<Op>,
        extras: Extras,
    ) -> Result<Revision, StorageError> {
        // The object's own condition comes last: "fenced out" must win over "modified by the new leader".
        let mut conditions = extras.conditions;
        conditions.push(own);
        steps.extend(extras.puts.into_iter().map(Op::Put));
        steps.extend(
            extras
                .deletes
                .into_iter()
                .map(|key| Op::DeleteRange(DeleteRange { range: KeyRange::single(key), prev_kv: false })),
        );
        Ok(self.commit(conditions, std::mem::take(steps)).await?.revision)
    }

    /// Commits writes that concern no API object.
    pub(crate) async fn apply(&self, extras: Extras) -> Result<Revision, StorageError> {
        let mut steps: Vec<_> = extras.puts.into_iter().map(Op::Put).collect();
        let delete =
            |key: String| Op::DeleteRange(DeleteRange { range: KeyRange::single(key), prev_kv: false });
        steps.extend(extras.deletes.into_iter().map(delete));
        Ok(self.commit(extras.conditions, steps).await?.revision)
    }

    /// Reads the raw value of a key that holds no API object.
    pub(crate) async fn read_raw(&self, key: &str) -> Result<Option<KeyValue>, StorageError> {
        let range = Range::new(KeyRange::single(key.to_owned()));
        Ok(self.kv.range(range, Consistency::Linearizable).await?.kvs.into_iter().next())
    }

    /// Returns the keys below a prefix, without it.
    pub(crate) async fn keys_below(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut range = Range::new(KeyRange::prefix(prefix.to_owned()));
        range.keys_only = true;
        let found = self.kv.range(range, Consistency::Linearizable).await?;
        let tail = |kv: &KeyValue| {
            String::from_utf8_lossy(kv.key.get(prefix.len()..).unwrap_or_default()).into_owned()
        };
        Ok(found.kvs.iter().map(tail).collect())
    }
}

/// Returns the stored form: JSON without resourceVersion, which is the revision itself.
pub(crate) fn encode(object: &Object) -> Bytes {
    let mut object = object.clone();
    object::metadata_mut(&mut object).remove("resourceVersion");
    Value::Object(object).to_string().into()
}

/// Parses a stored object and gives it its resourceVersion.
pub(crate) fn decode(kv: &KeyValue) -> Result<Stored, StorageError> {
    let mut object: Object = serde_json::from_slice(&kv.value).map_err(|error| StorageError::Corrupt {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        reason: error.to_string(),
    })?;
    object::set_meta(&mut object, "resourceVersion", kv.mod_revision.0.to_string());
    Ok(Stored { object, revision: kv.mod_revision })
}
