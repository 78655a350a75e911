//! Who is asking: certificate first, then bearer token, else anonymous.

use transport::peer::Peer;

use crate::catalog::stored_kind;
use crate::endpoints::Api;
use crate::endpoints::status::Status;
use crate::object;
use crate::pki::VerifiedToken;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
    pub uid: String,
}

pub(crate) const ANONYMOUS: &str = "system:anonymous";
pub(crate) const AUTHENTICATED_GROUP: &str = "system:authenticated";
const UNAUTHENTICATED_GROUP: &str = "system:unauthenticated";

impl User {
    pub(crate) fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED_GROUP.to_owned()],
            uid: String::new(),
        }
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

impl Api {
    /// Names the caller.
    ///
    /// # Errors
    /// Unauthorized for a bearer token that is not valid; a wrong token is never treated as anonymous.
    pub(crate) async fn authenticate(
        &self,
        peer: Option<&Peer>,
        authorization: Option<&str>,
    ) -> Result<User, Status> {
        if let Some(subject) = peer.and_then(Peer::subject) {
            let mut groups = subject.organizations;
            groups.push(AUTHENTICATED_GROUP.to_owned());
            return Ok(User { name: subject.common_name, groups, uid: String::new() });
        }
        match authorization.and_then(bearer) {
            Some(token) => self.token_user(token).await,
            None => Ok(User::anonymous()),
        }
    }

    async fn token_user(&self, token: &str) -> Result<User, Status> {
        let verified = self.tokens.verify(token, self.outside.now()).map_err(|_| Status::unauthorized())?;
        self.check_still_bound(&verified).await?;
        let VerifiedToken { namespace, account, account_uid, .. } = verified;
        Ok(User {
            name: format!("system:serviceaccount:{namespace}:{account}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                AUTHENTICATED_GROUP.to_owned(),
            ],
            uid: account_uid,
        })
    }

    /// A token dies with its account and with the pod that it is bound to.
    async fn check_still_bound(&self, token: &VerifiedToken) -> Result<(), Status> {
        let accounts = stored_kind("", "serviceaccounts").ok_or_else(Status::unauthorized)?;
        let mut bound = vec![(accounts, &token.account, &token.account_uid)];
        if let Some(pod) = &token.bound {
            let pods = stored_kind("", "pods").ok_or_else(Status::unauthorized)?;
            bound.push((pods, &pod.name, &pod.uid));
        }
        for (kind, name, uid) in bound {
            let found = self.storage.get(kind, &token.namespace, name).await;
            let found = found.map_err(|error| Status::from_storage(error, kind, name))?;
            if found.is_none_or(|stored| object::uid(&stored.object) != uid) {
                return Err(Status::unauthorized());
            }
        }
        Ok(())
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
