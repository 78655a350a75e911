//! Field numbers and types, read once from the table of facts.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

const TABLE: &str = include_str!("../../schema/protobuf.tsv");
const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Bytes,
    Boolean,
    Integer,
    Double,
    /// Full name of the message.
    Message(String),
    /// Map from text to this.
    Map(Box<Self>),
}

/// One field of a message.
#[derive(Clone, Debug)]
pub(super) struct FieldFacts {
    /// `(inline)` when the members of the message belong to the parent.
    pub(super) json_name: &'static str,
    pub(super) shape: Shape,
    pub(super) repeated: bool,
}

type Messages = HashMap<String, BTreeMap<u32, FieldFacts>>;

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| {
    let mut messages = Messages::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&'static str> = line.split('\t').collect();
        let [package, message, json_name, number, kind, label] = columns.as_slice() else { continue };
        let fields = messages.entry(format!("{package}.{message}")).or_default();
        if let Ok(number) = number.parse() {
            let facts = FieldFacts { json_name, shape: shape(package, kind), repeated: *label == "repeated" };
            fields.insert(number, facts);
        }
    }
    messages
});

fn shape(package: &str, kind: &str) -> Shape {
    if let Some(value) = kind.strip_prefix("map<string,").and_then(|rest| rest.strip_suffix('>')) {
        return Shape::Map(Box::new(shape(package, value)));
    }
    match kind {
        "string" => Shape::Text,
        "bytes" => Shape::Bytes,
        "bool" => Shape::Boolean,
        "int32" | "int64" | "uint32" | "uint64" => Shape::Integer,
        "double" => Shape::Double,
        other => match other.strip_prefix('.') {
            Some(full) => Shape::Message(full.to_owned()),
            None => Shape::Message(format!("{package}.{other}")),
        },
    }
}

/// Returns the fields of a message by number.
pub(super) fn fields_of(message: &str) -> Option<&'static BTreeMap<u32, FieldFacts>> {
    MESSAGES.get(message)
}

/// Returns the full name of a kind's message.
pub(super) fn message_of(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = match group.strip_suffix(".k8s.io").unwrap_or(group) {
        "" => "core",
        "rbac.authorization" => "rbac",
        named => named,
    };
    let own = format!("k8s.io.api.{package}.{version}.{kind}");
    // Options such as DeleteOptions exist in every group version.
    [own, format!("{META}.{kind}")].into_iter().find(|name| MESSAGES.contains_key(name))
}
