//! Request bodies in Kubernetes' protobuf, read into the same JSON that the rest of the server works on.
//!
//! kubectl's typed commands (`create configmap`, `auth can-i`) send nothing else. [`table`] knows the field numbers as
//! facts, [`wire`] reads fields, [`decode`] puts the two together. Answers are always JSON: every client that sends
//! protobuf also accepts JSON.

mod decode;
mod table;
mod wire;

use serde_json::Value;

/// Media type of these bodies.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// First bytes of every body.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("the body does not begin with k8s\\0")]
    Magic,
    #[error("the body is cut short or no protobuf")]
    Malformed,
    #[error("the body is nested too deeply")]
    TooDeep,
    #[error("no protobuf message is known for {0}")]
    UnknownKind(String),
}

/// Returns the object in a body as JSON, with `apiVersion` and `kind`.
pub(crate) fn to_json(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in wire::fields(envelope) {
        match field? {
            (1, wire::Field::Bytes(type_meta)) => {
                for field in wire::fields(type_meta) {
                    match field? {
                        (1, wire::Field::Bytes(text)) => {
                            api_version = String::from_utf8_lossy(text).into_owned()
                        }
                        (2, wire::Field::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, wire::Field::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let message = table::message_of(&api_version, &kind)
        .ok_or_else(|| ProtobufError::UnknownKind(format!("{kind} in {api_version}")))?;
    let mut object = decode::message(&message, raw)?;
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), kind.into());
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &type_meta), field(2, raw)].concat()
    }

    #[test]
    fn a_config_map_is_read_with_its_maps() {
        let metadata = [field(1, b"greeting"), field(3, b"")].concat();
        let entry = [field(1, b"k"), field(2, b"v")].concat();
        let raw = [field(1, &metadata), field(2, &entry)].concat();
        assert_eq!(
            to_json(&envelope("v1", "ConfigMap", &raw)),
            Ok(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "greeting"}, "data": {"k": "v"},
            }))
        );
    }

    #[test]
    fn what_is_no_body_of_ours_is_refused() {
        assert_eq!(to_json(b"{}"), Err(ProtobufError::Magic));
        let unknown = to_json(&envelope("example.com/v1", "Foo", b""));
        assert_eq!(unknown, Err(ProtobufError::UnknownKind("Foo in example.com/v1".to_owned())));
        assert_eq!(to_json(b"k8s\0\x0a\xff"), Err(ProtobufError::Malformed));
    }
}
