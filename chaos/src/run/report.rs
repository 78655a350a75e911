//! What a reader sees of a run.

use std::collections::BTreeMap;
use std::io::Write;

use crate::check::Verdict;
use crate::check::judge::{Counts, Judgement};
use crate::check::opinions::Opinion;
use crate::history::FaultKind;

/// Why a run is invalid that was ended before its time.
pub const INTERRUPTED: &str = "interrupted";

/// The end of a run.
pub type Outcome = Judgement;

impl Judgement {
    /// Returns the report; the command that repeats the run comes first and last.
    #[must_use]
    pub fn text(&self, reproduce: &str) -> String {
        let Counts { operations, failed, unknown, on_leader, .. } = self.counts;
        let mut lines = vec![
            reproduce.to_owned(),
            format!("operations  {operations} with a known outcome, {failed} failed, {unknown} unknown"),
            format!("faults      {}, {on_leader} of them on the leader", faults(&self.counts.faults)),
        ];
        lines.extend(self.opinions.iter().map(line));
        match &self.verdict {
            Verdict::Pass => lines.push("PASS        every promise held".to_owned()),
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

/// One line for what a checker says.
fn line(opinion: &Opinion) -> String {
    let word = match opinion.verdict() {
        Verdict::Pass => "pass",
        Verdict::Fail(_) => "FAIL",
        Verdict::Invalid(_) => "unknown",
    };
    format!("checker     {word} {}: {}", opinion.checker, opinion.scope)
}

fn faults(counts: &BTreeMap<FaultKind, usize>) -> String {
    let named: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

/// Prints one line.
pub fn say(line: &str) {
    // A closed pipe is no reason to end a run that injects faults.
    let _ = writeln!(std::io::stdout(), "{line}");
}
