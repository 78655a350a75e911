//! Passwords: hashed and compared here, off the async threads, and never passed on.

use tonic::Status;

use super::{Edge, status};
use crate::auth::Secret;
use crate::metrics::UnderWay;

/// Rounds of a hash are two to the power of this (etcd's default): about a twentieth of a second.
const COST: u32 = 10;
/// What bcrypt can do.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// More than this the hash does not look at.
const PASSWORD_BYTES_MAX: usize = 72;
/// Salt and digest that belong to no password.
const DECOY: &str = ".....................................................";

/// How dear a new hash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BcryptCost(u32);

impl Default for BcryptCost {
    fn default() -> Self {
        Self(COST)
    }
}

impl BcryptCost {
    /// As etcd: a cost that there is not stands for the default.
    #[must_use]
    pub fn new(cost: u32) -> Self {
        if COSTS.contains(&cost) {
            return Self(cost);
        }
        tracing::warn!(
            given = cost,
            min = COSTS.start(),
            max = COSTS.end(),
            used = COST,
            "no such cost of bcrypt"
        );
        Self::default()
    }
}

/// Hashes a new password.
pub(super) async fn hash(edge: &Edge, password: String) -> Result<Secret, Status> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(status::password_too_long());
    }
    let BcryptCost(cost) = edge.auth_options.bcrypt_cost;
    aside(edge, move || bcrypt::hash(password, cost)).await?.map(Secret)
}

/// Compares a password with a stored hash.
pub(super) async fn matches(edge: &Edge, password: String, hash: Secret) -> Result<bool, Status> {
    // What is longer was never accepted, and would be compared as if it were cut off.
    if password.len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    aside(edge, move || bcrypt::verify(password, &hash.0)).await?
}

/// Returns what a password is compared with where there is nobody: to find that out takes as long as a wrong password.
pub(super) fn decoy(edge: &Edge) -> Secret {
    let BcryptCost(cost) = edge.auth_options.bcrypt_cost;
    Secret(format!("$2b${cost:02}${DECOY}"))
}

async fn aside<T: Send + 'static>(
    edge: &Edge,
    work: impl FnOnce() -> Result<T, bcrypt::BcryptError> + Send + 'static,
) -> Result<Result<T, Status>, Status> {
    let _under_way = UnderWay::new(&edge.clients.passwords);
    let permit = edge.auth.sessions().hashing.acquire().await;
    let _permit = permit.map_err(|_| status::stopped())?;
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| status::hashing_failed(&error))?;
    Ok(done.map_err(|error| status::hashing_failed(&error)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::auth::{AuthCommand, ROOT};
    use crate::grpc::AuthService;
    use crate::guarded::Guarded;
    use crate::memory::MemoryStore;
    use crate::mvcc::Command;
    use proto::etcdserverpb as pb;
    use proto::etcdserverpb::auth_server::Auth;
    use tonic::Request;

    #[tokio::test]
    async fn the_decoy_is_a_hash_that_no_password_has() {
        let edge = Edge::new(&Arc::new(MemoryStore::new()));
        for password in ["", "root", "\0"] {
            assert!(!matches(&edge, password.to_owned(), decoy(&edge)).await.unwrap());
        }
    }

    #[test]
    fn a_cost_that_there_is_not_is_the_default() {
        assert_eq!([0, 3, 32].map(BcryptCost::new), [BcryptCost::default(); 3]);
        assert_eq!([4, 31].map(BcryptCost::new), [BcryptCost(4), BcryptCost(31)]);
    }

    /// How long an answer takes must not tell who exists.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_refused_before_a_password_was_compared() {
        let store = MemoryStore::new();
        let (name, hash) = (|name: &str| name.to_owned(), Some(Secret(bcrypt::hash("right", 4).unwrap())));
        for command in [
            AuthCommand::UserAdd { name: name(ROOT), password_hash: hash },
            AuthCommand::UserGrantRole { user: name(ROOT), role: name(ROOT) },
            AuthCommand::UserAdd { name: name("without"), password_hash: None },
            AuthCommand::Enable,
        ] {
            store.propose(&Command::Auth(command)).await.unwrap();
        }
        let auth = AuthService { edge: Edge::new(&Arc::new(store.clone())) };
        let hashing = store.sessions().hashing.acquire_many(2).await.unwrap();
        let login = |name: &str| {
            let (name, password) = (name.to_owned(), "wrong".to_owned());
            auth.authenticate(Request::new(pb::AuthenticateRequest { name, password }))
        };
        for user in [ROOT, "without", "nobody"] {
            let answer = tokio::time::timeout(Duration::from_secs(60), login(user)).await;
            assert!(answer.is_err(), "{user}: {answer:?}");
        }
        drop(hashing);
        assert_eq!(login("nobody").await.unwrap_err().message(), login(ROOT).await.unwrap_err().message());
    }
}
