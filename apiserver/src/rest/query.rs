//! Query parameters, with upstream's errors.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::endpoints::delete::{DeleteOptions, Propagation};
use crate::endpoints::list::ListOptions;
use crate::endpoints::status::Status;
use crate::endpoints::watch::WatchOptions;
use crate::endpoints::{Persist, WriteOptions};
use crate::object;
use crate::registry::{FieldError, FieldErrorReason, Kind, Object};
use crate::selector::Selector;

/// Watches without a timeout end after this time plus up to as much again, so that they do not end all at once.
const WATCH_SECONDS_MIN: u64 = 1_800;
/// No watch lives longer than this.
const WATCH_SECONDS_MAX: u64 = 86_400;

/// What a write does with fields that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Reads `a=b&c=d`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.entry(percent_decode(key)).or_default().push(percent_decode(value));
        }
        Self(parameters)
    }

    /// Returns the first value, empty when absent.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).and_then(|values| values.first()).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Anything but absent, `false` and `0` is true, as upstream.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key), "false" | "0" | "False" | "FALSE")
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax")))
    }

    /// Reads the selectors; a named object (GET with `watch`) is a field selector too.
    pub(crate) fn selector(&self, kind: &Kind, name: &str) -> Result<Selector, Status> {
        let mut fields = self.get("fieldSelector").to_owned();
        if !name.is_empty() {
            let comma = if fields.is_empty() { "" } else { "," };
            fields = format!("{fields}{comma}metadata.name={name}");
        }
        Selector::parse(kind, self.get("labelSelector"), &fields).map_err(Status::bad_request)
    }

    pub(crate) fn list_options(&self, kind: &Kind) -> Result<ListOptions, Status> {
        self.integer("timeoutSeconds")?;
        if self.has("sendInitialEvents") && !self.get("sendInitialEvents").is_empty() {
            return Err(Status::invalid_options(
                "ListOptions",
                &[FieldError {
                    field: "sendInitialEvents".to_owned(),
                    reason: FieldErrorReason::Forbidden,
                    message: "Forbidden: sendInitialEvents is forbidden for list".to_owned(),
                }],
            ));
        }
        let limit = self.integer("limit")?.unwrap_or(0);
        Ok(ListOptions {
            selector: self.selector(kind, "")?,
            limit: u64::try_from(limit).unwrap_or(0),
            continue_token: self.get("continue").to_owned(),
            resource_version: self.get("resourceVersion").to_owned(),
            resource_version_match: self.get("resourceVersionMatch").to_owned(),
        })
    }

    /// Reads the options of a watch; `random` spreads the ends of those that may last as long as they like.
    pub(crate) fn watch_options(&self, kind: &Kind, name: &str, random: u16) -> Result<WatchOptions, Status> {
        let wanted = self.integer("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        let spread = u64::from(random) % WATCH_SECONDS_MIN;
        let seconds = wanted.filter(|seconds| *seconds > 0).unwrap_or(WATCH_SECONDS_MIN + spread);
        Ok(WatchOptions {
            selector: self.selector(kind, name)?,
            resource_version: self.get("resourceVersion").to_owned(),
            resource_version_match: self.get("resourceVersionMatch").to_owned(),
            send_initial_events: self.has("sendInitialEvents").then(|| self.flag("sendInitialEvents")),
            bookmarks: self.flag("allowWatchBookmarks"),
            timeout: Duration::from_secs(seconds.min(WATCH_SECONDS_MAX)),
        })
    }

    /// Reads the options of a write; `options` names them in errors (`CreateOptions`).
    pub(crate) fn write_options(&self, options: &str) -> Result<WriteOptions, Status> {
        let persist = dry_run(options, self.all("dryRun"))?;
        Ok(WriteOptions { persist, ..WriteOptions::default() })
    }

    pub(crate) fn field_validation(&self, options: &str) -> Result<FieldValidation, Status> {
        match self.get("fieldValidation") {
            "Ignore" => Ok(FieldValidation::Ignore),
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Strict" => Ok(FieldValidation::Strict),
            other => Err(unsupported(
                options,
                "fieldValidation",
                &format!("\"{other}\""),
                "\"\", \"Ignore\", \"Strict\", \"Warn\"",
            )),
        }
    }

    /// Reads the options of a delete from its body, or from the query where there is none.
    pub(crate) fn delete_options(&self, body: &Object) -> Result<(DeleteOptions, WriteOptions), Status> {
        let text = |path: &[&str], key: &str| match object::str_at(body, path) {
            "" => self.get(key).to_owned(),
            text => text.to_owned(),
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let grace = object::at(body, &["gracePeriodSeconds"]).and_then(serde_json::Value::as_i64);
        let mut propagation = text(&["propagationPolicy"], "propagationPolicy");
        let orphan = object::at(body, &["orphanDependents"]).and_then(serde_json::Value::as_bool);
        if let Some(orphan) = orphan {
            if !propagation.is_empty() {
                let message = format!(
                    "Invalid value: \"{propagation}\": orphanDependents and deletionPropagation cannot be both set"
                );
                let field = "propagationPolicy".to_owned();
                let error = FieldError { field, reason: FieldErrorReason::Invalid, message };
                return Err(Status::invalid_options("DeleteOptions", &[error]));
            }
            propagation = if orphan { "Orphan" } else { "Background" }.to_owned();
        }
        let delete = DeleteOptions {
            uid: some(object::str_at(body, &["preconditions", "uid"])),
            resource_version: some(object::str_at(body, &["preconditions", "resourceVersion"])),
            grace_seconds: grace.or(self.integer("gracePeriodSeconds")?),
            propagation: propagation_of(&propagation)?,
        };
        let mut dry = object::strings(body.get("dryRun"));
        dry.extend(self.all("dryRun").iter().cloned());
        let options = WriteOptions { persist: dry_run("DeleteOptions", &dry)?, ..WriteOptions::default() };
        Ok((delete, options))
    }
}

/// Reads a propagation policy; empty leaves finalizers as they are.
pub(crate) fn propagation_of(text: &str) -> Result<Propagation, Status> {
    match text {
        "" => Ok(Propagation::Default),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => Err(unsupported(
            "DeleteOptions",
            "propagationPolicy",
            &format!("\"{other}\""),
            "\"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        )),
    }
}

fn dry_run(options: &str, values: &[String]) -> Result<Persist, Status> {
    match values.iter().map(String::as_str).find(|value| !value.is_empty()) {
        None => Ok(Persist::Commit),
        Some("All") => Ok(Persist::DryRun),
        Some(other) => Err(unsupported(options, "dryRun", &format!("[\"{other}\"]"), "\"All\"")),
    }
}

fn unsupported(options: &str, field: &str, value: &str, supported: &str) -> Status {
    let message = format!("Unsupported value: {value}: supported values: {supported}");
    let error = FieldError { field: field.to_owned(), reason: FieldErrorReason::NotSupported, message };
    Status::invalid_options(options, &[error])
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'+' => b' ',
            b'%' => {
                let digits = rest.clone();
                let value: Vec<_> =
                    digits.take(2).filter_map(|digit| char::from(digit).to_digit(16)).collect();
                match value.as_slice() {
                    [high, low] => {
                        rest.nth(1);
                        u8::try_from(high * 16 + low).unwrap_or(byte)
                    }
                    _ => byte,
                }
            }
            other => other,
        };
        bytes.push(decoded);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
