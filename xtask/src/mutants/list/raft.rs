//! Bugs of consensus, most of them in the dependencies that hold it: some that openraft had, and the rules of Raft, each broken once.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "progress-out-of-order",
        file: "dependencies/quorum-set/src/progress/vec_progress.rs",
        original: "self.move_up(index)",
        mutated: "if prev_le_qa { self.move_up(index) } else { index }",
        breaks: "a voter that is ahead of the quorum and gets on is not sorted anew: a minority commits an entry",
        killed_by: &[],
    },
    Mutant {
        name: "conflict-truncates-committed",
        file: "dependencies/openraft/src/engine/handler/following_handler/mod.rs",
        original: "self.truncate_logs(prev.index());",
        mutated: "self.truncate_logs(self.state.last_purged_log_id().next_index());",
        breaks: "a follower whose log does not reach the leader's gives up all of it, committed entries too",
        killed_by: &[],
    },
    Mutant {
        name: "two-votes-in-a-term",
        file: "dependencies/openraft/src/vote/leader_id/leader_id_std.rs",
        original: "LeaderIdCompare::std(self, other)",
        mutated: "LeaderIdCompare::adv(self, other)",
        breaks: "a member that has voted votes again in that term, for a higher id",
        killed_by: &[],
    },
    Mutant {
        name: "vote-for-an-older-log",
        file: "store/src/raft/convert.rs",
        original: "request.last.map(log_id)",
        mutated: "Some(LogId::new_term_index(u64::MAX, u64::MAX))",
        breaks: "a vote does not ask how far the candidate's log goes",
        killed_by: &[],
    },
];
