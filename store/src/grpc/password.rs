//! Passwords: hashed and compared here, off the async threads, and never passed on.

use tonic::Status;

use super::{Edge, status};
use crate::auth::Secret;

/// Rounds are two to the power of this (etcd's default): about a twentieth of a second.
const COST: u32 = 10;
/// More than this the hash does not look at.
const PASSWORD_BYTES_MAX: usize = 72;

/// Hashes a new password.
pub(super) async fn hash(edge: &Edge, password: String) -> Result<Secret, Status> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(status::password_too_long());
    }
    aside(edge, move || bcrypt::hash(password, COST)).await?.map(Secret)
}

/// Compares a password with a stored hash.
pub(super) async fn matches(edge: &Edge, password: String, hash: Secret) -> Result<bool, Status> {
    // What is longer was never accepted, and would be compared as if it were cut off.
    if password.len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    aside(edge, move || bcrypt::verify(password, &hash.0)).await?
}

async fn aside<T: Send + 'static>(
    edge: &Edge,
    work: impl FnOnce() -> Result<T, bcrypt::BcryptError> + Send + 'static,
) -> Result<Result<T, Status>, Status> {
    let permit = edge.auth.sessions().hashing.acquire().await;
    let _permit = permit.map_err(|_| status::stopped())?;
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| status::hashing_failed(&error))?;
    Ok(done.map_err(|error| status::hashing_failed(&error)))
}
