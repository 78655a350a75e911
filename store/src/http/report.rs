//! The text of `/livez` and `/readyz`, as Kubernetes and etcd write it.

/// One check with what it found: the error is text for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) outcome: Result<(), String>,
}

/// Returns whether all checks passed, and the text to answer: short when they did, unless the caller wants all of it.
pub(super) fn report(checks: &[Check], is_verbose: bool) -> (bool, String) {
    let passed = checks.iter().all(|check| check.outcome.is_ok());
    let mut text = String::new();
    if is_verbose || !passed {
        for Check { name, outcome } in checks {
            text.push_str(&match outcome {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(why) => format!("[-]{name} failed: {why}\n"),
            });
        }
    }
    if passed {
        text.push_str("ok\n");
    }
    (passed, text)
}

/// Query parameters, as far as the checks need them: names and values without escapes.
pub(super) struct Query<'a>(pub(super) &'a str);

impl<'a> Query<'a> {
    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Returns whether the parameter is there, whatever it says.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs().any(|(found, _)| found == name)
    }

    pub(super) fn contains(&self, name: &str, value: &str) -> bool {
        self.pairs().any(|pair| pair == (name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(second: Result<(), &str>, is_verbose: bool, expected: (bool, &str)) {
        let checks = [
            Check { name: "a", outcome: Ok(()) },
            Check { name: "b", outcome: second.map_err(str::to_owned) },
        ];
        let (passed, text) = report(&checks, is_verbose);
        assert_eq!((passed, text.as_str()), expected);
    }

    #[test]
    fn a_report_is_short_when_all_is_well_and_whole_when_it_is_not() {
        check(Ok(()), false, (true, "ok\n"));
        check(Ok(()), true, (true, "[+]a ok\n[+]b ok\nok\n"));
        check(Err("why"), false, (false, "[+]a ok\n[-]b failed: why\n"));
    }

    #[test]
    fn queries_are_read_by_name_and_value() {
        let query = Query("verbose&exclude=NOSPACE&exclude=a");
        assert!(query.has("verbose") && !query.has("serializable"));
        assert!(query.contains("exclude", "NOSPACE") && query.contains("exclude", "a"));
        assert!(!query.contains("exclude", "b") && !Query("").has("verbose"));
    }
}
