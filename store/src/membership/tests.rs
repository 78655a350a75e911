//! Decisions on every kind of change, as tables.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::raft::types::Member;

fn url(id: u64) -> Vec<String> {
    vec![format!("http://m{id}:1")]
}

fn voter(id: u64) -> (u64, Known) {
    let member = Member { name: format!("m{id}"), peer_urls: url(id), incarnation: id, ..Member::default() };
    (id, Known { member, is_voter: true, is_alive: true, matched: 1000 })
}

fn learner(id: u64) -> (u64, Known) {
    let (id, known) = voter(id);
    (id, Known { is_voter: false, ..known })
}

/// Added with the wish to become a voter.
fn pending(id: u64) -> (u64, Known) {
    let (id, known) = learner(id);
    (id, Known { member: Member { promote: true, ..known.member }, ..known })
}

fn unstarted((id, known): (u64, Known)) -> (u64, Known) {
    let member = Member { incarnation: 0, name: String::new(), ..known.member };
    (id, Known { member, is_alive: false, matched: 0, ..known })
}

fn dead((id, known): (u64, Known)) -> (u64, Known) {
    (id, Known { is_alive: false, ..known })
}

/// The first member leads.
fn view(members: impl IntoIterator<Item = (u64, Known)>) -> View {
    let members: BTreeMap<u64, Known> = members.into_iter().collect();
    View { own: 1, members, removed: BTreeSet::from([77]), last_index: 1000, is_joint: false }
}

fn add(id: u64, kind: Kind) -> Change {
    Change::Add { id, peer_urls: url(id), kind }
}

fn check(change: &Change, view: &View, expected: Result<Decision, Denial>) {
    assert_eq!(decide(change, view), expected, "{change:?} on {view:?}");
}

fn denied(change: &Change, view: &View, expected: Denial) {
    check(change, view, Err(expected));
}

#[test]
fn a_new_member_is_inserted_unstarted_and_asking_again_changes_nothing() {
    for (kind, promote) in [(Kind::Learner, false), (Kind::Voter, true)] {
        let one = view([voter(1)]);
        let member = Member { peer_urls: url(9), promote, ..Member::default() };
        check(&add(9, kind), &one, Ok(Decision::Insert(9, member.clone())));
        let mut two = one.clone();
        two.members.insert(9, Known { member, ..Known::default() });
        check(&add(9, kind), &two, Ok(Decision::Nothing));
    }
}

#[test]
fn adding_is_refused_as_etcd_refuses_it() {
    let three = view([voter(1), voter(2), voter(3)]);
    let taken = Change::Add { id: 9, peer_urls: url(2), kind: Kind::Voter };
    denied(&taken, &three, Denial::UrlsExist);
    denied(&add(77, Kind::Voter), &three, Denial::MemberExists);
    denied(&add(9, Kind::Voter), &view([voter(1), voter(2), dead(voter(3))]), Denial::Unhealthy);
    denied(&add(9, Kind::Learner), &view([voter(1), voter(2), dead(voter(3))]), Denial::Unhealthy);
    denied(&add(9, Kind::Voter), &view([voter(1), unstarted(pending(2))]), Denial::NotEnoughStarted);
    let with_learner = view([voter(1), unstarted(learner(2))]);
    denied(&add(9, Kind::Learner), &with_learner, Denial::TooManyLearners);
    let member = Member { peer_urls: url(9), promote: true, ..Member::default() };
    check(&add(9, Kind::Voter), &with_learner, Ok(Decision::Insert(9, member)));
}

