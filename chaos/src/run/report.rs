//! What a reader sees of a run.

use std::io::Write;

use crate::check::Verdict;
use crate::check::judge::Counts;

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub counts: Counts,
}

impl Outcome {
    /// Returns the report; the command that repeats the run comes first and last.
    #[must_use]
    pub fn text(&self, reproduce: &str) -> String {
        let Counts { operations, failed, unknown, unknown_applied, revisions, .. } = self.counts;
        let Counts { reads, writes, kills, partitions, on_leader, .. } = self.counts;
        let mut lines = vec![
            reproduce.to_owned(),
            format!(
                "operations  {operations} with a known outcome ({reads} reads, {writes} writes), {failed} failed, \
                 {unknown} unknown ({unknown_applied} of them happened)"
            ),
            format!("log         {revisions} revisions"),
            format!("faults      {kills} kills, {partitions} partitions, {on_leader} of them on the leader"),
        ];
        match &self.verdict {
            Verdict::Pass => lines.push("PASS        strictly serializable".to_owned()),
            Verdict::Fail(violations) => {
                lines.push(format!("FAIL        {} broken promises", violations.len()));
                lines.extend(violations.iter().map(|violation| format!("  {violation}")));
            }
            Verdict::Invalid(reasons) => {
                lines.push("INVALID     the run proves nothing".to_owned());
                lines.extend(reasons.iter().map(|reason| format!("  {reason}")));
            }
        }
        lines.push(reproduce.to_owned());
        lines.join("\n") + "\n"
    }

    /// Returns the exit code: 0 pass, 1 fail, 2 invalid.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Pass => 0,
            Verdict::Fail(_) => 1,
            Verdict::Invalid(_) => 2,
        }
    }
}

/// Prints one line.
pub fn say(line: &str) {
    // A closed pipe is no reason to end a run that injects faults.
    let _ = writeln!(std::io::stdout(), "{line}");
}
