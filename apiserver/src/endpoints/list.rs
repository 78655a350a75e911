//! LIST: a consistent page of a collection.

use store::kv::KvError;
use store::mvcc::Revision;

use super::status::Status;
use super::{Api, Call};
use crate::registry::{FieldError, FieldErrorReason};
use crate::selector::Selector;
use crate::storage::StorageError;
use crate::storage::list::{At, Continue, ListQuery, Page};

/// The options of a list, as text from the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) selector: Selector,
    pub(crate) limit: u64,
    pub(crate) continue_token: String,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
}

impl Api {
    /// Returns one page.
    pub(crate) async fn list(&self, call: &Call, options: &ListOptions) -> Result<Page, Status> {
        let (at, after) = position(options)?;
        let selector = &options.selector;
        let keep = |stored: &crate::storage::Stored| selector.matches(call.kind, &stored.object);
        let query = ListQuery {
            kind: call.kind,
            namespace: &call.namespace,
            at,
            limit: options.limit,
            after,
            keep: &keep,
            filtered: !selector.is_empty(),
        };
        self.storage.list(&query).await.map_err(|error| list_error(error, options, call))
    }
}

fn list_error(error: StorageError, options: &ListOptions, call: &Call) -> Status {
    match error {
        StorageError::Kv(KvError::Compacted { .. }) if !options.continue_token.is_empty() => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
        ),
        other => Status::from_storage(other, call.kind, ""),
    }
}

/// Decides which state is listed, by upstream's rules for resourceVersion, its match, limit and continue.
fn position(options: &ListOptions) -> Result<(At, Option<Continue>), Status> {
    let version = options.resource_version.as_str();
    validate_match(options)?;
    if !options.continue_token.is_empty() {
        if !matches!(version, "" | "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let after = Continue::decode(&options.continue_token).map_err(Status::bad_request)?;
        return Ok((At::Newest, Some(after)));
    }
    if matches!(version, "" | "0") {
        return Ok((At::Newest, None));
    }
    let revision = Revision(
        parse_resource_version(version)
            .map_err(|text| Status::bad_request(format!("invalid resource version: {text}")))?,
    );
    let at = match options.resource_version_match.as_str() {
        "Exact" => At::Exactly(revision),
        // A limit with a resourceVersion and no match means exact, as it always did.
        "" if options.limit > 0 => At::Exactly(revision),
        _ => At::NotOlderThan(revision),
    };
    Ok((at, None))
}

/// Parses a resourceVersion; the error is upstream's text.
pub(crate) fn parse_resource_version(text: &str) -> Result<i64, String> {
    text.parse::<u64>().ok().and_then(|value| i64::try_from(value).ok()).ok_or_else(|| {
        format!("resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax")
    })
}

fn validate_match(options: &ListOptions) -> Result<(), Status> {
    let forbidden = |message: &str| FieldError {
        field: "resourceVersionMatch".to_owned(),
        reason: FieldErrorReason::Forbidden,
        message: format!("Forbidden: {message}"),
    };
    let wanted = options.resource_version_match.as_str();
    let mut errors = Vec::new();
    if !wanted.is_empty() {
        if options.resource_version.is_empty() {
            errors.push(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if !options.continue_token.is_empty() {
            errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(wanted, "Exact" | "NotOlderThan") {
            let message = format!(
                "Unsupported value: \"{wanted}\": supported values: \"Exact\", \"NotOlderThan\", \"\""
            );
            let field = "resourceVersionMatch".to_owned();
            errors.push(FieldError { field, reason: FieldErrorReason::NotSupported, message });
        }
        if wanted == "Exact" && options.resource_version == "0" {
            errors.push(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid_options("ListOptions", &errors)) }
}
