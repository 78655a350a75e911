//! What a path and method ask for. Pure.

use http::Method;

/// A request for a resource, or for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestInfo {
    Resource(ResourcePath),
    /// Discovery, health and the like.
    Path,
}

/// The parts of a resource path; parts that are absent are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

/// Reads a path.
pub(crate) fn parse(path: &str) -> RequestInfo {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return RequestInfo::Path,
    };
    let (namespace, parts) = match rest {
        [] => return RequestInfo::Path,
        // A namespace and its own subresources are cluster-scoped objects.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, parts @ ..] => (*namespace, parts),
        parts => ("", parts),
    };
    let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
    RequestInfo::Resource(ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: part(0),
        name: part(1),
        subresource: parts.get(2..).unwrap_or_default().join("/"),
    })
}

/// Returns the API verb of a method; `watching` is whether the query asks for a watch.
pub(crate) fn verb(method: &Method, path: &ResourcePath, watching: bool) -> &'static str {
    match (method.as_str(), path.name.is_empty()) {
        ("GET" | "HEAD", _) if watching => "watch",
        ("GET" | "HEAD", false) => "get",
        ("GET" | "HEAD", true) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: [&str; 6]) {
        let [group, version, namespace, resource, name, subresource] = expected.map(str::to_owned);
        let expected = ResourcePath { group, version, namespace, resource, name, subresource };
        assert_eq!(parse(path), RequestInfo::Resource(expected), "{path}");
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        check("/api/v1/pods", ["", "v1", "", "pods", "", ""]);
        check("/api/v1/namespaces", ["", "v1", "", "namespaces", "", ""]);
        check("/api/v1/namespaces/a", ["", "v1", "", "namespaces", "a", ""]);
        check("/api/v1/namespaces/a/finalize", ["", "v1", "", "namespaces", "a", "finalize"]);
        check("/api/v1/namespaces/a/pods/p/log", ["", "v1", "a", "pods", "p", "log"]);
        check("/apis/apps/v1/namespaces/a/deployments/d", ["apps", "v1", "a", "deployments", "d", ""]);
        for path in ["/api", "/api/v1", "/apis/apps/v1", "/healthz", "/"] {
            assert_eq!(parse(path), RequestInfo::Path, "{path}");
        }
    }
}
