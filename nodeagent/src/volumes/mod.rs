//! The files that containers see: volumes, the managed hosts file, and where each is mounted.
//!
//! [`Volumes::prepare`] may be called at any time and makes the directories equal to what the API says now; that is also how
//! ConfigMaps, Secrets and tokens are refreshed in running pods. [`payload`] decides pure which files a volume holds,
//! [`atomic_writer`] swaps them in at once. Not here: PersistentVolumeClaims and CSI, which do not exist yet.

mod atomic_writer;
mod hosts;
mod manager;
mod mounts;
mod payload;
mod references;

pub use hosts::hosts_file;
pub use manager::{VolumeError, Volumes};
pub use mounts::{MountError, mounts};
pub use references::references;
