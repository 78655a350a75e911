//! The structure of a page that is made from a small fixed run.

use std::collections::BTreeSet;

use super::*;
use crate::report::example;

/// The page's tags, in order, as a reader of HTML sees them: what stands in `script` and `style` is text.
fn tags(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        // No attribute of ours holds a bare `>`: they are escaped.
        let end = tag.find('>').expect("a tag that does not end");
        let (tag, after) = tag.split_at(end);
        tags.push(tag.to_owned());
        rest = &after[1..];
        let name = tag.split_whitespace().next().unwrap_or_default();
        if name == "script" || name == "style" {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).expect("a script that does not end")..];
        }
    }
    tags
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

fn count(tags: &[String], beginning: &str) -> usize {
    tags.iter().filter(|tag| tag.starts_with(beginning)).count()
}

#[test]
fn every_element_is_closed_in_its_turn() {
    let mut open: Vec<String> = Vec::new();
    for tag in tags(&page(&example::run())) {
        let name = tag.split_whitespace().next().unwrap_or_default().trim_end_matches('/').to_owned();
        if tag.ends_with('/') || ["!DOCTYPE", "meta"].contains(&name.as_str()) {
            continue;
        }
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn every_operation_has_a_bar_and_every_fault_a_place_in_each_drawing() {
    let run = example::run();
    let tags = tags(&page(&run));
    assert_eq!(count(&tags, "rect id=\"o"), run.operations.len());
    assert_eq!(count(&tags, "g class=\"fault"), run.faults.len());
    assert_eq!(count(&tags, "span class=\"fault"), run.faults.len());
    assert_eq!(count(&tags, "svg class=\"plot\""), 4);
    assert_eq!(count(&tags, "rect class=\"shade"), 4 * run.faults.len());
    let lanes = tags.iter().filter(|tag| tag.contains("unwitnessed")).count();
    assert_eq!(lanes, 2, "the kill left no witness");
}

#[test]
fn every_culprit_is_linked_and_every_link_leads_somewhere() {
    let run = example::run();
    let tags = tags(&page(&run));
    let ids: BTreeSet<&str> = tags.iter().filter_map(|tag| attribute(tag, "id")).collect();
    let links: BTreeSet<&str> =
        tags.iter().filter_map(|tag| attribute(tag, "href")?.strip_prefix('#')).collect();
    assert!(links.is_subset(&ids), "{links:?} {ids:?}");
    for culprit in run.culprits() {
        assert!(links.contains(format!("c{culprit}").as_str()), "the sentence names #{culprit}");
        assert!(links.contains(format!("o{culprit}").as_str()), "the timeline shows #{culprit}");
        let bar = tags.iter().find(|tag| attribute(tag, "id") == Some(&format!("o{culprit}"))).unwrap();
        assert!(bar.contains("culprit"));
    }
}

#[test]
fn what_was_said_does_not_run() {
    let html = page(&example::run());
    assert!(html.contains("alert(1)"), "the error is told");
    assert!(!html.contains(example::EVIL));
    assert!(!html.contains("<b>more"));
    // The page's own data and the page's own script, nothing else.
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(html.matches("</script").count(), 2);
}

#[test]
fn nothing_comes_from_elsewhere() {
    let html = page(&example::run());
    for tag in tags(&html) {
        assert!(attribute(&tag, "src").is_none() && !tag.starts_with("link"), "{tag}");
    }
    assert!(!html.contains("url(") && !html.contains("@import"));
    // The one address is a name that browsers know without asking for it.
    assert!(!html.replace("http://www.w3.org/2000/svg", "").contains("://"));
}

#[test]
fn the_command_that_repeats_the_run_comes_first_and_last() {
    let html = page(&example::run());
    let (first, last) = (html.find("--seed 5").unwrap(), html.rfind("--seed 5").unwrap());
    assert!(first < html.find("<h2>").unwrap() && html.rfind("</section>").unwrap() < last);
    assert_eq!(html.matches("class=\"copy\"").count(), 2);
}

#[test]
fn a_run_without_anything_has_a_page_too() {
    let html = page(&Recorded::default());
    assert!(html.contains("The run has not been judged."));
    let mut run = example::run();
    run.conclusion.mark = Mark::Invalid;
    run.conclusion.violations.clear();
    run.conclusion.reasons = vec!["only <2> operations".to_owned(), "no fault".to_owned()];
    let html = page(&run);
    assert!(
        html.contains("proves nothing: only &lt;2&gt; operations.") && html.contains("<li>no fault</li>")
    );
}
