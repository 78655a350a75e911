//! What a run of a plant must come to.

use crate::run::Summary;

/// Who must find a plant.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// The run fails, and one of these checkers says so.
    FoundBy(&'static [&'static str]),
    /// The run proves nothing, and a reason holds these words: a plant in the harness must never end in a pass.
    Invalid(&'static str),
    /// Two runs of one plan leave two traces.
    AnotherTrace,
}

/// What one seed showed of a plant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// By whom.
    Found(Vec<String>),
    /// What came instead.
    Nothing(String),
}

impl Expected {
    /// Judges a planted run; `again` is a second one of the same plan, where that is what counts.
    pub(super) fn judge(&self, run: &Summary, again: Option<&Summary>) -> Shown {
        match self {
            Self::FoundBy(checkers) => {
                let by = run.found_by.iter().filter(|name| checkers.contains(&name.as_str()));
                let by: Vec<String> = by.cloned().collect();
                let is_found = run.verdict == "fail" && !by.is_empty();
                if is_found { Shown::Found(by) } else { Shown::Nothing(instead(run)) }
            }
            Self::Invalid(words) => {
                let says_so = run.findings.iter().any(|reason| reason.contains(words));
                let is_found = run.verdict == "invalid" && says_so;
                if is_found { Shown::Found(vec!["invalid".to_owned()]) } else { Shown::Nothing(instead(run)) }
            }
            Self::AnotherTrace => match again {
                Some(again) if again.trace != run.trace => Shown::Found(vec!["trace".to_owned()]),
                Some(_) | None => Shown::Nothing("two runs left one trace".to_owned()),
            },
        }
    }

    pub(super) fn needs_two_runs(&self) -> bool {
        matches!(self, Self::AnotherTrace)
    }

    /// Says it in a few words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::FoundBy(checkers) => checkers.join(" or "),
            Self::Invalid(words) => format!("invalid: {words}"),
            Self::AnotherTrace => "two traces of one plan".to_owned(),
        }
    }
}

/// Says what a run came to.
fn instead(run: &Summary) -> String {
    let by = if run.found_by.is_empty() { String::new() } else { format!(" by {}", run.found_by.join(", ")) };
    let first = run.findings.first().map_or_else(String::new, |finding| format!(": {finding}"));
    format!("{}{by}{first}", run.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(verdict: &str, found_by: &[&str], finding: &str) -> Summary {
        Summary {
            verdict: verdict.to_owned(),
            found_by: found_by.iter().map(|&name| name.to_owned()).collect(),
            findings: vec![finding.to_owned()],
            trace: finding.to_owned(),
            ..Summary::default()
        }
    }

    fn is_found(expected: Expected, run: &Summary) -> bool {
        matches!(expected.judge(run, None), Shown::Found(_))
    }

    #[test]
    fn a_plant_is_found_by_the_checker_that_is_named_and_by_nobody_else() {
        let expected = Expected::FoundBy(&["witness", "set"]);
        assert_eq!(
            expected.judge(&run("fail", &["recovery", "set"], "x"), None),
            Shown::Found(vec!["set".to_owned()])
        );
        assert!(!is_found(expected, &run("fail", &["recovery"], "x")));
        assert!(!is_found(expected, &run("pass", &[], "x")));
        assert!(!is_found(expected, &run("invalid", &[], "set: too large")));
    }

    #[test]
    fn a_broken_harness_is_found_by_an_invalid_run_with_its_reason() {
        let expected = Expected::Invalid("no witness");
        assert!(is_found(expected, &run("invalid", &[], "fault #1 left no witness")));
        assert!(!is_found(expected, &run("invalid", &[], "too few operations")));
        assert!(!is_found(expected, &run("pass", &[], "no witness")));
        assert!(!is_found(expected, &run("fail", &["set"], "no witness")));
    }

    #[test]
    fn what_is_not_deterministic_is_found_by_two_traces() {
        let (one, other) = (run("pass", &[], "a"), run("pass", &[], "b"));
        assert!(matches!(Expected::AnotherTrace.judge(&one, Some(&other)), Shown::Found(_)));
        assert!(matches!(Expected::AnotherTrace.judge(&one, Some(&one)), Shown::Nothing(_)));
        assert!(!is_found(Expected::AnotherTrace, &one));
    }
}
