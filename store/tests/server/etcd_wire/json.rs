//! Recorded messages (JSON with the protocol's field names) as protocol messages.

use bytes::Bytes;
use proto::{etcdserverpb as pb, mvccpb};
use serde_json::Value;

pub(crate) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

pub(crate) fn bytes(value: &Value) -> Bytes {
    match value {
        Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
        Value::Object(_) if value["hex"].is_string() => {
            hex::decode(value["hex"].as_str().unwrap()).unwrap().into()
        }
        Value::Object(_) => {
            value["repeat"].as_str().unwrap().repeat(usize::try_from(number(&value["len"])).unwrap()).into()
        }
        _ => Bytes::new(),
    }
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().into_iter().flatten().map(read).collect()
}

/// Enum values are recorded by name, unknown ones as numbers.
fn named(value: &Value, by_name: impl Fn(&str) -> Option<i32>) -> i32 {
    match value {
        Value::String(name) => by_name(name).unwrap_or_else(|| panic!("unknown name {name}")),
        other => i32::try_from(number(other)).unwrap(),
    }
}

pub(crate) fn range_request(value: &Value) -> pb::RangeRequest {
    use pb::range_request::{SortOrder, SortTarget};
    pb::RangeRequest {
        key: bytes(&value["key"]),
        range_end: bytes(&value["range_end"]),
        limit: number(&value["limit"]),
        revision: number(&value["revision"]),
        sort_order: named(&value["sort_order"], |name| SortOrder::from_str_name(name).map(i32::from)),
        sort_target: named(&value["sort_target"], |name| SortTarget::from_str_name(name).map(i32::from)),
        serializable: flag(&value["serializable"]),
        keys_only: flag(&value["keys_only"]),
        count_only: flag(&value["count_only"]),
        min_mod_revision: number(&value["min_mod_revision"]),
        max_mod_revision: number(&value["max_mod_revision"]),
        min_create_revision: number(&value["min_create_revision"]),
        max_create_revision: number(&value["max_create_revision"]),
    }
}

pub(crate) fn put_request(value: &Value) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(&value["key"]),
        value: bytes(&value["value"]),
        lease: number(&value["lease"]),
        prev_kv: flag(&value["prev_kv"]),
        ignore_value: flag(&value["ignore_value"]),
        ignore_lease: flag(&value["ignore_lease"]),
    }
}

pub(crate) fn delete_request(value: &Value) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(&value["key"]),
        range_end: bytes(&value["range_end"]),
        prev_kv: flag(&value["prev_kv"]),
    }
}

pub(crate) fn txn_request(value: &Value) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: list(&value["compare"], compare),
        success: list(&value["success"], request_op),
        failure: list(&value["failure"], request_op),
    }
}

fn request_op(value: &Value) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = value.as_object().unwrap().iter().next().map(|(name, value)| match name.as_str() {
        "request_range" => Request::RequestRange(range_request(value)),
        "request_put" => Request::RequestPut(put_request(value)),
        "request_delete_range" => Request::RequestDeleteRange(delete_request(value)),
        "request_txn" => Request::RequestTxn(txn_request(value)),
        other => panic!("unknown step {other}"),
    });
    pb::RequestOp { request }
}

fn compare(value: &Value) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let given = |name: &str| value.get(name);
    let target_union = given("version")
        .map(|value| TargetUnion::Version(number(value)))
        .or_else(|| given("create_revision").map(|value| TargetUnion::CreateRevision(number(value))))
        .or_else(|| given("mod_revision").map(|value| TargetUnion::ModRevision(number(value))))
        .or_else(|| given("value").map(|value| TargetUnion::Value(bytes(value))))
        .or_else(|| given("lease").map(|value| TargetUnion::Lease(number(value))));
    pb::Compare {
        result: named(&value["result"], |name| CompareResult::from_str_name(name).map(i32::from)),
        target: named(&value["target"], |name| CompareTarget::from_str_name(name).map(i32::from)),
        key: bytes(&value["key"]),
        range_end: bytes(&value["range_end"]),
        target_union,
    }
}

