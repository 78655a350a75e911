//! The index over all runs of a folder. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::page::html::{badge, document, escape, thousands};
use super::recorded::Mark;
use super::summary::Summary;

/// Days drawn.
const DAYS_MAX: usize = 60;
/// The drawing of the trend, in its own units.
const BAR: f64 = 16.0;
const HEIGHT: f64 = 90.0;

/// Returns the page; runs come newest first.
pub(super) fn index(title: &str, summaries: &[Summary]) -> String {
    let mut sorted: Vec<&Summary> = summaries.iter().collect();
    sorted.sort_by(|left, right| right.started.cmp(&left.started).then_with(|| left.place.cmp(&right.place)));
    let mut rows = String::new();
    for summary in sorted {
        let _ = writeln!(rows, "<tr>{}</tr>", row(summary));
    }
    let body = format!(
        "<main>\n<header>\n<p class=\"kicker\">keelson chaos</p>\n<h1>{}</h1>\n<p class=\"facts\">{}</p>\n</header>\n{}<section>\n\
         <h2>Runs</h2>\n<div class=\"wide\"><table class=\"numbers runs\">\n<tr><th>verdict</th><th>run</th><th>workload</th>\
         <th>faults</th><th>members</th><th>seed</th><th>operations</th><th>with witness</th><th>seconds</th><th>began</th></tr>\n\
         {rows}</table></div>\n</section>\n</main>",
        escape(title),
        facts(summaries),
        trend(summaries),
    );
    document(title, &body, "")
}

fn row(summary: &Summary) -> String {
    let why = if summary.why.is_empty() {
        String::new()
    } else {
        format!("<br><span class=\"hint\">{}</span>", escape(&summary.why))
    };
    format!(
        "<td>{}</td><td><a href=\"{}/report.html\">{}</a>{why}</td><td>{}</td><td>{}</td><td>{} × {}</td><td>{}</td><td>{}</td>\
         <td>{} of {}</td><td>{}</td><td class=\"moment\">{}</td>",
        badge(summary.verdict),
        escape(&address(&summary.place)),
        escape(&summary.place),
        escape(&summary.workload),
        escape(&summary.nemesis.replace(',', ", ")),
        escape(&summary.members),
        escape(&summary.binary),
        escape(&summary.seed),
        thousands(usize::try_from(summary.operations).unwrap_or(usize::MAX)),
        summary.faults_with_witness,
        summary.faults,
        summary.seconds,
        escape(&summary.started.replace('T', " ").replace('Z', "")),
    )
}

/// A relative path as an address: a folder may be called anything.
fn address(path: &str) -> String {
    let mut address = String::from("./");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                address.push(char::from(byte));
            }
            byte => {
                let _ = write!(address, "%{byte:02X}");
            }
        }
    }
    address
}

fn facts(summaries: &[Summary]) -> String {
    let count = |mark| summaries.iter().filter(|summary| summary.verdict == mark).count();
    let operations: u64 = summaries.iter().map(|summary| summary.operations).sum();
    let faults: usize = summaries.iter().map(|summary| summary.faults_with_witness).sum();
    let mut facts = vec![("runs".to_owned(), thousands(summaries.len()))];
    for mark in [Mark::Pass, Mark::Fail, Mark::Invalid, Mark::Unfinished] {
        if count(mark) > 0 {
            facts.push((mark.word().to_owned(), thousands(count(mark))));
        }
    }
    facts.push(("operations".to_owned(), thousands(usize::try_from(operations).unwrap_or(usize::MAX))));
    facts.push(("faults with witness".to_owned(), thousands(faults)));
    let facts: Vec<String> =
        facts.into_iter().map(|(name, value)| format!("<span><b>{name}</b> {value}</span>")).collect();
    facts.join("\n")
}

/// Operations of each day, by verdict.
fn trend(summaries: &[Summary]) -> String {
    let mut days: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for summary in summaries {
        let day = summary.started.get(..10).unwrap_or("unknown");
        let [pass, fail, other] = days.entry(day).or_default();
        match summary.verdict {
            Mark::Pass => *pass += summary.operations,
            Mark::Fail => *fail += summary.operations,
            Mark::Invalid | Mark::Unfinished => *other += summary.operations,
        }
    }
    let most = days.values().map(|counts| counts.iter().sum::<u64>()).max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let skipped = days.len().saturating_sub(DAYS_MAX);
    let height = |count: u64| share(count, most) * HEIGHT;
    let (mut bars, mut x) = (String::new(), 0.0);
    for (day, counts) in days.iter().skip(skipped) {
        let sum: u64 = counts.iter().sum();
        let _ = write!(bars, "<g><title>{}: {sum} operations</title>", escape(day));
        let mut y = HEIGHT;
        for (count, class) in counts.iter().zip(["pass", "fail", "invalid"]) {
            y -= height(*count);
            let _ = write!(
                bars,
                "<rect class=\"day {class}\" x=\"{x}\" y=\"{y:.1}\" width=\"{}\" height=\"{:.1}\"/>",
                BAR - 3.0,
                height(*count)
            );
        }
        bars.push_str("</g>\n");
        x += BAR;
    }
    let (first, last) = (days.keys().nth(skipped).unwrap_or(&""), days.keys().next_back().unwrap_or(&""));
    format!(
        "<section>\n<h2>Operations per day</h2>\n<p class=\"hint\">{} to {}, at most {} on one day</p>\n\
         <svg viewBox=\"0 0 {} {HEIGHT}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"operations per day\">\n{bars}</svg>\n</section>\n",
        escape(first),
        escape(last),
        thousands(usize::try_from(most).unwrap_or(usize::MAX)),
        x.max(BAR),
    )
}

fn share(count: u64, most: u64) -> f64 {
    // Thousandths are finer than a pixel of the drawing.
    let thousandths = count.saturating_mul(1000) / most.max(1);
    u32::try_from(thousandths).map_or(1.0, f64::from) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(place: &str, started: &str, verdict: Mark, operations: u64) -> Summary {
        Summary {
            place: place.to_owned(),
            started: started.to_owned(),
            verdict,
            operations,
            ..Summary::default()
        }
    }

    #[test]
    fn runs_come_newest_first_and_days_are_summed() {
        let runs = [
            summary("old", "2026-11-01T10:00:00Z", Mark::Pass, 10),
            summary("new", "2026-11-02T10:00:00Z", Mark::Fail, 20),
            summary("newer", "2026-11-02T11:00:00Z", Mark::Invalid, 5),
        ];
        let html = index("runs", &runs);
        let place = |name: &str| html.find(&format!("<a href=\"./{name}/report.html\">")).unwrap();
        assert!(place("newer") < place("new") && place("new") < place("old"));
        assert_eq!(html.matches("<title>2026-11-0").count(), 2);
        assert!(html.contains("2026-11-02: 25 operations"));
        assert!(html.contains("<b>operations</b> 35"));
    }

    #[test]
    fn names_of_folders_are_neither_markup_nor_addresses() {
        let runs = [summary("a\"><script>b", "2026-11-01T10:00:00Z", Mark::Pass, 1)];
        let html = index("runs", &runs);
        assert!(!html.contains("<script"));
        assert!(html.contains("href=\"./a%22%3E%3Cscript%3Eb/report.html\""));
        assert_eq!(address("javascript:x"), "./javascript%3Ax");
    }

    #[test]
    fn a_folder_without_runs_has_an_index() {
        assert!(index("runs", &[]).contains("<b>runs</b> 0"));
    }
}