#[test]
fn members_go_unless_a_majority_would_go_with_them() {
    let remove = |id| Change::Remove { id };
    denied(&remove(1), &view([voter(1)]), Denial::NotEnoughStarted);
    denied(&remove(9), &view([voter(1)]), Denial::MemberNotFound);
    denied(&remove(77), &view([voter(1)]), Denial::MemberNotFound);
    check(&remove(2), &view([voter(1), voter(2)]), Ok(Decision::Drop(2)));
    check(&remove(1), &view([voter(1), voter(2)]), Ok(Decision::HandOver));
    check(&remove(2), &view([voter(1), learner(2)]), Ok(Decision::Drop(2)));
    check(&remove(2), &view([voter(1), unstarted(pending(2))]), Ok(Decision::Drop(2)));
    let one_down = view([voter(1), voter(2), dead(voter(3))]);
    check(&remove(3), &one_down, Ok(Decision::Drop(3)));
    denied(&remove(2), &one_down, Denial::Unhealthy);
    denied(&remove(1), &one_down, Denial::Unhealthy);
    check(&remove(3), &view([voter(1), voter(2), voter(3)]), Ok(Decision::Drop(3)));
    // A leader that has heard of nobody yet cannot tell who is down.
    denied(&remove(2), &view([voter(1), dead(voter(2)), dead(voter(3))]), Denial::Unhealthy);
    // A member that is yet to become a voter does not take the last voter's place.
    denied(&remove(1), &view([voter(1), pending(2)]), Denial::NotEnoughStarted);
    denied(&remove(2), &view([voter(1), voter(2), unstarted(pending(3))]), Denial::NotEnoughStarted);
}

#[test]
fn new_urls_leave_everything_else_as_it_is() {
    let update = |id, of| Change::Update { id, peer_urls: url(of) };
    let two = view([voter(1), learner(2)]);
    let moved = Member { peer_urls: url(8), ..two.members[&2].member.clone() };
    check(&update(2, 8), &two, Ok(Decision::Replace(2, moved)));
    check(&update(2, 2), &two, Ok(Decision::Nothing));
    denied(&update(2, 1), &two, Denial::UrlsExist);
    denied(&update(9, 9), &two, Denial::MemberNotFound);
}

#[test]
fn a_learner_is_promoted_when_it_has_nine_tenths_of_the_log() {
    let promote = Change::Promote { id: 2 };
    let with = |change: fn(&mut Known)| {
        let (id, mut known) = learner(2);
        change(&mut known);
        view([voter(1), (id, known)])
    };
    check(&promote, &with(|known| known.matched = 900), Ok(Decision::Promote(2)));
    denied(&promote, &with(|known| known.matched = 899), Denial::LearnerNotReady);
    denied(&promote, &with(|known| known.is_alive = false), Denial::LearnerNotReady);
    denied(&promote, &with(|known| known.member.incarnation = 0), Denial::LearnerNotReady);
    denied(&promote, &with(|known| known.is_voter = true), Denial::NotLearner);
    denied(&promote, &view([voter(1)]), Denial::MemberNotFound);
}

#[test]
fn only_a_member_that_was_added_as_a_voter_is_promoted_by_itself() {
    assert_eq!(due(&view([voter(1), pending(2)])), Some(Decision::Promote(2)));
    assert_eq!(due(&view([voter(1), learner(2)])), None);
    assert_eq!(due(&view([voter(1), unstarted(pending(2))])), None);
    assert_eq!(due(&view([voter(1), dead(pending(2))])), None);
    let mut far = view([voter(1), pending(2)]);
    far.last_index = 100_000;
    far.members.get_mut(&2).unwrap().matched = 95_000;
    assert_eq!(due(&far), None, "nine tenths of a long log are a long way");
    far.members.get_mut(&2).unwrap().is_voter = true;
    assert_eq!(due(&far), None);
}

/// Added to take somebody's place.
fn replacing(replaced: u64, (id, known): (u64, Known)) -> (u64, Known) {
    (id, Known { member: Member { replaces: replaced, ..known.member }, ..known })
}

fn replace(id: u64, of: u64, replaced: u64) -> Change {
    Change::Replace { id, peer_urls: url(of), replaced }
}

