//! The page of one run. Pure: from what was recorded to HTML with drawings in it.
//!
//! All drawings share one time axis, so that what happened at one moment stands in one column.

mod axis;
pub(super) mod html;

mod coverage;
mod phases;
mod plots;
mod strips;
mod timeline;
mod verdict;

pub(super) use phases::{Answers, Figures, Unavailability, phases as figures, whole};
pub(super) use plots::rates;

use self::html::{document, escape};
use super::recorded::{Mark, Recorded};

/// Returns the page.
pub(super) fn page(run: &Recorded) -> String {
    let timeline = timeline::Timeline::of(run);
    let drawings = section(
        "Through time",
        "Shaded: a fault lasts. Point at a drawing to read all of them at one moment.",
        &[strips::faults(run), plots::latency(run), plots::rate(run), strips::members(run)],
    );
    // Next to the verdict stands what shows it.
    let (second, third) = match run.conclusion.mark {
        Mark::Fail => (timeline.html(run), drawings),
        Mark::Pass | Mark::Invalid | Mark::Unfinished => (drawings, timeline.html(run)),
    };
    let sections = [
        verdict::head(run, &timeline),
        second,
        third,
        section("Before, during and after faults", phases::TEXT, &[phases::table(run), phases::faults(run)]),
        section("Coverage", "What was done, and what was looked at.", &[coverage::boxes(run)]),
        verdict::foot(run),
    ];
    let title = format!("{} · {}", run.conclusion.mark.word().to_uppercase(), run.name);
    document(&title, &format!("<main>\n{}</main>", sections.concat()), include_str!("script.js"))
}

fn section(title: &str, text: &str, parts: &[String]) -> String {
    format!(
        "<section>\n<h2>{}</h2>\n<p class=\"hint\">{}</p>\n{}</section>\n",
        escape(title),
        escape(text),
        parts.concat()
    )
}

#[cfg(test)]
mod tests;
