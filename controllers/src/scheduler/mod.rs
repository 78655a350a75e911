//! The scheduler: chooses a node for every pod that has none and binds it there.
//!
//! ```text
//! watches ──► planner { snapshot, queue, cycle(catalog of plugins) } ──► decisions ──► binder, reporter
//! ```
//!
//! Everything up to the decision is pure: changes and `now` in, decisions out, ties broken by a seeded generator. Only
//! `binder` binds, through `pods/binding` with the leader's fence, and the server compares node capacity again in the commit,
//! so a second scheduler may run beside this one. Pods with another `schedulerName` are load, never work.

pub mod catalog;
pub mod framework;
pub mod plugins;

pub mod pod_info;
pub mod resources;
pub mod snapshot;

pub mod cycle;
pub mod diagnosis;
pub mod planner;
pub mod queue;

mod binder;
mod metrics;
mod reporter;
mod run;

pub use metrics::Metrics;
pub use run::{Config, run};

#[cfg(test)]
pub(crate) mod fixtures;
