//! The token with which a machine joins: `K10<CA pin>::<id>:<secret>`.
//!
//! The id names the role and the expiry, the secret is a MAC over it, so every server can check a token from its key
//! bundle alone, also before the first write. The pin lets the machine check the server before it shows the secret.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;

use super::bundle::Bundle;

const PREFIX: &str = "K10";
const ROLE: &str = "agent";

/// Why a token is refused; the text is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    #[error("this is no join token; it must look like K10<hash>::<id>:<secret>")]
    Malformed,
    #[error(
        "the join token belongs to another cluster: its CA hash does not match; make one with `keelson token create`"
    )]
    OtherCluster,
    #[error("the join token's secret is wrong; copy it whole, or make a new one with `keelson token create`")]
    WrongSecret,
    #[error("the join token expired at {0}; make a new one with `keelson token create`")]
    Expired(String),
}

/// A parsed token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the CA certificate, hex.
    pub ca_pin: String,
    id: String,
    secret: String,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}::{}:{}", self.ca_pin, self.id, self.secret)
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let parse = || {
            let (pin, rest) = text.trim().strip_prefix(PREFIX)?.split_once("::")?;
            let (id, secret) = rest.split_once(':')?;
            let is_pin = pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_pin.then(|| Self { ca_pin: pin.to_owned(), id: id.to_owned(), secret: secret.to_owned() })
        };
        parse().ok_or(JoinTokenError::Malformed)
    }
}

impl JoinToken {
    /// Reports whether `ca_pem` is the CA that the token pins.
    #[must_use]
    pub fn pins(&self, ca_pem: &str) -> bool {
        super::bundle::pin_of(ca_pem) == self.ca_pin
    }
}

impl Bundle {
    /// Makes a token with which agents may join until `expires`.
    #[must_use]
    pub fn join_token(&self, expires: jiff::Timestamp) -> JoinToken {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let id = format!("{ROLE}.{}.{}", expires.as_second(), nonce.get(..8).unwrap_or_default());
        let secret = hex::encode(hmac::sign(&self.join_key(), id.as_bytes()));
        JoinToken { ca_pin: self.ca_pin(), id, secret }
    }

    /// Checks a token at `now`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_join_token(&self, token: &str, now: jiff::Timestamp) -> Result<(), JoinTokenError> {
        let token: JoinToken = token.parse()?;
        if token.ca_pin != self.ca_pin() {
            return Err(JoinTokenError::OtherCluster);
        }
        let secret = hex::decode(&token.secret).map_err(|_| JoinTokenError::WrongSecret)?;
        hmac::verify(&self.join_key(), token.id.as_bytes(), &secret)
            .map_err(|_| JoinTokenError::WrongSecret)?;
        let mut parts = token.id.split('.');
        let (Some(ROLE), Some(expires)) = (parts.next(), parts.next()) else {
            return Err(JoinTokenError::Malformed);
        };
        let expires = expires.parse().ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
        match expires {
            None => Err(JoinTokenError::Malformed),
            Some(expires) if expires < now => Err(JoinTokenError::Expired(expires.to_string())),
            Some(_) => Ok(()),
        }
    }

    fn join_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.join_secret_hex.as_bytes())
    }
}
