//! Users and roles as they are stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use proto::store as wire;

use super::{Permission, PermissionKind, Secret};
use crate::engine::EngineError;
use crate::mvcc::{KeyRange, STATE_FORMAT, check_format, corrupt};
use crate::wire::{permission_from_wire, permission_to_wire};

/// Someone who may be given roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// `None` for a user who cannot prove itself by password.
    pub password_hash: Option<Secret>,
    pub roles: BTreeSet<String>,
}

impl User {
    pub(super) fn encode(&self) -> Bytes {
        let hash = self.password_hash.as_ref().map(|hash| hash.0.clone());
        let record = wire::AuthUser {
            format: STATE_FORMAT,
            name: self.name.clone(),
            password_hash: hash.unwrap_or_default(),
            roles: self.roles.iter().cloned().collect(),
        };
        record.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, EngineError> {
        let record = wire::AuthUser::decode(bytes).map_err(|error| corrupt(b"user", &error.to_string()))?;
        check_format(record.format)?;
        Ok(Self {
            name: record.name,
            password_hash: Some(record.password_hash).filter(|hash| !hash.is_empty()).map(Secret),
            roles: record.roles.into_iter().collect(),
        })
    }
}

/// A named set of permissions; a range is in it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub name: String,
    pub(super) permissions: BTreeMap<KeyRange, PermissionKind>,
}

impl Role {
    pub(super) fn new(name: String) -> Self {
        Self { name, permissions: BTreeMap::new() }
    }

    /// Returns a role with these permissions; of several on one range the last one counts.
    pub(crate) fn with(name: String, permissions: impl IntoIterator<Item = Permission>) -> Self {
        let permissions = permissions.into_iter().map(|permission| (permission.range, permission.kind));
        Self { name, permissions: permissions.collect() }
    }

    /// Returns the permissions in order of their start keys.
    pub fn permissions(&self) -> impl Iterator<Item = Permission> {
        self.permissions.iter().map(|(range, kind)| Permission { kind: *kind, range: range.clone() })
    }

    pub(super) fn encode(&self) -> Bytes {
        let record = wire::AuthRole {
            format: STATE_FORMAT,
            name: self.name.clone(),
            permissions: self.permissions().map(permission_to_wire).collect(),
        };
        record.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, EngineError> {
        let record = wire::AuthRole::decode(bytes).map_err(|error| corrupt(b"role", &error.to_string()))?;
        check_format(record.format)?;
        let mut permissions = BTreeMap::new();
        for permission in record.permissions {
            let permission =
                permission_from_wire(permission).map_err(|error| corrupt(b"role", &error.to_string()))?;
            permissions.insert(permission.range, permission.kind);
        }
        Ok(Self { name: record.name, permissions })
    }
}
