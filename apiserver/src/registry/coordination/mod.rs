//! Kinds of the group `coordination.k8s.io`.

pub(super) mod lease;
