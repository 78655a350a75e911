//! Signs who somebody is, and reads it again.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::options::{OptionsError, WebOptions};
use crate::auth::{Caller, Secret};

/// Gives and checks web tokens with one pair of keys.
pub struct TokenSigner {
    algorithm: Algorithm,
    signing: Option<EncodingKey>,
    checking: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// As etcd words it.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    #[error("cannot sign a token: {0}")]
    Failed(String),
}

/// The claims that etcd's members understand.
#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenSigner").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Reads the keys, and tries them on a token that nobody sees.
    ///
    /// # Errors
    /// When keys are missing, cannot be read, or do not belong together or to the method.
    pub fn new(options: &WebOptions) -> Result<Self, OptionsError> {
        let Keys { signing, checking } = Keys::read(options)?;
        let mut validation = Validation::new(options.algorithm);
        // Whoever signs elsewhere may leave times out, as with etcd.
        validation.required_spec_claims.clear();
        validation.validate_nbf = true;
        validation.validate_aud = false;
        validation.leeway = 0;
        let signer = Self { algorithm: options.algorithm, signing, checking, validation, ttl: options.ttl };
        match signer.sign("", 0) {
            Ok(token) if signer.caller(&token).is_none() => Err(OptionsError::KeyMismatch),
            Ok(_) | Err(SignError::VerifyOnly) => Ok(signer),
            Err(SignError::Failed(error)) => Err(OptionsError::Unreadable(error)),
        }
    }

    /// Returns a token of `user`, who was proved at `auth_revision`.
    pub(crate) fn sign(&self, user: &str, auth_revision: u64) -> Result<Secret, SignError> {
        let key = self.signing.as_ref().ok_or(SignError::VerifyOnly)?;
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + self.ttl;
        let claims = Claims { username: user.to_owned(), revision: auth_revision, exp: Some(end.as_secs()) };
        let token = encode(&Header::new(self.algorithm), &claims, key);
        token.map(Secret).map_err(|error| SignError::Failed(error.to_string()))
    }

    /// Returns whom a token names, if it is signed as it should be and holds now.
    pub(crate) fn caller(&self, token: &Secret) -> Option<Caller> {
        let read = decode::<Claims>(&token.0, &self.checking, &self.validation).ok()?;
        let Claims { username: name, revision: auth_revision, .. } = read.claims;
        Some(Caller::User { name, auth_revision })
    }
}
