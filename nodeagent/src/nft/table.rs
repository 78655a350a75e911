//! A table: declarations of sets and maps, chains, and the rows inside. Pure.

use crate::nft::Rows;

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// Where the kernel calls it; `None` for chains that others jump to.
    pub(crate) hook: Option<&'static str>,
    pub(crate) rules: Vec<String>,
}

/// A set or map, by its kind and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declaration {
    /// `set` or `map`.
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    /// Its `type` or `typeof` clause.
    pub(crate) type_clause: String,
}

/// The whole of our table. Chains are listed so that each stands behind those it jumps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) declarations: Vec<Declaration>,
    pub(crate) chains: Vec<Chain>,
    pub(crate) rows: Rows,
}
