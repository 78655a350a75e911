//! Images: what an archive holds, handing archives to containerd, and packing small images from the machine's busybox.
//!
//! No layer is unpacked here; that is the runtime's work.

pub mod archive;
mod import;
pub mod pack;

pub use archive::{ArchiveInfo, ArchiveKind, inspect};
pub use import::{ImportError, import};
