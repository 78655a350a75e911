//! The value of `--auth-token`, as etcd reads it: a kind, then `name=value` pairs. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;

/// How long a token holds (etcd's default).
const TTL: Duration = Duration::from_secs(300);

/// What tokens are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOptions {
    /// Sessions that all members are told of.
    Simple,
    Web(WebOptions),
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// As the library does it.
    Library(Algorithm),
    Es512,
}

/// Options of JSON web tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOptions {
    pub(super) method: Method,
    pub(super) public_key: Option<PathBuf>,
    /// Without it tokens of others are checked, and none are given.
    pub(super) private_key: Option<PathBuf>,
    pub(super) ttl: Duration,
}

/// Why tokens cannot be made as wanted. The first five are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("auth: invalid auth options")]
    Invalid,
    #[error("auth: invalid auth signature method")]
    Method,
    #[error("auth: missing key data")]
    MissingKey,
    #[error("auth: public and private keys don't match")]
    KeyMismatch,
    #[error("auth: invalid auth options: {0}")]
    Unreadable(String),
}

impl TokenOptions {
    /// Reads the value of the flag.
    ///
    /// # Errors
    /// When it is not of etcd's form; unknown options are passed over.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let mut words = text.split(',');
        let kind = words.next().unwrap_or_default();
        let mut pairs = BTreeMap::new();
        for word in words {
            let (name, value) = word.split_once('=').ok_or(OptionsError::Invalid)?;
            if value.contains('=') || pairs.insert(name, value).is_some() {
                return Err(OptionsError::Invalid);
            }
        }
        match kind {
            "simple" => Ok(Self::Simple),
            "jwt" => web(&mut pairs).map(Self::Web),
            _ => Err(OptionsError::Invalid),
        }
    }
}

fn web(pairs: &mut BTreeMap<&str, &str>) -> Result<WebOptions, OptionsError> {
    let mut take = |name: &str| pairs.remove(name).filter(|value| !value.is_empty());
    let ttl = match take("ttl") {
        Some(text) => duration(text).ok_or(OptionsError::Invalid)?,
        None => TTL,
    };
    let options = WebOptions {
        public_key: take("pub-key").map(PathBuf::from),
        private_key: take("priv-key").map(PathBuf::from),
        method: method(take("sign-method").unwrap_or_default())?,
        ttl,
    };
    if !pairs.is_empty() {
        let unknown: Vec<&str> = pairs.keys().copied().collect();
        tracing::warn!(?unknown, "options of --auth-token that nobody reads");
    }
    Ok(options)
}

/// `none` has a name, too, but nothing to sign with.
fn method(name: &str) -> Result<Method, OptionsError> {
    match name {
        "ES512" => Ok(Method::Es512),
        _ => name.parse().map(Method::Library).map_err(|_| OptionsError::Method),
    }
}

fn duration(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok().filter(|ttl| *ttl > Duration::ZERO)
}
