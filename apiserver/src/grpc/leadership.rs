//! Service `Leadership`: locks whose epoch the store compares at every fenced commit.
//!
//! A lock is a key on a store lease, so it falls by itself when its holder stops renewing. The key's create revision is
//! the epoch: it grows with every acquisition, and nobody can choose it.

use std::time::Duration;

use proto::keelson::leadership_server::Leadership;
use proto::keelson::{
    AcquireRequest, AcquireResponse, ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse,
};
use serde::{Deserialize, Serialize};
use store::kv::KvError;
use store::mvcc::{KeyValue, LeaseId, Revision};
use tonic::{Request, Response};

use super::status::to_grpc;
use super::{Services, user_of};
use crate::authz::Attributes;
use crate::endpoints::status::Status;
use crate::storage::condition::{Condition, Expect, Extras, put};
use crate::storage::{StorageError, keys};

/// Shortest time to live, so that one lost renewal does not end a leadership.
const TTL_SECONDS_MIN: u32 = 2;
const TTL_SECONDS_MAX: u32 = 300;
const LOCK_BYTES_MAX: usize = 128;

/// The value of a lock's key.
#[derive(Serialize, Deserialize)]
struct Holder {
    version: u32,
    /// As the holder calls itself.
    identity: String,
    /// As it is authenticated; only this user may renew or release.
    user: String,
}

#[tonic::async_trait]
impl Leadership for Services {
    async fn acquire(
        &self,
        request: Request<AcquireRequest>,
    ) -> Result<Response<AcquireResponse>, tonic::Status> {
        let user = user_of(&request)?.name.clone();
        self.may_lead(&request, &request.get_ref().lock).await?;
        let acquired = self.take(request.get_ref(), user).await;
        acquired.map(Response::new).map_err(|status| to_grpc(&status))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, tonic::Status> {
        let user = user_of(&request)?.name.clone();
        let wanted = request.get_ref();
        let held = async {
            let Some((key, holder)) = self.holder(&wanted.lock).await? else { return Ok(false) };
            if !is_held_by(&key, &holder, &wanted.identity, &user, wanted.epoch) {
                return Ok(false);
            }
            match self.api.storage.kv.lease_keep_alive(key.lease).await {
                Ok(_) => Ok(true),
                Err(KvError::LeaseNotFound) => Ok(false),
                Err(error) => Err(Status::from(error)),
            }
        };
        let held = held.await.map_err(|status| to_grpc(&status))?;
        Ok(Response::new(RenewResponse { held }))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, tonic::Status> {
        let user = user_of(&request)?.name.clone();
        let wanted = request.get_ref();
        let released = async {
            let Some((key, holder)) = self.holder(&wanted.lock).await? else { return Ok(()) };
            if is_held_by(&key, &holder, &wanted.identity, &user, wanted.epoch) {
                match self.api.storage.kv.lease_revoke(key.lease).await {
                    Ok(()) | Err(KvError::LeaseNotFound) => {}
                    Err(error) => return Err(Status::from(error)),
                }
            }
            Ok(())
        };
        released.await.map_err(|status| to_grpc(&status))?;
        Ok(Response::new(ReleaseResponse {}))
    }
}

impl Services {
    /// Locks are authorized as Leases of `kube-system`, by name.
    async fn may_lead<T>(&self, request: &Request<T>, lock: &str) -> Result<(), tonic::Status> {
        let user = user_of(request)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if lock.is_empty() || lock.len() > LOCK_BYTES_MAX || !lock.bytes().all(legal) {
            return Err(to_grpc(&Status::bad_request(format!("{lock:?} is no name for a lock"))));
        }
        let attributes = Attributes {
            verb: "update".to_owned(),
            group: "coordination.k8s.io".to_owned(),
            resource: "leases".to_owned(),
            namespace: "kube-system".to_owned(),
            name: lock.to_owned(),
            ..Attributes::default()
        };
        self.api.authorize(&user, &attributes).await.map_err(|status| to_grpc(&status))
    }

    async fn take(&self, wanted: &AcquireRequest, user: String) -> Result<AcquireResponse, Status> {
        if let Some((key, holder)) = self.holder(&wanted.lock).await? {
            return Ok(AcquireResponse { holder: holder.identity, ..not_acquired(&key) });
        }
        let seconds = wanted.ttl_seconds.clamp(TTL_SECONDS_MIN, TTL_SECONDS_MAX);
        let ttl = Duration::from_secs(u64::from(seconds));
        let lease = self.api.storage.kv.lease_grant(LeaseId::NONE, ttl).await?.id;
        let holder = Holder { version: 1, identity: wanted.identity.clone(), user };
        let key = format!("{}{}", keys::LEADERS, wanted.lock);
        let mut record = put(key.clone(), serde_json::to_vec(&holder).map_err(Status::internal)?);
        record.lease = lease;
        let free = Condition { key, expect: Expect::Absent, violated: StorageError::Exists };
        let extras = Extras { conditions: vec![free], puts: vec![record], deletes: vec![] };
        match self.api.storage.apply(extras).await {
            Ok(revision) => {
                let number = u64::try_from(revision.0).unwrap_or(0);
                Ok(AcquireResponse {
                    acquired: true,
                    holder: holder.identity,
                    epoch: number,
                    revision: number,
                })
            }
            Err(StorageError::Exists) => {
                // Another one was first; the unused lease would only linger.
                let _expires_anyway = self.api.storage.kv.lease_revoke(lease).await;
                let present = self.holder(&wanted.lock).await?;
                let name = present.map(|(_, holder)| holder.identity).unwrap_or_default();
                Ok(AcquireResponse { acquired: false, holder: name, epoch: 0, revision: 0 })
            }
            Err(StorageError::Kv(error)) => Err(Status::from(error)),
            Err(error) => Err(Status::internal(error)),
        }
    }

    async fn holder(&self, lock: &str) -> Result<Option<(KeyValue, Holder)>, Status> {
        let key = format!("{}{lock}", keys::LEADERS);
        let found = self.api.storage.read_raw(&key).await.map_err(|error| match error {
            StorageError::Kv(error) => Status::from(error),
            other => Status::internal(other),
        })?;
        let Some(kv) = found else { return Ok(None) };
        let holder = serde_json::from_slice(&kv.value).map_err(Status::internal)?;
        Ok(Some((kv, holder)))
    }
}

fn not_acquired(key: &KeyValue) -> AcquireResponse {
    let Revision(revision) = key.mod_revision;
    AcquireResponse {
        acquired: false,
        holder: String::new(),
        epoch: 0,
        revision: u64::try_from(revision).unwrap_or(0),
    }
}

fn is_held_by(key: &KeyValue, holder: &Holder, identity: &str, user: &str, epoch: u64) -> bool {
    holder.identity == identity && holder.user == user && u64::try_from(key.create_revision.0) == Ok(epoch)
}
