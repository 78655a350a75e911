//! Messages between JSON and protobuf: names as etcd writes them, 64-bit numbers as strings, bytes as base64, default values left
//! out.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Deserializer, Serializer, Value};
use tonic::Status;

use crate::grpc::status;

/// Reads all messages of a body; an empty one holds none. Unknown fields are passed over.
pub(super) fn read(kind: &MessageDescriptor, body: &[u8]) -> Result<Vec<Bytes>, Status> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut messages = Vec::new();
    for value in Deserializer::from_slice(body).into_iter::<Value>() {
        let value = value.map_err(|error| status::not_json(&error))?;
        let message = DynamicMessage::deserialize_with_options(kind.clone(), value, &options)
            .map_err(|error| status::not_json(&error))?;
        messages.push(message.encode_to_vec().into());
    }
    Ok(messages)
}

/// Writes a message.
pub(super) fn write(kind: &MessageDescriptor, message: &[u8]) -> Result<String, Status> {
    let unwritable = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(kind.clone(), message).map_err(|error| unwritable(&error))?;
    let mut serializer = Serializer::new(Vec::new());
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(&mut serializer, &options).map_err(|error| unwritable(&error))?;
    String::from_utf8(serializer.into_inner()).map_err(|error| unwritable(&error))
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb as pb;

    use super::*;
    use crate::gateway::schema;

    fn kind(name: &str) -> MessageDescriptor {
        schema::pool().get_message_by_name(name).unwrap()
    }

    fn check(json: &str, expected: pb::RangeRequest) {
        let read = read(&kind("etcdserverpb.RangeRequest"), json.as_bytes()).unwrap();
        assert_eq!(pb::RangeRequest::decode(read[0].clone()).unwrap(), expected, "{json}");
    }

    #[test]
    fn requests_are_read_in_every_form_that_clients_write() {
        let expected = pb::RangeRequest {
            key: "foo".into(),
            range_end: "fop".into(),
            limit: 3,
            sort_order: pb::range_request::SortOrder::Descend.into(),
            ..pb::RangeRequest::default()
        };
        check(r#"{"key":"Zm9v","range_end":"Zm9w","limit":"3","sort_order":"DESCEND"}"#, expected.clone());
        check(r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":3,"sortOrder":2}"#, expected);
        check("{}", pb::RangeRequest::default());
    }

    #[test]
    fn a_body_holds_any_number_of_messages() {
        let kind = kind("etcdserverpb.LeaseKeepAliveRequest");
        assert_eq!(read(&kind, b"").unwrap().len(), 0);
        assert_eq!(read(&kind, b"{\"ID\":1}\n{\"ID\":\"2\"}").unwrap().len(), 2);
        for wrong in ["{", "[]", "{\"ID\":\"x\"}"] {
            assert_eq!(
                read(&kind, wrong.as_bytes()).unwrap_err().code(),
                tonic::Code::InvalidArgument,
                "{wrong}"
            );
        }
    }

    #[test]
    fn answers_are_written_as_etcd_writes_them() {
        let header =
            pb::ResponseHeader { cluster_id: u64::MAX, revision: 2, ..pb::ResponseHeader::default() };
        let answer = pb::RangeResponse {
            header: Some(header),
            kvs: vec![proto::mvccpb::KeyValue {
                key: "foo".into(),
                create_revision: 2,
                ..proto::mvccpb::KeyValue::default()
            }],
            more: false,
            count: 1,
        };
        assert_eq!(
            write(&kind("etcdserverpb.RangeResponse"), &answer.encode_to_vec()).unwrap(),
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"2"},"kvs":[{"key":"Zm9v","create_revision":"2"}],"count":"1"}"#
        );
    }
}