#[test]
fn a_dead_member_is_replaced_without_being_removed_first() {
    let one_down = view([voter(1), voter(2), dead(voter(3))]);
    let member = |of, promote| Member { peer_urls: url(of), promote, replaces: 3, ..Member::default() };
    check(&replace(9, 9, 3), &one_down, Ok(Decision::Insert(9, member(9, true))));
    // Its machine may come back with another disk.
    check(&replace(9, 3, 3), &one_down, Ok(Decision::Insert(9, member(3, true))));
    let mut added = one_down.clone();
    added.members.insert(9, Known { member: member(9, true), ..Known::default() });
    check(&replace(9, 9, 3), &added, Ok(Decision::Nothing));
    denied(&replace(8, 8, 3), &added, Denial::BeingReplaced);
    denied(&replace(9, 2, 3), &one_down, Denial::UrlsExist);
    denied(&replace(9, 9, 7), &one_down, Denial::MemberNotFound);
    denied(&replace(77, 9, 3), &one_down, Denial::MemberExists);
    denied(&replace(2, 9, 3), &one_down, Denial::MemberExists);
    // A member that works may go while another one is dead: with the new one there is a majority.
    check(&replace(9, 9, 2), &one_down, Ok(Decision::Insert(9, Member { replaces: 2, ..member(9, true) })));
    denied(&replace(9, 9, 1), &view([voter(1), dead(voter(2)), dead(voter(3))]), Denial::Unhealthy);
    let unstarted_one = view([voter(1), unstarted(voter(2)), unstarted(voter(3))]);
    denied(&replace(9, 9, 1), &unstarted_one, Denial::NotEnoughStarted);
    // Who takes the place of a learner is one.
    let with_learner = view([voter(1), learner(3)]);
    check(&replace(9, 9, 3), &with_learner, Ok(Decision::Insert(9, member(9, false))));
}

#[test]
fn a_vote_is_taken_over_when_the_new_member_has_caught_up() {
    let new = || replacing(3, pending(9));
    let swap = Some(Decision::Swap { leaving: 3, coming: 9 });
    assert_eq!(due(&view([voter(1), voter(2), dead(voter(3)), new()])), swap);
    assert_eq!(due(&view([voter(1), voter(2), voter(3), new()])), swap, "a member that works may go, too");
    assert_eq!(due(&view([voter(1), voter(2), dead(voter(3)), unstarted(new())])), None);
    assert_eq!(due(&view([voter(1), voter(2), dead(voter(3)), dead(new())])), None);
    assert_eq!(due(&view([voter(1), dead(voter(2)), voter(3), new()])), swap);
    let two_of_five = [voter(1), dead(voter(2)), dead(voter(4)), voter(5), voter(3), new()];
    assert_eq!(due(&view(two_of_five)), swap);
    let too_few = [voter(1), dead(voter(2)), dead(voter(4)), dead(voter(5)), voter(3), new()];
    assert_eq!(due(&view(too_few)), None, "the new side would have no majority");
    // Who leads hands over first, and the only one gives its vote last.
    let led = View { own: 3, ..view([voter(1), voter(2), voter(3), new()]) };
    assert_eq!(due(&led), Some(Decision::HandOver));
    let alone = view([voter(1), replacing(1, pending(9))]);
    assert_eq!(due(&alone), Some(Decision::Promote(9)));
    let both = view([voter(1), replacing(1, voter(9))]);
    assert_eq!(due(&both), Some(Decision::HandOver));
    assert_eq!(due(&View { own: 9, ..both }), Some(Decision::Drop(1)));
    // A learner has no vote to take over.
    assert_eq!(due(&view([voter(1), learner(3), replacing(3, learner(9))])), Some(Decision::Drop(3)));
    assert_eq!(due(&view([voter(1), replacing(3, learner(9))])), None);
    // The one that was to leave has been removed meanwhile.
    assert_eq!(due(&view([voter(1), voter(2), new()])), Some(Decision::Promote(9)));
}

#[test]
fn a_change_of_two_entries_is_ended_before_any_other() {
    let joint =
        View { is_joint: true, ..view([voter(1), voter(2), voter(3), replacing(3, voter(9)), pending(8)]) };
    assert_eq!(due(&joint), Some(Decision::Settle));
}

#[test]
fn the_first_data_directory_owns_the_id() {
    let publish = |id, incarnation| Change::Publish {
        id,
        incarnation,
        name: "new".to_owned(),
        client_urls: vec!["http://c:1".to_owned()],
    };
    let one = view([voter(1), unstarted(pending(2))]);
    let Ok(Decision::Replace(2, member)) = decide(&publish(2, 5), &one) else { panic!("not published") };
    assert_eq!((member.incarnation, member.promote, &member.peer_urls), (5, true, &url(2)));
    let mut published = one.clone();
    published.members.get_mut(&2).unwrap().member = member;
    check(&publish(2, 5), &published, Ok(Decision::Nothing));
    denied(&publish(2, 6), &published, Denial::OtherDirectory);
    denied(&publish(77, 5), &published, Denial::Removed);
    denied(&publish(9, 5), &published, Denial::MemberNotFound);
}
