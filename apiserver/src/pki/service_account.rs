//! Service-account tokens: ES256 JWTs with upstream's claims.

use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

use super::bundle::{Bundle, PkiError};

/// Issuer, and audience of tokens that ask for none.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Clocks of two servers may differ by this much.
const CLOCK_SKEW_SECONDS: i64 = 10;

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("token cannot be read or its signature is wrong")]
    Signature(#[source] jsonwebtoken::errors::Error),
    #[error("token is not valid at this time")]
    Time,
    #[error("token is for another audience")]
    Audience,
    #[error("token is from another issuer")]
    Issuer,
}

/// What a new token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    /// Empty for the API server itself.
    pub audiences: Vec<String>,
    pub lifetime_seconds: i64,
    pub bound: Option<BoundObject>,
}

/// The pod that a token dies with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundObject {
    pub name: String,
    pub uid: String,
    /// Empty while unbound.
    pub node: String,
}

/// What a valid token proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    pub bound: Option<BoundObject>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    nbf: i64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Serialize, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
}

#[derive(Serialize, Deserialize)]
struct Reference {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
}

/// Signs and verifies tokens with the bundle's key.
#[derive(Clone)]
pub struct TokenSigner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    key_id: String,
    jwks: JwkSet,
}

impl Bundle {
    /// Returns what signs and verifies service-account tokens.
    ///
    /// # Errors
    /// When the bundle's key cannot be used.
    pub fn token_signer(&self) -> Result<TokenSigner, PkiError> {
        let bad_key = |error: jsonwebtoken::errors::Error| PkiError::SigningKey(error.to_string());
        let pair = KeyPair::from_pem(&self.token_key_pem)?;
        let encoding = EncodingKey::from_ec_pem(self.token_key_pem.as_bytes()).map_err(bad_key)?;
        let decoding = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).map_err(bad_key)?;
        let mut key = Jwk::from_encoding_key(&encoding, Algorithm::ES256).map_err(bad_key)?;
        let key_id = key.thumbprint(ThumbprintHash::SHA256).map_err(bad_key)?;
        key.common.key_id = Some(key_id.clone());
        Ok(TokenSigner { encoding, decoding, key_id, jwks: JwkSet { keys: vec![key] } })
    }
}

impl TokenSigner {
    /// Signs a token; returns it with its expiry.
    ///
    /// # Errors
    /// When signing fails, which only a broken key causes.
    pub fn sign(
        &self,
        claims: &TokenClaims,
        now: Timestamp,
    ) -> Result<(String, Timestamp), jsonwebtoken::errors::Error> {
        let issued = now.as_second();
        let expires = issued.saturating_add(claims.lifetime_seconds);
        let reference = |name: &str, uid: &str| Reference { name: name.to_owned(), uid: uid.to_owned() };
        let bound = claims.bound.as_ref();
        let body = Claims {
            aud: self.audiences_or_default(&claims.audiences),
            exp: expires,
            iat: issued,
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: issued,
            sub: format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
            kubernetes: Kubernetes {
                namespace: claims.namespace.clone(),
                serviceaccount: reference(&claims.account, &claims.account_uid),
                pod: bound.map(|bound| reference(&bound.name, &bound.uid)),
                node: bound.filter(|bound| !bound.node.is_empty()).map(|bound| reference(&bound.node, "")),
            },
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        let token = encode(&header, &body, &self.encoding)?;
        Ok((token, Timestamp::from_second(expires).unwrap_or(Timestamp::MAX)))
    }

    /// Returns the audiences that a token gets.
    #[must_use]
    pub fn audiences_or_default(&self, wanted: &[String]) -> Vec<String> {
        if wanted.is_empty() { vec![ISSUER.to_owned()] } else { wanted.to_vec() }
    }

    /// Checks signature, times, issuer and audience at `now`. Whether account and pod still exist is up to the caller.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedToken, TokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        // Times and audience are checked below against the caller's clock.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let claims: Claims =
            decode(token, &self.decoding, &validation).map_err(TokenError::Signature)?.claims;
        let now = now.as_second();
        if now >= claims.exp || now.saturating_add(CLOCK_SKEW_SECONDS) < claims.nbf {
            return Err(TokenError::Time);
        }
        if claims.iss != ISSUER {
            return Err(TokenError::Issuer);
        }
        if !claims.aud.iter().any(|audience| audience == ISSUER) {
            return Err(TokenError::Audience);
        }
        let Kubernetes { namespace, serviceaccount, pod, node } = claims.kubernetes;
        let node = node.map(|node| node.name).unwrap_or_default();
        let bound = pod.map(|pod| BoundObject { name: pod.name, uid: pod.uid, node });
        Ok(VerifiedToken { namespace, account: serviceaccount.name, account_uid: serviceaccount.uid, bound })
    }

    /// Returns the public keys (`/openid/v1/jwks`).
    #[must_use]
    pub fn jwks(&self) -> &JwkSet {
        &self.jwks
    }
}