/// Only the revision of a header is compared; the rest differs from cluster to cluster.
pub(crate) fn header(value: &Value) -> Option<pb::ResponseHeader> {
    value
        .is_object()
        .then(|| pb::ResponseHeader { revision: number(&value["revision"]), ..pb::ResponseHeader::default() })
}

pub(crate) fn key_value(value: &Value) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: bytes(&value["key"]),
        create_revision: number(&value["create_revision"]),
        mod_revision: number(&value["mod_revision"]),
        version: number(&value["version"]),
        value: bytes(&value["value"]),
        lease: number(&value["lease"]),
    }
}

pub(crate) fn range_response(value: &Value) -> pb::RangeResponse {
    pb::RangeResponse {
        header: header(&value["header"]),
        kvs: list(&value["kvs"], key_value),
        more: flag(&value["more"]),
        count: number(&value["count"]),
    }
}

pub(crate) fn put_response(value: &Value) -> pb::PutResponse {
    pb::PutResponse { header: header(&value["header"]), prev_kv: value.get("prev_kv").map(key_value) }
}

pub(crate) fn delete_response(value: &Value) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: header(&value["header"]),
        deleted: number(&value["deleted"]),
        prev_kvs: list(&value["prev_kvs"], key_value),
    }
}

pub(crate) fn txn_response(value: &Value) -> pb::TxnResponse {
    pb::TxnResponse {
        header: header(&value["header"]),
        succeeded: flag(&value["succeeded"]),
        responses: list(&value["responses"], response_op),
    }
}

fn response_op(value: &Value) -> pb::ResponseOp {
    use pb::response_op::Response;
    let response = value.as_object().unwrap().iter().next().map(|(name, value)| match name.as_str() {
        "response_range" => Response::ResponseRange(range_response(value)),
        "response_put" => Response::ResponsePut(put_response(value)),
        "response_delete_range" => Response::ResponseDeleteRange(delete_response(value)),
        "response_txn" => Response::ResponseTxn(txn_response(value)),
        other => panic!("unknown answer {other}"),
    });
    pb::ResponseOp { response }
}

fn alarm_type(value: &Value) -> i32 {
    named(value, |name| pb::AlarmType::from_str_name(name).map(i32::from))
}

fn member_id(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(crate) fn alarm_request(value: &Value) -> pb::AlarmRequest {
    use pb::alarm_request::AlarmAction;
    pb::AlarmRequest {
        action: named(&value["action"], |name| AlarmAction::from_str_name(name).map(i32::from)),
        member_id: member_id(&value["memberID"]),
        alarm: alarm_type(&value["alarm"]),
    }
}

pub(crate) fn downgrade_request(value: &Value) -> pb::DowngradeRequest {
    use pb::downgrade_request::DowngradeAction;
    pb::DowngradeRequest {
        action: named(&value["action"], |name| DowngradeAction::from_str_name(name).map(i32::from)),
        version: value["version"].as_str().unwrap_or_default().to_owned(),
    }
}

pub(crate) fn alarm_response(value: &Value) -> pb::AlarmResponse {
    let alarm = |value: &Value| pb::AlarmMember {
        member_id: member_id(&value["memberID"]),
        alarm: alarm_type(&value["alarm"]),
    };
    pb::AlarmResponse { header: header(&value["header"]), alarms: list(&value["alarms"], alarm) }
}

/// Only what does not differ from server to server.
pub(crate) fn status_response(value: &Value) -> pb::StatusResponse {
    pb::StatusResponse {
        errors: list(&value["errors"], |error| error.as_str().unwrap().to_owned()),
        is_learner: flag(&value["isLearner"]),
        ..pb::StatusResponse::default()
    }
}
