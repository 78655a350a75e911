//! Which endpoint sits in which slot. Pure.
//!
//! Slots are numbered without holes, because the kernel draws a number below the count. Endpoints that stay keep their
//! slot; a hole is filled by a new endpoint, or by the one in the last slot.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddrV4;

/// Returns the slots for the wanted endpoints, as close to the present ones as possible.
pub(super) fn assign(present: &[SocketAddrV4], wanted: &BTreeSet<SocketAddrV4>) -> Vec<SocketAddrV4> {
    let kept: BTreeSet<SocketAddrV4> = present.iter().filter(|slot| wanted.contains(slot)).copied().collect();
    let mut fresh: VecDeque<SocketAddrV4> = wanted.difference(&kept).copied().collect();
    let mut slots: VecDeque<Option<SocketAddrV4>> =
        present.iter().map(|slot| kept.contains(slot).then_some(*slot)).collect();
    let mut assigned = Vec::with_capacity(wanted.len());
    while assigned.len() < wanted.len() {
        let own = slots.pop_front().flatten();
        let filler = own.or_else(|| fresh.pop_front()).or_else(|| last_kept(&mut slots));
        assigned.push(filler.expect("kept, fresh and wanted endpoints are equally many"));
    }
    assigned
}

fn last_kept(slots: &mut VecDeque<Option<SocketAddrV4>>) -> Option<SocketAddrV4> {
    while let Some(slot) = slots.pop_back() {
        if slot.is_some() {
            return slot;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new([10, 244, 1, last].into(), 8080)
    }

    fn check(present: &[u8], wanted: &[u8], expected: &[u8]) {
        let all = |list: &[u8]| list.iter().map(|last| endpoint(*last)).collect::<Vec<_>>();
        assert_eq!(assign(&all(present), &all(wanted).into_iter().collect()), all(expected));
    }

    #[test]
    fn endpoints_keep_their_slots_where_they_can() {
        check(&[], &[1, 2, 3], &[1, 2, 3]);
        check(&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4]);
        check(&[1, 2, 3], &[2, 3], &[3, 2]);
        check(&[1, 2, 3], &[1, 3, 4], &[1, 4, 3]);
        check(&[1, 2, 3], &[1, 2], &[1, 2]);
        check(&[1, 2, 3], &[], &[]);
    }

    proptest! {
        #[test]
        fn slots_hold_exactly_the_wanted_and_move_no_more_than_needed(
            present in prop::collection::btree_set(0u8..30, 0..20),
            wanted in prop::collection::btree_set(0u8..30, 0..20),
        ) {
            let present: Vec<_> = present.into_iter().map(endpoint).collect();
            let wanted: BTreeSet<_> = wanted.into_iter().map(endpoint).collect();
            let slots = assign(&present, &wanted);
            prop_assert_eq!(slots.iter().copied().collect::<BTreeSet<_>>(), wanted.clone());
            prop_assert_eq!(slots.len(), wanted.len());
            let changed = slots.iter().zip(&present).filter(|(a, b)| a != b).count();
            let gone = present.iter().filter(|slot| !wanted.contains(slot)).count();
            prop_assert!(changed <= gone);
        }
    }
}
