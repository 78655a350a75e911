//! controllers.

pub mod scheduler;
