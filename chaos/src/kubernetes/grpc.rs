//! Requests over gRPC, through the project's own client.

use client::{
    ApiError, Client, DeleteOptions, DynamicObject, Fence, ListOptions, Patch, Propagation, ResourceKind,
    WriteOptions,
};
use serde_json::Value;
use tokio::time::timeout;

use super::{CALL_TIMEOUT, without_managers};
use crate::etcd::Failure;
use crate::history::{ApiAnswer, ApiCall, Listing, Lock, Removal, Resource, Written, revision};

/// Sends one request.
///
/// # Errors
/// [`Failure`] says whether it may have been done.
pub(super) async fn perform(client: &Client, call: &ApiCall) -> Result<ApiAnswer, Failure> {
    let sending = async {
        match call {
            ApiCall::Get(named) => {
                object(client.get_as(&kind(named.resource), &named.namespace, &named.name).await)
            }
            ApiCall::List(listing) => list(client, listing).await,
            ApiCall::Create(written) => {
                let options = options(written.fence.as_ref());
                match shaped(written) {
                    Ok(new) => object(client.create_as(&kind(written.resource), &new, &options).await),
                    Err(failure) => Err(failure),
                }
            }
            ApiCall::Update(written) => {
                let options = options(written.fence.as_ref());
                match shaped(written) {
                    Ok(new) => object(
                        client.update_subresource_as(&kind(written.resource), "", &new, &options).await,
                    ),
                    Err(failure) => Err(failure),
                }
            }
            ApiCall::Patch(written) => {
                let (options, patch) =
                    (options(written.fence.as_ref()), Patch::Merge(written.object.clone()));
                let target = (written.namespace.as_str(), written.name.as_str());
                object(client.patch_as(&kind(written.resource), target, "", &patch, &options).await)
            }
            ApiCall::Delete(removal) => delete(client, removal).await,
            ApiCall::Acquire(_) | ApiCall::Renew(_) | ApiCall::Release(_) => {
                Err(Failure::NotApplied("locks have a service of their own".to_owned()))
            }
        }
    };
    timeout(CALL_TIMEOUT, sending).await.unwrap_or_else(|_| Err(Failure::Unknown("no answer".to_owned())))
}

pub(super) fn kind(resource: Resource) -> ResourceKind {
    ResourceKind {
        group: resource.group().to_owned(),
        version: "v1".to_owned(),
        resource: resource.plural().to_owned(),
        kind: resource.kind().to_owned(),
    }
}

fn options(fence: Option<&Lock>) -> WriteOptions {
    let fence = fence.map(|lock| Fence { lock: lock.lock.clone(), epoch: lock.epoch });
    WriteOptions { fence, ..WriteOptions::default() }
}

fn shaped(written: &Written) -> Result<DynamicObject, Failure> {
    serde_json::from_value(written.object.clone()).map_err(|error| Failure::NotApplied(error.to_string()))
}

async fn list(client: &Client, listing: &Listing) -> Result<ApiAnswer, Failure> {
    let options =
        ListOptions { resource_version: listing.resource_version.clone(), ..ListOptions::default() };
    match client.list_as::<DynamicObject>(&kind(listing.resource), &listing.namespace, &options).await {
        Ok(list) => Ok(ApiAnswer {
            code: 200,
            items: list.items.iter().map(value).collect(),
            revision: i64::try_from(list.revision).unwrap_or(i64::MAX),
            ..ApiAnswer::default()
        }),
        Err(error) => refused(error),
    }
}

async fn delete(client: &Client, removal: &Removal) -> Result<ApiAnswer, Failure> {
    let propagation = match removal.propagation.as_deref() {
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(_) => Some(Propagation::Background),
        None => None,
    };
    let delete = DeleteOptions { propagation, ..DeleteOptions::default() };
    let kind = kind(removal.resource);
    let none = WriteOptions::default();
    match client.delete_as(&kind, &removal.namespace, &removal.name, &delete, &none).await {
        Ok(()) => Ok(ApiAnswer { code: 200, ..ApiAnswer::default() }),
        Err(error) => refused(error),
    }
}

fn object(answered: Result<DynamicObject, ApiError>) -> Result<ApiAnswer, Failure> {
    match answered {
        Ok(object) => {
            let object = value(&object);
            Ok(ApiAnswer { code: 200, revision: revision(&object), object, ..ApiAnswer::default() })
        }
        Err(error) => refused(error),
    }
}

fn value(object: &DynamicObject) -> Value {
    without_managers(serde_json::to_value(object).unwrap_or_default())
}

/// What an error says of a request, with the code that REST has for it.
pub(super) fn refused(error: ApiError) -> Result<ApiAnswer, Failure> {
    let certain =
        |code, reason: &str| Ok(ApiAnswer { code, reason: reason.to_owned(), ..ApiAnswer::default() });
    match error {
        ApiError::NotFound(_) => certain(404, "NotFound"),
        ApiError::AlreadyExists(_) => certain(409, "AlreadyExists"),
        ApiError::Conflict(_) => certain(409, "Conflict"),
        ApiError::FencedOut(_) => certain(409, "FencedOut"),
        ApiError::Invalid(_) => certain(422, "Invalid"),
        ApiError::Forbidden(_) => certain(403, "Forbidden"),
        ApiError::Unauthorized(_) => certain(401, "Unauthorized"),
        ApiError::Expired(_) => certain(410, "Expired"),
        ApiError::TooManyRequests(failure) | ApiError::Unavailable(failure) => {
            Err(Failure::NotApplied(failure.to_string()))
        }
        ApiError::OutcomeUnknown(failure)
        | ApiError::Unimplemented(failure)
        | ApiError::Internal(failure)
        | ApiError::Malformed(failure)
        | ApiError::Config(failure) => Err(Failure::Unknown(failure.to_string())),
    }
}
