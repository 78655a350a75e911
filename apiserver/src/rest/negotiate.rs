//! What the client accepts, and in which form it gets it.

use crate::endpoints::status::Status;
use crate::registry::table::IncludeObject;

const ACCEPTED: &str = "application/json, application/yaml";

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
}

impl Format {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// How a client wants to see objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    #[default]
    Full,
    Table(IncludeObject),
    Metadata,
}

/// One entry of an `Accept` header.
struct MediaRange<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> MediaRange<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('=')).collect();
        Self { media_type, parameters }
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).unwrap_or_default()
    }

    fn format(&self) -> Option<Format> {
        match self.media_type {
            "application/json" | "*/*" | "application/*" => Some(Format::Json),
            "application/yaml" => Some(Format::Yaml),
            _ => None,
        }
    }

    fn view(&self, include: IncludeObject) -> Option<View> {
        let is_meta = self.parameter("g") == "meta.k8s.io" && matches!(self.parameter("v"), "v1" | "v1beta1");
        match self.parameter("as") {
            "" => Some(View::Full),
            "Table" if is_meta => Some(View::Table(include)),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if is_meta => Some(View::Metadata),
            _ => None,
        }
    }
}

/// Chooses format and view by the first acceptable entry. Protobuf alone is not acceptable: clients fall back to JSON.
pub(crate) fn negotiate(accept: &str, include: IncludeObject) -> Result<(Format, View), Status> {
    if accept.is_empty() {
        return Ok((Format::Json, View::Full));
    }
    accept
        .split(',')
        .map(MediaRange::parse)
        .find_map(|range| Some((range.format()?, range.view(include)?)))
        .ok_or_else(|| Status::not_acceptable(ACCEPTED))
}

/// Returns the version of aggregated discovery that the client prefers over the plain document.
pub(crate) fn wants_aggregated(accept: &str) -> Option<&'static str> {
    for range in accept.split(',').map(MediaRange::parse) {
        let is_discovery = range.parameter("as") == "APIGroupDiscoveryList";
        match (range.format(), is_discovery, range.parameter("v")) {
            (Some(Format::Json), true, "v2") => return Some("v2"),
            (Some(Format::Json | Format::Yaml), false, _) => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<(Format, View)>) {
        assert_eq!(negotiate(accept, IncludeObject::Metadata).ok(), expected, "{accept}");
    }

    #[test]
    fn first_acceptable_entry_wins() {
        let table = View::Table(IncludeObject::Metadata);
        check("", Some((Format::Json, View::Full)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Format::Json, table)));
        check("application/vnd.kubernetes.protobuf,application/json", Some((Format::Json, View::Full)));
        check("application/vnd.kubernetes.protobuf", None);
        check("application/json;as=Foo;v=v1;g=meta.k8s.io", None);
        check("application/yaml", Some((Format::Yaml, View::Full)));
        assert_eq!(
            wants_aggregated(
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
            ),
            Some("v2")
        );
        assert_eq!(wants_aggregated("application/json"), None);
    }
}
