//! Contracts shared by every Keelson crate: generated wire types and the pure arithmetic on API objects. No IO.

pub mod api;

/// etcd v3 users and permissions (`authpb`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// etcd v3 key-value records (`mvccpb`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// etcd v3 leases as snapshots hold them (`leasepb`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod leasepb {
    tonic::include_proto!("leasepb");
}

/// The etcd v3 API (`etcdserverpb`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The etcd v3 lock service (`v3lockpb`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// The etcd v3 election service (`v3electionpb`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// Keelson's gRPC API (`keelson.v1`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod keelson {
    tonic::include_proto!("keelson.v1");
}

/// The package path of the generated code below: it reaches the crate root through as many parents as its package has names.
mod packages {
    pub mod keelson {
        #[allow(
            clippy::all,
            clippy::allow_attributes_without_reason,
            clippy::as_conversions,
            unreachable_pub,
            unused_qualifications,
            reason = "generated code"
        )]
        pub mod store {
            tonic::include_proto!("keelson.store.v1");
        }
    }
}

/// Commands of the replicated log, their answers, the store's records on disk, and its own service (`keelson.store.v1`).
pub use packages::keelson::store;

/// Messages between store members, log entries and snapshot metadata (`keelson.raft.v1`).
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod raft {
    tonic::include_proto!("keelson.raft.v1");
}

/// Descriptors of every service, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
