//! Consistent lists in pages: the first page pins a revision and the continue token carries it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use store::kv::{Consistency, KvError};
use store::mvcc::{KeyRange, Range, RangeEnd, Revision};

use super::objects::decode;
use super::{Storage, StorageError, Stored, keys};
use crate::registry::Kind;

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
/// Keys read from the store at once, so that one list never holds all values twice.
const CHUNK: u64 = 500;

/// The state that a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Newest,
    Exactly(Revision),
    /// Any state that is not older.
    NotOlderThan(Revision),
}

/// A list request after selectors became a filter.
pub(crate) struct ListQuery<'a> {
    pub(crate) kind: &'a Kind,
    /// Empty for all.
    pub(crate) namespace: &'a str,
    pub(crate) at: At,
    /// Most objects to return; 0 for all.
    pub(crate) limit: u64,
    /// Where the previous page ended.
    pub(crate) after: Option<Continue>,
    pub(crate) keep: &'a (dyn Fn(&Stored) -> bool + Sync),
    /// Whether `keep` may drop objects; then the remaining count is not known.
    pub(crate) filtered: bool,
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Stored>,
    pub(crate) revision: Revision,
    pub(crate) next: Option<Continue>,
    pub(crate) remaining: Option<u64>,
}

/// Where a list goes on, and at which revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    pub(crate) revision: Revision,
    /// First key wanted, below the list's prefix.
    pub(crate) start: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

impl Continue {
    /// Returns the opaque token, in upstream's format.
    pub(crate) fn encode(&self) -> String {
        let start = format!("/{}", self.start);
        let token = Token { v: TOKEN_VERSION.to_owned(), rv: self.revision.0, start };
        let text = serde_json::to_string(&token).expect("strings and a number always serialize");
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token; the error is upstream's text.
    pub(crate) fn decode(token: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("invalid continue token: continue key is not valid: {why}");
        let bytes =
            URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| bad("illegal base64 data"))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
        if token.v != TOKEN_VERSION {
            return Err(bad(&format!("server does not recognize this encoded version {}", token.v)));
        }
        if token.rv == 0 {
            return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        if token.start.is_empty() {
            return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
        }
        let start = token.start.strip_prefix('/').unwrap_or(&token.start);
        if start.split('/').any(|part| part == "..") {
            return Err(bad(&token.start));
        }
        Ok(Self { revision: Revision(token.rv), start: start.to_owned() })
    }
}

impl Storage {
    /// Reads one page.
    pub(crate) async fn list(&self, query: &ListQuery<'_>) -> Result<Page, StorageError> {
        let prefix = keys::prefix(query.kind, query.namespace);
        let KeyRange { end, .. } = KeyRange::prefix(prefix.clone());
        let mut start = prefix.clone();
        let mut pinned = self.pin(query).await?;
        if let Some(after) = &query.after {
            start.push_str(&after.start);
        }
        let mut page = Page { items: Vec::new(), revision: Revision(0), next: None, remaining: None };
        loop {
            let chunk = self.chunk(&start, &end, pinned, query).await?;
            let revision = *pinned.get_or_insert(chunk.revision);
            page.revision = revision;
            let mut left = chunk.count;
            for kv in &chunk.kvs {
                left = left.saturating_sub(1);
                start = format!("{}\0", String::from_utf8_lossy(&kv.key));
                let stored = decode(kv)?;
                if !(query.keep)(&stored) {
                    continue;
                }
                page.items.push(stored);
                if query.limit > 0 && u64::try_from(page.items.len()).unwrap_or(u64::MAX) >= query.limit {
                    if left > 0 {
                        let start = start.get(prefix.len()..).unwrap_or_default().to_owned();
                        page.next = Some(Continue { revision, start });
                        page.remaining = (!query.filtered).then_some(left);
                    }
                    return Ok(page);
                }
            }
            if !chunk.more {
                return Ok(page);
            }
        }
    }

    /// Returns the revision to read at; `None` leaves the choice to the first chunk.
    async fn pin(&self, query: &ListQuery<'_>) -> Result<Option<Revision>, StorageError> {
        if let Some(after) = &query.after {
            // A negative revision asks for the newest state ("inconsistent continue").
            return Ok((after.revision.0 > 0).then_some(after.revision));
        }
        match query.at {
            At::Newest => Ok(None),
            At::Exactly(revision) => Ok(Some(revision)),
            At::NotOlderThan(revision) => {
                let current = self.kv.read_index().await?;
                if revision > current {
                    return Err(KvError::FutureRevision { requested: revision, current }.into());
                }
                Ok(None)
            }
        }
    }

    async fn chunk(
        &self,
        start: &str,
        end: &RangeEnd,
        revision: Option<Revision>,
        query: &ListQuery<'_>,
    ) -> Result<store::mvcc::RangeResult, StorageError> {
        let mut range = Range::new(KeyRange { start: start.to_owned().into(), end: end.clone() });
        range.revision = revision;
        range.limit = if query.limit > 0 && !query.filtered { query.limit.min(CHUNK) } else { CHUNK };
        Ok(self.kv.range(range, Consistency::Linearizable).await?)
    }
}
