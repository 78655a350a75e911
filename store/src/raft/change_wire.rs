//! Changes of membership and their outcomes to and from `keelson.raft.v1`.

use proto::raft as wire;
use wire::change_members_request::Change as WireChange;
use wire::change_members_response::{Denial as WireDenial, Result as WireResult};

use super::convert::{self, Malformed};
use super::reconfigure::Outcome;
use crate::membership::{Change, Denial, Kind};

pub(crate) fn change(change: WireChange) -> Change {
    match change {
        WireChange::Add(wire::AddMember { id, peer_urls, learner }) => {
            let kind = if learner { Kind::Learner } else { Kind::Voter };
            Change::Add { id, peer_urls, kind }
        }
        WireChange::Replace(wire::ReplaceMember { id, peer_urls, replaced }) => {
            Change::Replace { id, peer_urls, replaced }
        }
        WireChange::Remove(wire::RemoveMember { id }) => Change::Remove { id },
        WireChange::Update(wire::UpdateMember { id, peer_urls }) => Change::Update { id, peer_urls },
        WireChange::Promote(wire::PromoteMember { id }) => Change::Promote { id },
        WireChange::Publish(wire::PublishMember { id, incarnation, name, client_urls }) => {
            Change::Publish { id, incarnation, name, client_urls }
        }
    }
}

pub(crate) fn change_to_wire(change: Change) -> WireChange {
    match change {
        Change::Add { id, peer_urls, kind } => {
            WireChange::Add(wire::AddMember { id, peer_urls, learner: kind == Kind::Learner })
        }
        Change::Replace { id, peer_urls, replaced } => {
            WireChange::Replace(wire::ReplaceMember { id, peer_urls, replaced })
        }
        Change::Remove { id } => WireChange::Remove(wire::RemoveMember { id }),
        Change::Update { id, peer_urls } => WireChange::Update(wire::UpdateMember { id, peer_urls }),
        Change::Promote { id } => WireChange::Promote(wire::PromoteMember { id }),
        Change::Publish { id, incarnation, name, client_urls } => {
            WireChange::Publish(wire::PublishMember { id, incarnation, name, client_urls })
        }
    }
}

pub(crate) fn outcome(response: wire::ChangeMembersResponse) -> Result<Outcome, Malformed> {
    Ok(match response.result.ok_or(Malformed("outcome of a change"))? {
        WireResult::Changed(stored) => Outcome::Changed(convert::stored_membership(stored)?),
        WireResult::Denied(denied) => match WireDenial::try_from(denied).ok().and_then(denial) {
            Some(denial) => Outcome::Denied(denial),
            None => return Err(Malformed("denial of a change")),
        },
        WireResult::NotLeader(wire::Blank {}) => Outcome::NotLeader,
        WireResult::Unknown(wire::Blank {}) => Outcome::Unknown,
    })
}

pub(crate) fn outcome_to_wire(outcome: &Outcome) -> wire::ChangeMembersResponse {
    let result = match outcome {
        Outcome::Changed(stored) => WireResult::Changed(convert::stored_membership_to_wire(stored)),
        Outcome::Denied(denial) => WireResult::Denied(denial_to_wire(*denial).into()),
        Outcome::NotLeader => WireResult::NotLeader(wire::Blank {}),
        Outcome::Unknown => WireResult::Unknown(wire::Blank {}),
    };
    wire::ChangeMembersResponse { result: Some(result) }
}

fn denial(denial: WireDenial) -> Option<Denial> {
    Some(match denial {
        WireDenial::Unspecified => return None,
        WireDenial::MemberNotFound => Denial::MemberNotFound,
        WireDenial::MemberExists => Denial::MemberExists,
        WireDenial::InvalidUrls => Denial::InvalidUrls,
        WireDenial::UrlsExist => Denial::UrlsExist,
        WireDenial::NotEnoughStarted => Denial::NotEnoughStarted,
        WireDenial::Unhealthy => Denial::Unhealthy,
        WireDenial::NotLearner => Denial::NotLearner,
        WireDenial::LearnerNotReady => Denial::LearnerNotReady,
        WireDenial::TooManyLearners => Denial::TooManyLearners,
        WireDenial::Removed => Denial::Removed,
        WireDenial::OtherDirectory => Denial::OtherDirectory,
        WireDenial::BeingReplaced => Denial::BeingReplaced,
    })
}

fn denial_to_wire(denial: Denial) -> WireDenial {
    match denial {
        Denial::MemberNotFound => WireDenial::MemberNotFound,
        Denial::MemberExists => WireDenial::MemberExists,
        Denial::InvalidUrls => WireDenial::InvalidUrls,
        Denial::UrlsExist => WireDenial::UrlsExist,
        Denial::NotEnoughStarted => WireDenial::NotEnoughStarted,
        Denial::Unhealthy => WireDenial::Unhealthy,
        Denial::NotLearner => WireDenial::NotLearner,
        Denial::LearnerNotReady => WireDenial::LearnerNotReady,
        Denial::TooManyLearners => WireDenial::TooManyLearners,
        Denial::Removed => WireDenial::Removed,
        Denial::OtherDirectory => WireDenial::OtherDirectory,
        Denial::BeingReplaced => WireDenial::BeingReplaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_and_outcomes_survive_the_wire() {
        let urls = vec!["http://a:1".to_owned()];
        let changes = [
            Change::Add { id: 1, peer_urls: urls.clone(), kind: Kind::Learner },
            Change::Add { id: 1, peer_urls: urls.clone(), kind: Kind::Voter },
            Change::Remove { id: 2 },
            Change::Update { id: 3, peer_urls: urls.clone() },
            Change::Promote { id: 4 },
            Change::Publish { id: 5, incarnation: 6, name: "n".to_owned(), client_urls: urls },
        ];
        for sent in changes {
            assert_eq!(change(change_to_wire(sent.clone())), sent);
        }
        for number in 1..=11 {
            let denied = denial(WireDenial::try_from(number).unwrap()).unwrap();
            assert_eq!(i32::from(denial_to_wire(denied)), number);
        }
    }
}
