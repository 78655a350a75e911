//! Container logs: the runtime writes CRI records to files, this reads them for `kubectl logs`.
//!
//! [`record`] knows the record format, [`reader`] follows files through rotation, [`rotate`] keeps them small. Nothing here
//! writes a log line.

mod reader;
mod record;
pub mod rotate;

pub use reader::{LogError, LogOptions, LogSink, read};
