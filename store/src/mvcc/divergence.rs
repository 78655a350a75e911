//! Whether members that applied the same commands hold the same state (safety rule 7).
//!
//! Each comparison is an entry of the log. At it every member notes its digest, and the next comparison carries what all of them had noted,
//! so who is wrong is decided by all from the same bytes:
//!
//! ```text
//! log:    … compare(nothing) ─── commands ─── compare(digests at the first) ─── …
//! noted:          digest                              digest
//! ```

use std::collections::BTreeMap;

/// What members had noted at one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The entry; 0 where none was noted yet.
    pub index: u64,
    /// How many members vote; those that did not answer or run another version are not among the digests.
    pub voters: u32,
    /// Member and digest, each member once.
    pub digests: Vec<(u64, u128)>,
}

/// What a comparison shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody differs, as far as anybody answered.
    Equal,
    /// A majority of the voters agrees, and this member alone does not: it begins anew.
    Odd(u64),
    /// A person has to decide. These are not known to hold the state of a majority.
    Unclear(Vec<u64>),
}

impl Comparison {
    /// Returns what the digests show.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut groups: BTreeMap<u128, Vec<u64>> = BTreeMap::new();
        for (member, digest) in &self.digests {
            groups.entry(*digest).or_default().push(*member);
        }
        if groups.len() <= 1 {
            return Verdict::Equal;
        }
        let needed = usize::try_from(self.voters).unwrap_or(usize::MAX) / 2 + 1;
        let majority = groups.iter().find(|(_, members)| members.len() >= needed).map(|(digest, _)| *digest);
        let differs = |(member, digest): &(u64, u128)| (Some(*digest) != majority).then_some(*member);
        let others: Vec<u64> = self.digests.iter().filter_map(differs).collect();
        match (majority, others.as_slice()) {
            (Some(_), [odd]) => Verdict::Odd(*odd),
            _ => Verdict::Unclear(others),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(voters: u32, digests: &[(u64, u128)], expected: Verdict) {
        let comparison = Comparison { index: 9, voters, digests: digests.to_vec() };
        assert_eq!(comparison.verdict(), expected, "{comparison:?}");
    }

    #[test]
    fn one_member_against_a_majority_of_all_voters_is_the_odd_one() {
        check(3, &[], Verdict::Equal);
        check(3, &[(1, 7), (2, 7)], Verdict::Equal);
        check(3, &[(1, 7), (2, 8), (3, 7)], Verdict::Odd(2));
        check(5, &[(1, 7), (2, 7), (3, 7), (4, 8)], Verdict::Odd(4));
        check(5, &[(1, 7), (2, 7), (4, 8)], Verdict::Unclear(vec![1, 2, 4]));
        check(3, &[(1, 7), (2, 8)], Verdict::Unclear(vec![1, 2]));
        check(2, &[(1, 7), (2, 8)], Verdict::Unclear(vec![1, 2]));
        check(3, &[(1, 7), (2, 8), (3, 9)], Verdict::Unclear(vec![1, 2, 3]));
        check(5, &[(1, 7), (2, 7), (3, 7), (4, 8), (5, 9)], Verdict::Unclear(vec![4, 5]));
        check(4, &[(1, 7), (2, 7), (3, 8), (4, 8)], Verdict::Unclear(vec![1, 2, 3, 4]));
    }
}
