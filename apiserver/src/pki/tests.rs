//! Keys survive their file; tokens and join tokens say what they should and nothing longer than they should.

use jiff::{SignedDuration, Timestamp};

use super::*;

#[test]
fn bundle_is_made_once_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = Bundle::load_or_create(folder.path()).unwrap();
    let second = Bundle::load_or_create(folder.path()).unwrap();
    assert_eq!(first.to_bytes(), second.to_bytes());
}

#[test]
fn foreign_or_newer_bundle_file_is_refused_and_kept() {
    for content in ["garbage", r#"{"version": 2}"#] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.keys");
        std::fs::write(&file, content).unwrap();
        assert!(Bundle::load_or_create(folder.path()).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
    }
}

#[test]
fn join_token_works_until_it_expires_and_only_in_its_cluster() {
    let (bundle, other) = (Bundle::generate().unwrap(), Bundle::generate().unwrap());
    let now = Timestamp::now();
    let token = bundle.join_token(now + SignedDuration::from_hours(1)).to_string();
    assert_eq!(bundle.check_join_token(&token, now), Ok(()));
    assert!(token.parse::<JoinToken>().unwrap().pins(bundle.ca_pem()));
    assert_eq!(other.check_join_token(&token, now), Err(JoinTokenError::OtherCluster));
    let later = now + SignedDuration::from_hours(2);
    assert!(matches!(bundle.check_join_token(&token, later), Err(JoinTokenError::Expired(_))));
    let stretched = token.replacen("agent.", "agent.9", 1);
    assert_eq!(bundle.check_join_token(&stretched, now), Err(JoinTokenError::WrongSecret));
    assert_eq!(bundle.check_join_token("hello", now), Err(JoinTokenError::Malformed));
}

#[test]
fn service_account_token_proves_account_and_pod_until_it_expires() {
    let signer = Bundle::generate().unwrap().token_signer().unwrap();
    let now = Timestamp::now();
    let claims = TokenClaims {
        namespace: "web".to_owned(),
        account: "default".to_owned(),
        account_uid: "u1".to_owned(),
        audiences: Vec::new(),
        lifetime_seconds: 600,
        bound: Some(BoundObject { name: "p".to_owned(), uid: "u2".to_owned(), node: "n".to_owned() }),
    };
    let (token, expires) = signer.sign(&claims, now).unwrap();
    let verified = signer.verify(&token, now).unwrap();
    assert_eq!((verified.account.as_str(), verified.account_uid.as_str()), ("default", "u1"));
    assert_eq!(verified.bound, claims.bound);
    assert!(matches!(signer.verify(&token, expires), Err(TokenError::Time)));
    let stranger = Bundle::generate().unwrap().token_signer().unwrap();
    assert!(matches!(stranger.verify(&token, now), Err(TokenError::Signature(_))));
    let elsewhere = TokenClaims { audiences: vec!["vault".to_owned()], ..claims };
    let (token, _) = signer.sign(&elsewhere, now).unwrap();
    assert!(matches!(signer.verify(&token, now), Err(TokenError::Audience)));
}
