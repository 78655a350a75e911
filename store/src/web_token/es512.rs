//! ES512, which the library of all other methods lacks: ECDSA on the curve P-521 over SHA-512 (RFC 7518, 3.4), by the same cryptography.
//!
//! Claims are judged as the library judges them for other methods: `exp` and `nbf` count where they are, to the second.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::pem::SectionKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use transport::peer;

use super::keys::{is_private, read_file, sections};
use super::options::{OptionsError, WebOptions};
use super::signer::SignError;

const NAME: &str = "ES512";

/// What signs, where there is a private key, and what checks.
pub(super) struct Es512 {
    signing: Option<EcdsaKeyPair>,
    checking: ParsedPublicKey,
}

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
    alg: String,
}

/// When a token holds, in seconds.
#[derive(Deserialize)]
struct Times {
    exp: Option<u64>,
    nbf: Option<u64>,
}

impl Es512 {
    /// Reads the keys.
    ///
    /// # Errors
    /// When they are missing, cannot be read, or are of another kind.
    pub(super) fn read(options: &WebOptions) -> Result<Self, OptionsError> {
        let signing = options.private_key.as_deref().map(read_file).transpose()?;
        let signing = signing.map(|pem| private_key(&pem)).transpose()?;
        let given = options.public_key.as_deref().map(read_file).transpose()?;
        let checking = match (given, &signing) {
            (Some(pem), _) => public_key(&pem)?,
            (None, Some(pair)) => parsed(pair.public_key().as_ref())?,
            (None, None) => return Err(OptionsError::MissingKey),
        };
        Ok(Self { signing, checking })
    }

    /// Returns a token with these claims.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let pair = self.signing.as_ref().ok_or(SignError::VerifyOnly)?;
        let failed = |error: &dyn std::fmt::Display| SignError::Failed(error.to_string());
        let header = Header { typ: Some("JWT".to_owned()), alg: NAME.to_owned() };
        let header = serde_json::to_vec(&header).map_err(|error| failed(&error))?;
        let claims = serde_json::to_vec(claims).map_err(|error| failed(&error))?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|error| failed(&error))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Returns the claims of a token that is signed as it should be and holds at `now_seconds`.
    pub(super) fn claims<T: DeserializeOwned>(&self, token: &str, now_seconds: u64) -> Option<T> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        // What is not signed says nothing, so it comes first.
        self.checking.verify_sig(signed.as_bytes(), &decode(signature)?).ok()?;
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let claims = decode(claims)?;
        let times: Times = serde_json::from_slice(&claims).ok()?;
        let holds = times.exp.is_none_or(|end| end >= now_seconds)
            && times.nbf.is_none_or(|start| start <= now_seconds);
        (header.alg == NAME && holds).then(|| serde_json::from_slice(&claims).ok()).flatten()
    }
}

fn wrong_key(reason: impl std::fmt::Display) -> OptionsError {
    OptionsError::Unreadable(format!(
        "ES512 takes a key of the curve P-521 in PEM, and this is none: {reason}"
    ))
}

fn private_key(pem: &[u8]) -> Result<EcdsaKeyPair, OptionsError> {
    let (_, der) = sections(pem).find(is_private).ok_or_else(|| wrong_key("no private key"))?;
    EcdsaKeyPair::from_private_key_der(&ECDSA_P521_SHA512_FIXED_SIGNING, &der).map_err(wrong_key)
}

/// A public key alone or in a certificate.
fn public_key(pem: &[u8]) -> Result<ParsedPublicKey, OptionsError> {
    for (kind, der) in sections(pem) {
        match kind {
            SectionKind::Certificate => {
                return parsed(&peer::public_key_of(&der).ok_or_else(|| wrong_key("not a certificate"))?);
            }
            SectionKind::PublicKey => return parsed(&der),
            _ => {}
        }
    }
    Err(wrong_key("no public key"))
}

fn parsed(key: &[u8]) -> Result<ParsedPublicKey, OptionsError> {
    ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, key).map_err(wrong_key)
}
