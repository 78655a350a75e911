//! The elements of a table's sets and maps, and the difference between two states. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::nft::Chain;

/// One element of a set or map, by the text of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// The set or map it belongs to.
    pub(crate) set: &'static str,
    pub(crate) key: String,
}

/// Elements with what they map to; set members map to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows(BTreeMap<Element, Option<String>>);

/// A change of a table that happens at once or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Chains that must exist first.
    pub(crate) chains: Vec<Chain>,
    /// Elements that go; all go before any comes, so a key may be in both lists.
    pub(crate) deletes: BTreeSet<Element>,
    pub(crate) adds: BTreeMap<Element, Option<String>>,
}

impl Rows {
    /// Puts a map element in.
    pub(crate) fn map(&mut self, set: &'static str, key: String, value: String) {
        self.0.insert(Element { set, key }, Some(value));
    }

    /// Puts a set member in.
    pub(crate) fn member(&mut self, set: &'static str, key: String) {
        self.0.insert(Element { set, key }, None);
    }

    /// Returns the elements in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Element, &Option<String>)> {
        self.0.iter()
    }

    /// Returns the smallest change that leads to `next`.
    pub(crate) fn diff(&self, next: &Self) -> Batch {
        let is_kept = |element: &Element, value: &Option<String>| next.0.get(element) == Some(value);
        let is_new = |element: &Element, value: &Option<String>| self.0.get(element) != Some(value);
        Batch {
            chains: Vec::new(),
            deletes: self.0.iter().filter(|(e, v)| !is_kept(e, v)).map(|(e, _)| e.clone()).collect(),
            adds: next.0.iter().filter(|(e, v)| is_new(e, v)).map(|(e, v)| (e.clone(), v.clone())).collect(),
        }
    }

    /// Makes the change.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for element in &batch.deletes {
            self.0.remove(element);
        }
        self.0.extend(batch.adds.clone());
    }
}

impl Batch {
    /// Returns whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.deletes.is_empty() && self.adds.is_empty()
    }

    /// Appends a change that was computed after this one.
    pub(crate) fn then(&mut self, next: Self) {
        self.chains.extend(next.chains);
        for element in next.deletes {
            // What this very batch adds is not in the kernel yet: forgetting it is enough, unless an old value was there.
            if self.adds.remove(&element).is_none() {
                self.deletes.insert(element);
            }
        }
        self.adds.extend(next.adds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Rows> {
        prop::collection::btree_map(0u8..20, 0u8..3, 0..20).prop_map(|entries| {
            let mut rows = Rows::default();
            for (key, value) in entries {
                rows.map("m", key.to_string(), value.to_string());
            }
            rows
        })
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_state_to_the_other(a in rows(), b in rows()) {
            let mut state = a.clone();
            state.apply(&a.diff(&b));
            prop_assert_eq!(state, b);
        }

        #[test]
        fn joined_changes_equal_the_changes_in_turn(a in rows(), b in rows(), c in rows()) {
            let mut joined = a.diff(&b);
            joined.then(b.diff(&c));
            let mut state = a.clone();
            // The kernel refuses to delete what is not there and to add what is.
            for element in &joined.deletes { prop_assert!(a.0.contains_key(element)); }
            state.apply(&joined);
            prop_assert_eq!(state, c);
        }

        #[test]
        fn equal_states_need_no_change(a in rows()) {
            prop_assert!(a.diff(&a).is_empty());
        }
    }
}
