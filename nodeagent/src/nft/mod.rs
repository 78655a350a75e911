//! Packet rules as data: one table that only we touch, and the changes that turn one state into another.
//!
//! [`rows`] holds the elements of shared maps and how two sets of them differ; [`table`] adds the chains and declarations
//! around them; [`text`] renders both for `nft -f -`, one transaction per call. All of it is pure.

mod rows;
mod table;
mod text;

pub(crate) use rows::{Batch, Element, Rows};
pub(crate) use table::{Chain, Declaration, Table};
