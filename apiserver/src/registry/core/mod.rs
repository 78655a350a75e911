//! Kinds of the core group.

pub(super) mod config_map;
pub(super) mod namespace;
pub(super) mod secret;
