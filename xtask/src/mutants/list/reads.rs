//! Bugs of the saved index, of counts of the past and of the memory of reads.

use super::Mutant;

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "missing-rows-not-missed",
        file: "store/src/mvcc/saved.rs",
        original: "!store.index.misses_rows()",
        mutated: "true",
        breaks: "a key that was made again has a past that was collected",
        killed_by: &["lib mvcc::saved::tests::a_key_that_was_deleted_collected_and_made_again_has_no_past"],
    },
    Mutant {
        name: "saved-index-believed",
        file: "store/src/mvcc/saved.rs",
        original: "store.digest() == digest",
        mutated: "true",
        breaks: "a key that was deleted, and whose deletion nobody remembers, is there again",
        killed_by: &["lib mvcc::saved::tests::a_key_that_was_deleted_and_collected_is_not_there"],
    },
    Mutant {
        name: "half-collected-rows-indexed",
        file: "store/src/mvcc/saved.rs",
        original: "state.collected != state.compacted",
        mutated: "false",
        breaks: "rows that a collection had not reached when the member ended are forgotten and stay for ever",
        killed_by: &["lib mvcc::saved::tests::a_saved_index_gives_the_store_that_all_rows_give"],
    },
    Mutant {
        name: "collected-deletion-not-remembered",
        file: "store/src/mvcc/compact.rs",
        original: "row.main > since",
        mutated: "false",
        breaks: "a crash behind a compaction reads all rows",
        killed_by: &["lib mvcc::saved::tests::deletions_are_remembered_until_an_index_has_seen_them"],
    },
    Mutant {
        name: "damaged-index-read",
        file: "store/src/mvcc/index/saved.rs",
        original: "xxh3_64_with_seed(&payload, self.number) != hash",
        mutated: "false",
        breaks: "a flipped bit in the history of a saved index is believed",
        killed_by: &["lib mvcc::saved::tests::damage_anywhere_is_found"],
    },
    Mutant {
        name: "unsaved-newest-not-missed",
        file: "store/src/mvcc/index/saved.rs",
        original: "entry.newest.element == NOT_NEWEST",
        mutated: "false",
        breaks: "a key that changed while it was saved, and was deleted, is there again",
        killed_by: &["lib mvcc::saved::tests::a_key_that_was_deleted_and_collected_is_not_there"],
    },
    Mutant {
        name: "past-counted-as-present",
        file: "store/src/mvcc/index/tree.rs",
        original: "child.changed <= at",
        mutated: "true",
        breaks: "a count at an old revision counts the keys of now",
        killed_by: &["lib mvcc::index::tree::tests::a_count_of_the_past_is_that_of_a_walk"],
    },
    Mutant {
        name: "memory-given-back-before-it-is-sent",
        file: "store/src/reads.rs",
        original: "Bytes::from_owner(Held { data, _permit: Arc::clone(&permit) })",
        mutated: "data",
        breaks: "a client that does not read keeps memory that is given to others",
        killed_by: &["lib reads::tests::an_answer_holds_its_memory_until_its_last_byte_is_let_go"],
    },
];
