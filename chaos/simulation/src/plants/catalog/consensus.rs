//! Plants in consensus itself: in openraft, and in what counts for it what a quorum has.

use crate::plan::Kind;
use crate::plants::aims;
use crate::plants::{Expected, Plant, Simulated, Tier};

pub(super) const PLANTS: &[Plant] = &[
    Plant {
        name: "progress-out-of-order",
        origin: "openraft 1802: voters that are ahead of the quorum are not in order, and a minority commits",
        // Of five, two are ahead at most, one of them the leader: followers would have to overtake its own log, whose disk is as fast as
        // theirs here. Of seven, one follower overtakes another.
        tier: Tier::Simulated(Simulated { voters: 7, aim: aims::bare_quorum, ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["invariants"]),
    },
    Plant {
        name: "conflict-truncates-committed",
        origin: "raft, section 5.3: a follower gives up what conflicts, and nothing that is committed",
        tier: Tier::Simulated(Simulated {
            kinds: &[Kind::Kill, Kind::Partition],
            seed: 2,
            ..Simulated::USUAL
        }),
        expected: Expected::FoundBy(&["invariants"]),
    },
    Plant {
        name: "two-votes-in-a-term",
        origin: "raft, section 5.2: a member gives one vote in a term",
        tier: Tier::Simulated(Simulated { voters: 5, aim: aims::leaders_end, ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["invariants"]),
    },
    Plant {
        name: "vote-for-an-older-log",
        origin: "raft, section 5.4.1: who lacks what others have does not lead them",
        tier: Tier::Simulated(Simulated { aim: aims::laggards_stand, ..Simulated::USUAL }),
        expected: Expected::FoundBy(&["invariants"]),
    },
];
