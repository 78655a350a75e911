//! A set of operations, one bit each: half of what the search remembers.

/// Bits of one word.
const WORD_BITS: usize = 64;

/// Which operations of a history have been taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OperationSet {
    words: Box<[u64]>,
}

impl OperationSet {
    /// Returns the empty set of a history with so many operations.
    pub(super) fn new(operations: usize) -> Self {
        Self { words: vec![0; operations.div_ceil(WORD_BITS)].into_boxed_slice() }
    }

    pub(super) fn insert(&mut self, operation: usize) {
        if let Some(word) = self.words.get_mut(operation / WORD_BITS) {
            *word |= 1 << (operation % WORD_BITS);
        }
    }

    pub(super) fn remove(&mut self, operation: usize) {
        if let Some(word) = self.words.get_mut(operation / WORD_BITS) {
            *word &= !(1 << (operation % WORD_BITS));
        }
    }

    pub(super) fn contains(&self, operation: usize) -> bool {
        let word = self.words.get(operation / WORD_BITS).copied().unwrap_or_default();
        word & (1 << (operation % WORD_BITS)) != 0
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let mut set = OperationSet::new(130);
        for operation in [0, 63, 64, 129] {
            let before = set.clone();
            set.insert(operation);
            assert!(set.contains(operation) && !before.contains(operation), "{operation}");
            assert_ne!(set, before, "{operation}");
            set.remove(operation);
            assert_eq!(set, before, "{operation}");
            set.insert(operation);
        }
        assert_eq!(set.heap_bytes(), 24);
    }
}
