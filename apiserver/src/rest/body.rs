//! Request bodies: size limit, JSON or YAML, and what happens to unknown fields.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::query::FieldValidation;
use super::respond::header;
use crate::endpoints::status::Status;
use crate::protobuf;
use crate::registry::{Kind, Object};
use crate::schema::{DecodeError, Decoded};

/// Largest request body, as upstream.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// An object read from a body, with warnings for the client.
pub(crate) struct Read {
    pub(crate) object: Object,
    pub(crate) warnings: Vec<String>,
}

/// Reads the whole body.
pub(crate) async fn read(body: Body) -> Result<Bytes, Status> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::too_large(BODY_BYTES_MAX)),
        Err(error) => Err(Status::bad_request(format!("the body cannot be read: {error}"))),
    }
}

/// Returns the body as JSON text, whichever format it came in.
pub(crate) fn to_json(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Status> {
    let media_type = header(headers, "content-type").split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" => Ok(body),
        "application/yaml" => {
            let text = std::str::from_utf8(&body).map_err(|error| Status::bad_request(error.to_string()))?;
            let value: serde_json::Value = serde_saphyr::from_str(text)
                .map_err(|error| Status::bad_request(format!("error parsing YAML: {error}")))?;
            Ok(value.to_string().into())
        }
        protobuf::MEDIA_TYPE => {
            let value = protobuf::to_json(&body).map_err(|error| Status::bad_request(error.to_string()))?;
            Ok(value.to_string().into())
        }
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

/// Reads an object of `kind`.
pub(crate) fn decode(kind: &Kind, json: &[u8], validation: FieldValidation) -> Result<Read, Status> {
    let decoded = kind.decode(json).map_err(|error| cannot_be_handled(kind, &error))?;
    judge(kind, decoded, validation)
}

/// Turns findings into warnings or a refusal.
pub(crate) fn judge(kind: &Kind, decoded: Decoded, validation: FieldValidation) -> Result<Read, Status> {
    let Decoded { object, findings } = decoded;
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    match validation {
        FieldValidation::Ignore => Ok(Read { object, warnings: Vec::new() }),
        FieldValidation::Warn => Ok(Read { object, warnings: texts }),
        FieldValidation::Strict if texts.is_empty() => Ok(Read { object, warnings: texts }),
        FieldValidation::Strict => Err(Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            kind.kind,
            kind.version,
            kind.kind,
            texts.join(", ")
        ))),
    }
}

pub(crate) fn cannot_be_handled(kind: &Kind, error: &DecodeError) -> Status {
    let (name, version) = (kind.kind, kind.version);
    Status::bad_request(format!("{name} in version \"{version}\" cannot be handled as a {name}: {error}"))
}

/// Reads an object without a schema (options and small request kinds); an empty body is an empty object.
pub(crate) fn decode_plain(json: &[u8]) -> Result<Object, Status> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Object::new());
    }
    serde_json::from_slice(json)
        .map_err(|error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
}
