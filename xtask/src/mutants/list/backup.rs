//! Bugs of copies of the state: snapshot files, and what is restored from them or from a lost cluster.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "restored-revisions-kept",
        file: "store/src/backup/restore.rs",
        original: "found.revision.0.checked_add(by)",
        mutated: "found.revision.0.checked_add(by - by)",
        breaks: "a restored cluster gives revisions again that clients of the source have seen (rule 10)",
        killed_by: &["lib backup::tests::by_default_no_revision_that_the_source_may_have_given_comes_again"],
    },
    Mutant {
        name: "restored-past-readable",
        file: "store/src/backup/restore.rs",
        original: "Ok(Numbers { revision, compacted: revision })",
        mutated: "Ok(Numbers { revision, ..found })",
        breaks: "the gap behind raised revisions reads as if nothing had happened in it (rule 10)",
        killed_by: &["lib backup::tests::by_default_no_revision_that_the_source_may_have_given_comes_again"],
    },
    Mutant {
        name: "restored-cluster-the-same",
        file: "store/src/backup/founder.rs",
        original: "hasher.update(self.seed);",
        mutated: "",
        breaks: "clusters that were restored from different files take each other for one (rule 10)",
        killed_by: &[
            "lib backup::tests::a_restored_cluster_has_an_id_of_its_own_and_the_same_on_every_member",
            "server snapshot::restored::a_member_that_was_restored_from_another_file_belongs_to_another_cluster",
        ],
    },
    Mutant {
        name: "forced-tail-dropped",
        file: "store/src/backup/remains.rs",
        original: "log.into_recovered()?.entries_behind(applied)",
        mutated: "VecDeque::new()",
        breaks: "who goes on from one member's directory loses what its log alone holds",
        killed_by: &[
            "server snapshot::forced::a_member_of_a_lost_cluster_goes_on_alone_with_every_entry_of_its_log",
        ],
    },
    Mutant {
        name: "snapshot-hash-unseen",
        file: "store/src/backup/read.rs",
        original: "hash.as_slice() != stored",
        mutated: "stored.is_empty()",
        breaks: "a damaged snapshot is restored",
        killed_by: &["lib backup::tests::a_snapshot_must_match_its_hash"],
    },
    Mutant {
        name: "keys-out-of-order",
        file: "store/src/bbolt/read.rs",
        original: "!is_behind || !bounds.hold(element.key)",
        mutated: "!bounds.hold(element.key)",
        breaks: "a damaged page is read in another order, or again and again",
        killed_by: &["lib bbolt::tests::keys_that_do_not_ascend_are_refused"],
    },
];
