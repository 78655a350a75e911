//! Signs who somebody is, and reads it again.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::es512::Es512;
use super::keys::Keys;
use super::options::{Method, OptionsError, WebOptions};
use crate::auth::{Caller, Secret};

/// Gives and checks web tokens with one pair of keys.
pub struct TokenSigner {
    method: Method,
    keyring: Keyring,
    ttl: Duration,
}

/// The keys with what uses them.
enum Keyring {
    Library(Box<Library>),
    Es512(Box<Es512>),
}

/// The library with the keys of one algorithm.
struct Library {
    algorithm: Algorithm,
    signing: Option<EncodingKey>,
    checking: DecodingKey,
    validation: Validation,
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
        formatter.debug_struct("TokenSigner").field("method", &self.method).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Reads the keys, and tries them on a token that nobody sees.
    ///
    /// # Errors
    /// When keys are missing, cannot be read, or do not belong together or to the method.
    pub fn new(options: &WebOptions) -> Result<Self, OptionsError> {
        let keyring = match options.method {
            Method::Library(algorithm) => Keyring::Library(Box::new(Library::read(algorithm, options)?)),
            Method::Es512 => Keyring::Es512(Box::new(Es512::read(options)?)),
        };
        let signer = Self { method: options.method, keyring, ttl: options.ttl };
        match signer.sign("", 0) {
            Ok(token) if signer.caller(&token).is_none() => Err(OptionsError::KeyMismatch),
            Ok(_) | Err(SignError::VerifyOnly) => Ok(signer),
            Err(SignError::Failed(error)) => Err(OptionsError::Unreadable(error)),
        }
    }

    /// Returns a token of `user`, who was proved at `auth_revision`.
    pub(crate) fn sign(&self, user: &str, auth_revision: u64) -> Result<Secret, SignError> {
        let end = now() + self.ttl;
        let claims = Claims { username: user.to_owned(), revision: auth_revision, exp: Some(end.as_secs()) };
        let token = match &self.keyring {
            Keyring::Library(library) => library.sign(&claims),
            Keyring::Es512(es512) => es512.sign(&claims),
        };
        token.map(Secret)
    }

    /// Returns whom a token names, if it is signed as it should be and holds now.
    pub(crate) fn caller(&self, token: &Secret) -> Option<Caller> {
        let claims = match &self.keyring {
            Keyring::Library(library) => library.claims(&token.0),
            Keyring::Es512(es512) => es512.claims(&token.0, now().as_secs()),
        };
        let Claims { username: name, revision: auth_revision, .. } = claims?;
        Some(Caller::User { name, auth_revision })
    }
}

impl Library {
    fn read(algorithm: Algorithm, options: &WebOptions) -> Result<Self, OptionsError> {
        let Keys { signing, checking } = Keys::read(algorithm, options)?;
        let mut validation = Validation::new(algorithm);
        // Whoever signs elsewhere may leave times out, as with etcd.
        validation.required_spec_claims.clear();
        validation.validate_nbf = true;
        validation.validate_aud = false;
        validation.leeway = 0;
        Ok(Self { algorithm, signing, checking, validation })
    }

    fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        let key = self.signing.as_ref().ok_or(SignError::VerifyOnly)?;
        let token = encode(&Header::new(self.algorithm), claims, key);
        token.map_err(|error| SignError::Failed(error.to_string()))
    }

    fn claims(&self, token: &str) -> Option<Claims> {
        decode::<Claims>(token, &self.checking, &self.validation).ok().map(|read| read.claims)
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
