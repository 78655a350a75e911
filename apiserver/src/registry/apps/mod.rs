//! Kinds of the group `apps`: workloads that keep pods of one template.

pub(super) mod deployment;
pub(super) mod replica_set;

mod template;
