//! Key files: PEM as OpenSSL writes it. Who has the private key needs no public one, but may give it to be compared.

use std::fs;
use std::path::Path;

use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use rustls_pki_types::pem::{PemObject, SectionKind};
use transport::peer;

use super::options::{OptionsError, WebOptions};

/// What signs, where there is a private key, and what checks.
pub(super) struct Keys {
    pub(super) signing: Option<EncodingKey>,
    pub(super) checking: DecodingKey,
}

impl Keys {
    pub(super) fn read(algorithm: Algorithm, options: &WebOptions) -> Result<Self, OptionsError> {
        let private = options.private_key.as_deref().map(read_file).transpose()?;
        if algorithm.family() == AlgorithmFamily::Hmac {
            // The whole file is the secret, its last line break included, as in etcd.
            let secret = private.filter(|secret| !secret.is_empty()).ok_or(OptionsError::MissingKey)?;
            let checking = DecodingKey::from_secret(&secret);
            return Ok(Self { signing: Some(EncodingKey::from_secret(&secret)), checking });
        }
        let public = options.public_key.as_deref().map(read_file).transpose()?;
        let given = public.map(|pem| public_key(algorithm, &pem)).transpose()?;
        match private {
            None => given.map(|checking| Self { signing: None, checking }).ok_or(OptionsError::MissingKey),
            Some(pem) => {
                let (signing, checking) = private_key(algorithm, &pem)?;
                match given {
                    Some(given) if bytes(&given)? != bytes(&checking)? => Err(OptionsError::KeyMismatch),
                    Some(_) | None => Ok(Self { signing: Some(signing), checking }),
                }
            }
        }
    }
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, OptionsError> {
    fs::read(path).map_err(|error| OptionsError::Unreadable(format!("{}: {error}", path.display())))
}

fn unreadable(error: impl std::fmt::Display) -> OptionsError {
    OptionsError::Unreadable(format!("the key is none for this sign-method: {error}"))
}

fn bytes(key: &DecodingKey) -> Result<&[u8], OptionsError> {
    key.try_get_as_bytes().map_err(unreadable)
}

/// A public key alone or in a certificate.
fn public_key(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, OptionsError> {
    let family = algorithm.family();
    if let Some((SectionKind::Certificate, der)) = sections(pem).next() {
        let key = peer::public_key_of(&der).ok_or_else(|| unreadable("not a certificate"))?;
        return Ok(match family {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_der(&key),
            AlgorithmFamily::Ed => DecodingKey::from_ed_der(&key),
            AlgorithmFamily::Ec | AlgorithmFamily::Hmac => DecodingKey::from_ec_der(&key),
        });
    }
    match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
        AlgorithmFamily::Ec | AlgorithmFamily::Hmac => DecodingKey::from_ec_pem(pem),
    }
    .map_err(unreadable)
}

/// Returns what a PEM file holds, in order.
pub(super) fn sections(pem: &[u8]) -> impl Iterator<Item = (SectionKind, Vec<u8>)> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).filter_map(Result::ok)
}

/// Whether a part of a PEM file is a private key.
pub(super) fn is_private((kind, _): &(SectionKind, Vec<u8>)) -> bool {
    [SectionKind::PrivateKey, SectionKind::RsaPrivateKey, SectionKind::EcPrivateKey].contains(kind)
}

fn private_key(algorithm: Algorithm, pem: &[u8]) -> Result<(EncodingKey, DecodingKey), OptionsError> {
    let (_, der) = sections(pem).find(is_private).ok_or_else(|| unreadable("no private key"))?;
    match algorithm.family() {
        AlgorithmFamily::Rsa => {
            let signing = EncodingKey::from_rsa_pem(pem).map_err(unreadable)?;
            let pair = RsaKeyPair::from_der(signing.as_bytes()).map_err(unreadable)?;
            Ok((signing, DecodingKey::from_rsa_der(pair.public_key().as_ref())))
        }
        AlgorithmFamily::Ed => {
            let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(unreadable)?;
            Ok((EncodingKey::from_ed_der(&der), DecodingKey::from_ed_der(pair.public_key().as_ref())))
        }
        AlgorithmFamily::Ec | AlgorithmFamily::Hmac => {
            let curve = match algorithm {
                Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
                _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
            };
            let pair = EcdsaKeyPair::from_private_key_der(curve, &der).map_err(unreadable)?;
            let signing = pair.to_pkcs8v1().map_err(unreadable)?;
            let checking = DecodingKey::from_ec_der(pair.public_key().as_ref());
            Ok((EncodingKey::from_ec_der(signing.as_ref()), checking))
        }
    }
}
