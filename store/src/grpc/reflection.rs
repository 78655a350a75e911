//! gRPC reflection over what this port serves, from the descriptors that the build of `proto` wrote.

use tonic::service::Routes;
use tonic_reflection::server::Builder;

/// Adds reflection, in both of its versions, over `services`.
pub(crate) fn add_to(routes: Routes, services: &[&str]) -> Routes {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    };
    let valid = "descriptors come from a protobuf compiler";
    routes
        .add_service(builder().build_v1().expect(valid))
        .add_service(builder().build_v1alpha().expect(valid))
}
