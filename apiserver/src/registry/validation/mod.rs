//! Checks that several kinds share, in upstream's terms and with upstream's texts.
//!
//! A check takes the path of what it looks at, so that the finding names the field as the user wrote it.

pub mod address;
pub mod field;
pub mod metadata;
pub mod selector;
