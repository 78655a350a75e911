//! The services' messages with the field names of etcd's JSON.
//!
//! etcd's gateway writes a field as its `.proto` file names it: mostly `like_this`, sometimes `likeThis` or `ID`. Ours name all of
//! them `like_this` and keep etcd's name as the JSON name, which says nothing where it is what any JSON name would be; the messages
//! where etcd's names are of that form are listed here.

use prost::Message;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorSet};
use prost_reflect::{DescriptorPool, MethodDescriptor};

/// Messages all of whose fields etcd names `likeThis`.
const CAMEL_CASE: &[&str] =
    &["Member", "MemberAddRequest", "StatusResponse", "DowngradeInfo", "AuthRoleGrantPermissionRequest"];

/// Returns all messages and services of this build.
pub(super) fn pool() -> DescriptorPool {
    let mut files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET)
        .expect("the build of proto wrote it as one message");
    for file in &mut files.file {
        file.message_type.iter_mut().for_each(rename);
    }
    DescriptorPool::from_file_descriptor_set(files).expect("it was complete before names were changed")
}

pub(super) fn method(pool: &DescriptorPool, service: &str, method: &str) -> Option<MethodDescriptor> {
    pool.get_service_by_name(service)?.methods().find(|found| found.name() == method)
}

fn rename(message: &mut DescriptorProto) {
    let is_camel_case = CAMEL_CASE.contains(&message.name());
    for field in &mut message.field {
        if is_camel_case || field.json_name() != camel_case(field.name()) {
            field.name.clone_from(&field.json_name);
        }
    }
    message.nested_type.iter_mut().for_each(rename);
}

/// Returns the JSON name of a field that has none of its own.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::routes::ROUTES;

    fn names(message: &str) -> Vec<String> {
        let message = pool().get_message_by_name(message).unwrap();
        message.fields().map(|field| field.name().to_owned()).collect()
    }

    #[test]
    fn fields_have_the_names_of_etcds_files() {
        assert_eq!(
            names("etcdserverpb.ResponseHeader"),
            ["cluster_id", "member_id", "revision", "raft_term"]
        );
        assert_eq!(
            names("etcdserverpb.LeaseTimeToLiveResponse"),
            ["header", "ID", "TTL", "grantedTTL", "keys"]
        );
        assert_eq!(names("etcdserverpb.Member"), ["ID", "name", "peerURLs", "clientURLs", "isLearner"]);
        assert!(names("etcdserverpb.StatusResponse").contains(&"dbSizeInUse".to_owned()));
        assert!(names("etcdserverpb.RangeRequest").contains(&"range_end".to_owned()));
        assert!(names("etcdserverpb.AlarmRequest").contains(&"memberID".to_owned()));
    }

    #[test]
    fn every_route_of_a_service_that_exists_leads_to_a_method() {
        let pool = pool();
        for (path, service, name) in ROUTES {
            if pool.get_service_by_name(service).is_some() {
                assert!(method(&pool, service, name).is_some(), "{path}");
            }
        }
    }
}
