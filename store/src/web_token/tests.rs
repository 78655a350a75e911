//! Keys of every kind, tokens signed with them, and options that are wrong.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    PKCS_ED25519,
};

use rustls_pki_types::pem::PemObject;

use super::*;
use crate::auth::{Caller, Secret};

const OPENSSL_EC: &str = "\
-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIA8Lq3MXxeZKv2CnwVMXTWnVbHsm9fSOJreJa67Rs/C1oAoGCCqGSM49
AwEHoUQDQgAEtf4iKqZHOXbHiobW7ozN/QXxX+pH9BaARFh9pMo6rK8GZZHoBthS
bbrBwVVj4aIKka6Q+34ZgrvKGRDqat8Yqg==
-----END EC PRIVATE KEY-----
";

const OPENSSL_P521: &str = "\
-----BEGIN EC PARAMETERS-----
BgUrgQQAIw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MIHcAgEBBEIBfk5uKmZqBG0d5ODGRFLmPUYLz0sv8iHg2TwTAm2HzICyhrbU3bgG
HKlLp8dofEo14oJnr2v55Qzph+KoOS0DqbSgBwYFK4EEACOhgYkDgYYABACKoRca
aQ+zHg2fAwOySBGGPFEvtCl8yvSEZGxqgqg49Xeuje791pdV0nVTfU3LN/LNXBzK
hIdsLJuT3ma64lPmowHiJ9KR4mcs0NZcvDe+zK2pCuANnTVhrqXcNQhHAiJKGWmG
5rcVLfgZj4QOEoYkpgcwXhwoxAVcYPAAJBrdyoe0eA==
-----END EC PRIVATE KEY-----
";

/// A folder with key files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a pair of keys, `<name>.key` and `<name>.pub`.
    fn pair(&self, name: &str, key: &KeyPair) {
        self.write(&format!("{name}.key"), key.serialize_pem().as_bytes());
        self.write(&format!("{name}.pub"), key.public_key_pem().as_bytes());
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    /// Reads options in which `@` stands for the folder.
    fn signer(&self, options: &str) -> Result<TokenSigner, OptionsError> {
        let folder = Path::join(self.0.path(), "").display().to_string();
        match TokenOptions::parse(&options.replace('@', &folder))? {
            TokenOptions::Web(options) => TokenSigner::new(&options),
            TokenOptions::Simple => panic!("{options} is not about web tokens"),
        }
    }
}

fn rsa() -> KeyPair {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    KeyPair::try_from(der.as_ref()).unwrap()
}

fn alice() -> Caller {
    Caller::User { name: "alice".to_owned(), auth_revision: 7 }
}

