//! Kinds of the core group.

pub(super) mod config_map;
pub(super) mod endpoints;
pub(super) mod event;
pub(super) mod namespace;
pub(super) mod node;
pub(super) mod pod;
pub(super) mod secret;
pub(super) mod service;
pub(super) mod service_account;

mod pod_row;
mod pod_update;
mod service_validation;
mod taints;
