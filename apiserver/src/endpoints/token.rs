//! `serviceaccounts/token`: short-lived tokens bound to an account and, where asked, to a pod.

use serde_json::{Value, json};

use super::status::Status;
use super::{Api, Call};
use crate::catalog::stored_kind;
use crate::object;
use crate::pki::{BoundObject, TokenClaims};
use crate::registry::{FieldError, FieldErrorReason, Object};

/// Shortest life that upstream grants.
const EXPIRATION_SECONDS_MIN: i64 = 600;
/// Longest: upstream's limit is 2^32; a day is enough, agents renew.
const EXPIRATION_SECONDS_MAX: i64 = 86_400;
const EXPIRATION_SECONDS_DEFAULT: i64 = 3_600;

/// A token as asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenWanted {
    pub(crate) audiences: Vec<String>,
    pub(crate) expiration_seconds: Option<i64>,
    /// Kind, name and uid of what the token dies with.
    pub(crate) bound: Option<(String, String, String)>,
}

/// A signed token and when it ends.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) expires: jiff::Timestamp,
    pub(crate) audiences: Vec<String>,
}

impl Api {
    /// Issues a token for the service account that `call` names.
    pub(crate) async fn issue_token(&self, call: &Call, wanted: &TokenWanted) -> Result<Issued, Status> {
        let account = self.existing(call).await?.object;
        let seconds = wanted.expiration_seconds.unwrap_or(EXPIRATION_SECONDS_DEFAULT);
        if seconds < EXPIRATION_SECONDS_MIN {
            let error = FieldError {
                field: "spec.expirationSeconds".to_owned(),
                reason: FieldErrorReason::Invalid,
                message: format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes"),
            };
            return Err(Status::invalid_named(
                "TokenRequest.authentication.k8s.io",
                "authentication.k8s.io",
                "TokenRequest",
                "",
                &[error],
            ));
        }
        let bound = match &wanted.bound {
            None => None,
            Some((kind, name, uid)) => Some(self.bound_object(call, kind, name, uid).await?),
        };
        let claims = TokenClaims {
            namespace: call.namespace.clone(),
            account: call.name.clone(),
            account_uid: object::uid(&account).to_owned(),
            audiences: wanted.audiences.clone(),
            lifetime_seconds: seconds.min(EXPIRATION_SECONDS_MAX),
            bound,
        };
        let (token, expires) = self.tokens.sign(&claims, self.outside.now()).map_err(Status::internal)?;
        let audiences = self.tokens.audiences_or_default(&wanted.audiences);
        Ok(Issued { token, expires, audiences })
    }

    async fn bound_object(
        &self,
        call: &Call,
        kind: &str,
        name: &str,
        uid: &str,
    ) -> Result<BoundObject, Status> {
        if kind != "Pod" {
            return Err(Status::not_implemented(&format!("binding a token to a {kind}")));
        }
        let pods = stored_kind("", "pods").ok_or_else(Status::no_such_resource)?;
        let pod_call = Call { kind: pods, name: name.to_owned(), ..call.clone() };
        let pod = self.existing(&pod_call).await?.object;
        let found = object::uid(&pod);
        if !uid.is_empty() && uid != found {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict(pods, name, &why));
        }
        if object::str_at(&pod, &["spec", "serviceAccountName"]) != call.name {
            let why = format!(
                "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                call.name
            );
            return Err(Status::bad_request(why));
        }
        Ok(BoundObject {
            name: name.to_owned(),
            uid: found.to_owned(),
            node: object::str_at(&pod, &["spec", "nodeName"]).to_owned(),
        })
    }

    /// Answers a TokenRequest object.
    pub(crate) async fn token_request(&self, call: &Call, mut request: Object) -> Result<Object, Status> {
        let text = |path: &[&str]| object::str_at(&request, path).to_owned();
        let bound =
            object::at(&request, &["spec", "boundObjectRef"]).filter(|bound| bound.is_object()).map(|_| {
                let field = |name: &str| text(&["spec", "boundObjectRef", name]);
                (field("kind"), field("name"), field("uid"))
            });
        let wanted = TokenWanted {
            audiences: object::strings(object::at(&request, &["spec", "audiences"])),
            expiration_seconds: object::at(&request, &["spec", "expirationSeconds"]).and_then(Value::as_i64),
            bound,
        };
        let issued = self.issue_token(call, &wanted).await?;
        request.insert("kind".to_owned(), "TokenRequest".into());
        request.insert("apiVersion".to_owned(), "authentication.k8s.io/v1".into());
        object::set_meta(&mut request, "name", call.name.as_str());
        object::set_meta(&mut request, "namespace", call.namespace.as_str());
        object::set_at(&mut request, &["spec", "audiences"], issued.audiences.into());
        let expires = super::time_text(issued.expires);
        request.insert("status".to_owned(), json!({"token": issued.token, "expirationTimestamp": expires}));
        Ok(request)
    }
}
