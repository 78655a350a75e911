//! Keys of every kind, tokens signed with them, and options that are wrong.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

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
    for (method, key) in [("RS256", rsa()), ("ES256", KeyPair::generate().unwrap())] {
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
    files.write("ec.key", OPENSSL_EC.as_bytes());
    let signer = files.signer("jwt,sign-method=ES256,priv-key=@ec.key").unwrap();
    assert_eq!(signer.caller(&signer.sign("alice", 7).unwrap()), Some(alice()));
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
    check("jwt,sign-method=ES512,priv-key=@a.key", "sign-method ES512 is not implemented");
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
    ] {
        check(&format!("jwt,sign-method={unreadable}"), "auth: invalid auth options: ");
    }
    assert_eq!(TokenOptions::parse("simple"), Ok(TokenOptions::Simple));
}