#[test]
fn every_method_signs_what_it_takes_and_takes_nothing_else() {
    let files = Files::new();
    files.pair("rsa", &rsa());
    files.pair("p256", &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
    files.pair("p384", &KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
    files.pair("p521", &KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap());
    files.pair("ed", &KeyPair::generate_for(&PKCS_ED25519).unwrap());
    files.write("secret.key", b"shared\n");
    let methods = [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("ES512", "p521"),
        ("EdDSA", "ed"),
        ("HS256", "secret"),
        ("HS384", "secret"),
        ("HS512", "secret"),
    ];
    let signers = methods.map(|(method, key)| {
        files
            .signer(&format!("jwt,sign-method={method},priv-key=@{key}.key"))
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    });
    for (number, signer) in signers.iter().enumerate() {
        let token = signer.sign("alice", 7).unwrap();
        for (other, checker) in signers.iter().enumerate() {
            let expected = (other == number).then(alice);
            assert_eq!(
                checker.caller(&token),
                expected,
                "{} read as {}",
                methods[number].0,
                methods[other].0
            );
        }
        assert!(!format!("{signer:?}").contains("shared"));
    }
}

#[test]
fn who_has_only_the_public_key_checks_and_does_not_sign() {
    let files = Files::new();
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    for (method, key) in [("RS256", rsa()), ("ES256", KeyPair::generate().unwrap()), ("ES512", p521)] {
        files.pair("k", &key);
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        files.write("k.crt", certificate.pem().as_bytes());
        let signer =
            files.signer(&format!("jwt,sign-method={method},priv-key=@k.key,pub-key=@k.pub")).unwrap();
        let token = signer.sign("alice", 7).unwrap();
        for file in ["k.pub", "k.crt"] {
            let checker = files.signer(&format!("jwt,sign-method={method},pub-key=@{file}")).unwrap();
            assert_eq!(checker.caller(&token), Some(alice()), "{method} {file}");
            assert_eq!(checker.sign("alice", 7), Err(SignError::VerifyOnly));
        }
    }
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    let files = Files::new();
    for (method, key) in [("ES256", OPENSSL_EC), ("ES512", OPENSSL_P521)] {
        files.write("ec.key", key.as_bytes());
        let signer = files.signer(&format!("jwt,sign-method={method},priv-key=@ec.key")).unwrap();
        assert_eq!(signer.caller(&signer.sign("alice", 7).unwrap()), Some(alice()), "{method}");
    }
}

#[test]
fn a_token_ends_with_its_time_and_may_be_damaged() {
    let files = Files::new();
    files.write("secret", b"shared");
    let signer = files.signer("jwt,sign-method=HS256,priv-key=@secret,ttl=1h").unwrap();
    let Secret(token) = signer.sign("alice", 7).unwrap();
    let [header, body, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let sign = |claims: serde_json::Value| {
        let key = jsonwebtoken::EncodingKey::from_secret(b"shared");
        Secret(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap())
    };
    let claims = serde_json::json!({"username": "alice", "revision": 7});
    assert_eq!(
        signer.caller(&sign(claims.clone())),
        Some(alice()),
        "without times it holds for ever, as in etcd"
    );
    for (field, value) in [
        ("exp", serde_json::json!(1)),
        ("nbf", serde_json::json!(u32::MAX)),
        ("username", serde_json::json!(1)),
        ("revision", serde_json::json!("7")),
    ] {
        let mut wrong = claims.clone();
        wrong[field] = value;
        assert_eq!(signer.caller(&sign(wrong)), None, "{field}");
    }
    for wrong in
        ["", "x", &format!("{header}.{body}"), &format!("{header}.{body}.{}", signature.to_lowercase())]
    {
        assert_eq!(signer.caller(&Secret(wrong.to_owned())), None, "{wrong}");
    }
    // {"alg":"none"}
    assert_eq!(signer.caller(&Secret(format!("eyJhbGciOiJub25lIn0.{body}."))), None);
}

#[test]
fn wrong_options_are_refused_in_the_words_of_etcd() {
    let files = Files::new();
    files.pair("a", &KeyPair::generate().unwrap());
    files.pair("b", &KeyPair::generate().unwrap());
    files.write("empty", b"");
    let check = |options: &str, expected: &str| {
        let refused = files.signer(options).map(|_| ()).unwrap_err().to_string();
        assert!(refused.starts_with(expected), "{options}: {refused}");
    };
    check("nonsense", "auth: invalid auth options");
    check("jwt,sign-method", "auth: invalid auth options");
    check("jwt,sign-method=ES256,sign-method=ES256", "auth: invalid auth options");
    check("jwt,sign-method=ES256,ttl=soon,pub-key=@a.pub", "auth: invalid auth options");
    check("jwt,priv-key=@a.key", "auth: invalid auth signature method");
    check("jwt,sign-method=none,priv-key=@a.key", "auth: invalid auth signature method");
    let other_curve =
        "auth: invalid auth options: ES512 takes a key of the curve P-521 in PEM, and this is none: ";
    for wrong in ["priv-key=@a.key", "pub-key=@a.pub", "priv-key=@a.pub", "pub-key=@empty"] {
        check(&format!("jwt,sign-method=ES512,{wrong}"), other_curve);
    }
    check("jwt,sign-method=ES512", "auth: missing key data");
    check("jwt,sign-method=ES512,pub-key=@c", "auth: invalid auth options: ");
    files.pair("p521", &KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap());
    files.pair("other", &KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap());
    check(
        "jwt,sign-method=ES512,priv-key=@p521.key,pub-key=@other.pub",
        "auth: public and private keys don't match",
    );
    check("jwt,sign-method=ES256", "auth: missing key data");
    check("jwt,sign-method=HS256,priv-key=@empty", "auth: missing key data");
    check("jwt,sign-method=HS256,pub-key=@a.pub", "auth: missing key data");
    check(
        "jwt,sign-method=ES256,priv-key=@a.key,pub-key=@b.pub",
        "auth: public and private keys don't match",
    );
    for unreadable in [
        "ES384,priv-key=@a.key",
        "RS256,priv-key=@a.key",
        "ES256,priv-key=@a.pub",
        "RS256,pub-key=@a.pub",
        "ES256,pub-key=@c",
        "ES256,priv-key=@p521.key",
    ] {
        check(&format!("jwt,sign-method={unreadable}"), "auth: invalid auth options: ");
    }
    assert_eq!(TokenOptions::parse("simple"), Ok(TokenOptions::Simple));
}

/// What the library does for all other methods.
#[test]
fn a_token_of_es512_ends_with_its_time_and_may_be_damaged() {
    let files = Files::new();
    files.write("ec.key", OPENSSL_P521.as_bytes());
    let signer = files.signer("jwt,sign-method=ES512,priv-key=@ec.key,ttl=1h").unwrap();
    let pem = rustls_pki_types::PrivateSec1KeyDer::from_pem_slice(OPENSSL_P521.as_bytes()).unwrap();
    let pair =
        EcdsaKeyPair::from_private_key_der(&ECDSA_P521_SHA512_FIXED_SIGNING, pem.secret_sec1_der()).unwrap();
    let sign = |header: &str, claims: &serde_json::Value| {
        let parts = [header.to_owned(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signature = pair.sign(&SystemRandom::new(), parts.join(".").as_bytes()).unwrap();
        Secret(format!("{}.{}", parts.join("."), URL_SAFE_NO_PAD.encode(signature)))
    };
    let header = r#"{"alg":"ES512"}"#;
    let claims = serde_json::json!({"username": "alice", "revision": 7});
    assert_eq!(signer.caller(&sign(header, &claims)), Some(alice()), "without times it holds for ever");
    for (field, value, holds) in [
        ("exp", serde_json::json!(1), false),
        ("exp", serde_json::json!(u32::MAX), true),
        ("exp", serde_json::json!(4_000_000_000.5), false),
        ("exp", serde_json::json!("4000000000"), false),
        ("nbf", serde_json::json!(u32::MAX), false),
        ("nbf", serde_json::json!(1), true),
        ("username", serde_json::json!(1), false),
        ("revision", serde_json::json!("7"), false),
        ("iss", serde_json::json!("somebody"), true),
    ] {
        let mut changed = claims.clone();
        changed[field] = value;
        assert_eq!(signer.caller(&sign(header, &changed)).is_some(), holds, "{changed}");
    }
    for other in [r#"{"alg":"ES256"}"#, r#"{"alg":"none"}"#, "{}", "x"] {
        assert_eq!(signer.caller(&sign(other, &claims)), None, "{other}");
    }
    let Secret(token) = signer.sign("alice", 7).unwrap();
    assert!(signer.caller(&Secret(token.clone())).is_some());
    for (place, _) in token.char_indices() {
        let mut damaged = token.clone().into_bytes();
        damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
        let damaged = Secret(String::from_utf8(damaged).unwrap());
        assert_eq!(signer.caller(&damaged), None, "at {place}");
    }
    for wrong in ["", ".", "..", "a.b", &token[..token.len() - 1], &format!("{token}.")] {
        assert_eq!(signer.caller(&Secret(wrong.to_owned())), None, "{wrong}");
    }
}
