//! RBAC rules and how a request is held against them.

use super::Attributes;

/// One rule of a role. `*` matches everything in its list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) verbs: &'static [&'static str],
    pub(super) groups: &'static [&'static str],
    /// `pods`, `pods/status`, `*/scale`.
    pub(super) resources: &'static [&'static str],
    /// Empty for all.
    pub(super) names: &'static [&'static str],
    /// Paths such as `/healthz` or `/api/*`.
    pub(super) paths: &'static [&'static str],
    /// Empty for all namespaces.
    pub(super) namespace: &'static str,
}

/// A rule that grants nothing; rules are written as changes of it.
pub(super) const NONE: Rule =
    Rule { verbs: &[], groups: &[""], resources: &[], names: &[], paths: &[], namespace: "" };

impl Rule {
    pub(super) fn allows(&self, attributes: &Attributes) -> bool {
        if !contains(self.verbs, &attributes.verb) {
            return false;
        }
        if attributes.resource.is_empty() {
            return self.paths.iter().any(|path| path_matches(path, &attributes.path));
        }
        contains(self.groups, &attributes.group)
            && self.resources.iter().any(|resource| resource_matches(resource, attributes))
            && (self.names.is_empty() || self.names.contains(&attributes.name.as_str()))
            && (self.namespace.is_empty() || self.namespace == attributes.namespace)
    }
}

fn contains(list: &[&str], wanted: &str) -> bool {
    list.iter().any(|item| *item == "*" || *item == wanted)
}

fn resource_matches(pattern: &str, attributes: &Attributes) -> bool {
    if pattern == "*" {
        return true;
    }
    match (pattern.split_once('/'), attributes.subresource.as_str()) {
        (None, "") => pattern == attributes.resource,
        (Some((resource, subresource)), own) if !own.is_empty() => {
            (resource == "*" || resource == attributes.resource) && subresource == own
        }
        (None | Some(_), _) => false,
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}
