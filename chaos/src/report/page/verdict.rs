//! The verdict in one sentence, what shows it, and the command that repeats the run: first and last on the page.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::html::{badge, duration, escape, shorten, thousands};
use super::timeline::Timeline;
use crate::report::recorded::{Broken, Mark, Operation, Recorded};

/// Violations told in full.
const VIOLATIONS_MAX: usize = 20;
/// Letters of an answer in the table of culprits.
const ANSWER_LETTERS_MAX: usize = 600;

/// The top of the page.
pub(super) fn head(run: &Recorded, timeline: &Timeline<'_>) -> String {
    let mark = run.conclusion.mark;
    format!(
        "<header class=\"{}\">\n<p class=\"kicker\">keelson chaos · {}</p>\n<h1>{} {}</h1>\n<p class=\"facts\">{}</p>\n{}\
         </header>\n{}{}",
        mark.word(),
        escape(&run.name),
        badge(mark),
        sentence(run),
        facts(run),
        reproduce(run),
        culprits(run, timeline),
        others(run, timeline),
    )
}

/// The bottom of the page.
pub(super) fn foot(run: &Recorded) -> String {
    format!("<footer>\n{}</footer>\n", reproduce(run))
}

fn sentence(run: &Recorded) -> String {
    let conclusion = &run.conclusion;
    match conclusion.mark {
        Mark::Pass => {
            let (answered, faults) = (thousands(run.answered()), run.faults.len());
            format!("Every promise was kept: {answered} operations were answered through {faults} faults.")
        }
        Mark::Fail => {
            let first = conclusion.violations.first();
            first.map_or_else(|| "A promise was broken.".to_owned(), |broken| violation(run, broken))
        }
        Mark::Invalid => {
            let reason = conclusion.reasons.first().map(|reason| format!(": {}", escape(reason)));
            format!("The run proves nothing{}.", reason.unwrap_or_default())
        }
        Mark::Unfinished => "The run has not been judged.".to_owned(),
    }
}

fn violation(run: &Recorded, broken: &Broken) -> String {
    format!("<em>{}</em>: {}", escape(&broken.rule), linked(run, &broken.sentence))
}

/// Escapes a sentence, and links every operation that it names as `#index`.
fn linked(run: &Recorded, sentence: &str) -> String {
    let culprits = run.culprits();
    let mut parts = sentence.split('#');
    let mut html = escape(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        let (digits, rest) = part.split_at(end);
        match digits.parse::<u64>().ok().filter(|index| culprits.contains(index)) {
            Some(index) => {
                let _ = write!(html, "<a href=\"#c{index}\">#{index}</a>");
            }
            None => {
                let _ = write!(html, "#{}", escape(digits));
            }
        }
        html.push_str(&escape(rest));
    }
    html
}

fn facts(run: &Recorded) -> String {
    let flag = |name| run.flag(name).unwrap_or("?");
    let store = match run.flag("endpoints") {
        Some(endpoints) => ("endpoints", endpoints.to_owned()),
        None => {
            let binary = flag("binary").rsplit('/').next().unwrap_or("?");
            ("members", format!("{} × {binary}", flag("members")))
        }
    };
    let facts = [
        ("workload", flag("workload").to_owned()),
        ("faults", flag("nemesis").replace(',', ", ")),
        store,
        ("seed", flag("seed").to_owned()),
        ("lasted", duration(run.end())),
        ("began", run.started.clone()),
    ];
    let facts = facts.map(|(name, value)| format!("<span><b>{name}</b> {}</span>", escape(&value)));
    facts.join("\n")
}

fn reproduce(run: &Recorded) -> String {
    format!(
        "<div class=\"reproduce\"><code>{}</code><button type=\"button\" class=\"copy\">copy</button></div>\n",
        escape(&run.reproduce)
    )
}

/// All violations and reasons but the one in the heading, with the operations that show them.
fn others(run: &Recorded, timeline: &Timeline<'_>) -> String {
    let all = &run.conclusion.violations;
    let mut items: Vec<String> =
        all.iter().skip(1).take(VIOLATIONS_MAX).map(|broken| violation(run, broken)).collect();
    let reasons = run.conclusion.reasons.iter().skip(usize::from(run.conclusion.mark == Mark::Invalid));
    items.extend(reasons.map(|reason| escape(reason)));
    let left_out = all.len().saturating_sub(VIOLATIONS_MAX + 1);
    if left_out > 0 {
        items.push(format!("and {left_out} more in result.json"));
    }
    if items.is_empty() {
        return String::new();
    }
    let count = items.len();
    let items: String = items.iter().map(|item| format!("<li>{item}</li>\n")).collect();
    let first = all.first().map(|broken| broken.operations.as_slice()).unwrap_or_default();
    let rest = run.culprits().into_iter().filter(|index| !first.contains(index));
    format!(
        "<section>\n<details><summary>What else is wrong ({count})</summary>\n<ol>\n{items}</ol>\n{}</details>\n</section>\n",
        table(run, timeline, rest)
    )
}

/// The operations that the first violation names, in order.
fn culprits(run: &Recorded, timeline: &Timeline<'_>) -> String {
    let first = run.conclusion.violations.first().map(|broken| broken.operations.clone());
    let operations: BTreeSet<u64> = first.into_iter().flatten().collect();
    if operations.is_empty() {
        return String::new();
    }
    let table = table(run, timeline, operations.into_iter());
    format!("<section>\n<h2>The operations that show it</h2>\n{table}</section>\n")
}

fn table(run: &Recorded, timeline: &Timeline<'_>, indexes: impl Iterator<Item = u64>) -> String {
    let mut rows = String::new();
    for index in indexes {
        let operation = run.find(index);
        let _ = writeln!(
            rows,
            "<tr id=\"c{index}\">{}</tr>",
            operation.map_or_else(
                || format!("<td>#{index}</td><td colspan=\"7\">not an operation of this history</td>"),
                |operation| culprit(operation, timeline)
            )
        );
    }
    format!(
        "<div class=\"wide\"><table class=\"culprits\">\n<tr><th>operation</th><th>process</th><th>member</th><th>asked</th>\
         <th>answered</th><th>revision</th><th>from</th><th>to</th></tr>\n{rows}</table></div>\n"
    )
}

fn culprit(operation: &Operation, timeline: &Timeline<'_>) -> String {
    let index = operation.index;
    let name = if timeline.shows(index) {
        format!("<a href=\"#o{index}\">#{index}</a>")
    } else {
        format!("#{index}")
    };
    let asked = format!(
        "{} {} {}",
        operation.f,
        operation.key.as_deref().unwrap_or_default(),
        shorten(&operation.asked, ANSWER_LETTERS_MAX)
    );
    let answered = format!(
        "{} {}{}",
        operation.outcome(),
        shorten(&operation.answered, ANSWER_LETTERS_MAX),
        operation.error.as_deref().unwrap_or_default()
    );
    let revision = operation.revision.map(|revision| revision.to_string()).unwrap_or_default();
    let moment = |time| format!("{:.6} s", std::time::Duration::from_nanos(time).as_secs_f64());
    format!(
        "<td>{name}</td><td>{}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td><td>{revision}</td>\
         <td class=\"moment\">{}</td><td class=\"moment\">{}</td>",
        operation.process,
        escape(operation.node.as_deref().unwrap_or_default()),
        escape(&asked),
        escape(&answered),
        moment(operation.invoked_at),
        moment(operation.ended_at),
    )
}
