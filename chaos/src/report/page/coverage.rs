//! What was done and what was looked at: a run proves no more than this.

use std::fmt::Write;

use super::html::{escape, shorten, thousands};
use crate::report::recorded::Recorded;

const REMARK_LETTERS_MAX: usize = 200;

pub(super) fn boxes(run: &Recorded) -> String {
    let boxes = [operations(run), faults(run), checkers(run), counts(run), remarks(run)];
    format!("<div class=\"boxes\">\n{}</div>\n", boxes.concat())
}

fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return format!("<div class=\"box\"><h3>{title}</h3><p class=\"hint\">none</p></div>\n");
    }
    let mut html = format!("<div class=\"box\"><h3>{title}</h3><table class=\"numbers\">\n");
    if !head.is_empty() {
        let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
        let _ = writeln!(html, "<tr>{head}</tr>");
    }
    for row in rows {
        let mut cells = row.iter().map(|cell| escape(cell));
        let first = cells.next().unwrap_or_default();
        let others: String = cells.map(|cell| format!("<td>{cell}</td>")).collect();
        let _ = writeln!(html, "<tr><th>{first}</th>{others}</tr>");
    }
    html.push_str("</table></div>\n");
    html
}

fn operations(run: &Recorded) -> String {
    let mut rows = Vec::new();
    let mut all = [0; 3];
    for (f, counts) in run.by_function() {
        for (sum, count) in all.iter_mut().zip(counts) {
            *sum += count;
        }
        rows.push(row(f, counts));
    }
    if rows.len() > 1 {
        rows.push(row("all", all));
    }
    table("Operations", &["", "ok", "fail", "info"], &rows)
}

fn row(name: &str, counts: [usize; 3]) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(counts.map(thousands)).collect()
}

fn faults(run: &Recorded) -> String {
    let rows: Vec<Vec<String>> = run
        .kinds()
        .into_iter()
        .map(|kind| {
            let of_kind: Vec<_> = run.faults.iter().filter(|fault| fault.kind == kind).collect();
            let witnessed = of_kind.iter().filter(|fault| fault.witness.is_some()).count();
            let on_leader = of_kind.iter().filter(|fault| fault.is_on_leader).count();
            row(&kind, [of_kind.len(), witnessed, on_leader])
        })
        .collect();
    table("Faults", &["", "injected", "with witness", "on the leader"], &rows)
}

fn checkers(run: &Recorded) -> String {
    let rows = run.conclusion.checkers.iter();
    let rows: Vec<Vec<String>> = rows
        .map(|checker| vec![checker.name.clone(), checker.verdict().to_owned(), checker.scope.clone()])
        .collect();
    table("Checkers", &["", "verdict", "looked at"], &rows)
}

fn counts(run: &Recorded) -> String {
    let number = |count: u64| thousands(usize::try_from(count).unwrap_or(usize::MAX));
    let mut rows: Vec<Vec<String>> =
        run.conclusion.counts.iter().map(|(name, count)| vec![name.clone(), number(*count)]).collect();
    rows.extend(run.logs.iter().map(|(name, count)| vec![format!("log of {name}"), thousands(*count)]));
    table("Counted by the judge", &[], &rows)
}

fn remarks(run: &Recorded) -> String {
    let rows = run.remarks.iter().map(|remark| {
        let seconds = std::time::Duration::from_nanos(remark.time).as_secs_f64();
        vec![remark.f.clone(), format!("{seconds:.2} s"), shorten(&remark.text, REMARK_LETTERS_MAX)]
    });
    table("Recovery and audit", &[], &rows.collect::<Vec<_>>())
}
