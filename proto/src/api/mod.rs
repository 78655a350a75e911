//! API object types, re-exported once, and pure arithmetic on them.
//!
//! The arithmetic follows upstream to the letter, error texts included, because users and clients see them: quantities
//! with their canonical form, label and field selectors with kubectl's grammar, name rules, and int-or-percent fields.

pub mod fields;
pub mod int_or_percent;
pub mod labels;
pub mod names;
pub mod quantity;

pub use k8s_openapi;
