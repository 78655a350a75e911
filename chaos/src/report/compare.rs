//! Two runs side by side: one page, and the same tables as Markdown. Pure.

use std::fmt::Write;

use super::page::html::{badge, document, duration, escape, thousands};
use super::page::{Answers, Figures, Unavailability, figures, rates, whole};
use super::recorded::Recorded;

/// Quantiles shown, in thousandths.
const QUANTILES: [(usize, &str); 3] = [(500, "median"), (990, "p99"), (1000, "longest")];

/// One table, for either form.
struct Table {
    title: &'static str,
    text: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The pair of runs.
pub(super) struct Comparison<'a> {
    pub first: &'a Recorded,
    pub second: &'a Recorded,
}

impl Comparison<'_> {
    /// Returns the page.
    pub(super) fn html(&self) -> String {
        let (first, second) = self.names();
        let title = format!("{first} beside {second}");
        let verdicts =
            self.both().map(|(name, run)| format!("{} {}", badge(run.conclusion.mark), escape(&name)));
        let mut body = format!(
            "<main>\n<header>\n<p class=\"kicker\">keelson chaos</p>\n<h1>{}</h1>\n<p class=\"hint\">{}</p>\n{}</header>\n\
             <section>\n<h2>Answers per second</h2>\n<p class=\"keys\"><span class=\"key a\">{}</span><span class=\"key b\">{}</span> \
             shaded: faults of the first</p>\n{}</section>\n",
            verdicts.join(" &nbsp; "),
            escape(&self.difference()),
            self.both().map(|(_, run)| reproduce(run)).concat(),
            escape(&first),
            escape(&second),
            rates(self.first, self.second),
        );
        for table in self.tables() {
            body.push_str(&table.html());
        }
        body.push_str("</main>");
        document(&title, &body, "")
    }

    /// Returns the tables as Markdown.
    pub(super) fn markdown(&self) -> String {
        let (first, second) = self.names();
        let mut text = format!("# {first} beside {second}\n\n{}\n\n", self.difference());
        for (_, run) in self.both() {
            let _ = writeln!(text, "    {}", run.reproduce);
        }
        for table in self.tables() {
            text.push_str(&table.markdown());
        }
        text
    }

    /// What the runs are called: by their program, or by their folder when that is the same.
    fn names(&self) -> (String, String) {
        let program = |run: &Recorded| {
            let path = run.flag("binary").or(run.flag("endpoints")).unwrap_or(&run.name);
            path.rsplit('/').next().unwrap_or_default().to_owned()
        };
        let (first, second) = (program(self.first), program(self.second));
        if first == second { (self.first.name.clone(), self.second.name.clone()) } else { (first, second) }
    }

    fn both(&self) -> [(String, &Recorded); 2] {
        let (first, second) = self.names();
        [(first, self.first), (second, self.second)]
    }

    /// Says whether the two were asked for the same.
    fn difference(&self) -> String {
        let flags = [
            "workload",
            "nemesis",
            "members",
            "time-limit",
            "nemesis-interval",
            "rate",
            "concurrency",
            "seed",
        ];
        let differing: Vec<&str> =
            flags.into_iter().filter(|flag| self.first.flag(flag) != self.second.flag(flag)).collect();
        if differing.is_empty() {
            "Same workload, faults, members and seed: equal operations are asked and equal faults injected, at the same times. Which \
             member leads differs."
                .to_owned()
        } else {
            format!("The runs differ in {}: figures cannot be set against each other.", differing.join(", "))
        }
    }

    fn tables(&self) -> [Table; 3] {
        [self.totals(), self.phases(), self.faults()]
    }

    fn totals(&self) -> Table {
        let (first, second) = self.names();
        let column = |run: &Recorded| {
            let figures = whole(run);
            let mut column = vec![
                run.conclusion.mark.word().to_owned(),
                thousands(figures.ok),
                thousands(figures.info),
                thousands(figures.fail),
                format!("{:.1}", figures.rate),
            ];
            column.extend(QUANTILES.map(|(thousandths, _)| figures.latency(thousandths)));
            column.push(format!("{} of {}", run.witnessed(), run.faults.len()));
            column
        };
        let names = ["verdict", "ok", "info: may have happened", "fail: did not happen", "ok per second"];
        let names = names.map(ToOwned::to_owned).into_iter();
        let names = names.chain(QUANTILES.map(|(_, name)| format!("latency of ok, {name}")));
        let names = names.chain(["faults with witness".to_owned()]);
        let rows = names.zip(column(self.first)).zip(column(self.second));
        Table {
            title: "The whole run",
            text: "",
            head: vec![String::new(), first, second],
            rows: rows.map(|((name, first), second)| vec![name, first, second]).collect(),
        }
    }

    fn phases(&self) -> Table {
        let (first, second) = self.names();
        let of_second = figures(self.second);
        let rows = figures(self.first).into_iter().map(|figures| {
            let other = of_second.iter().find(|other| other.phase == figures.phase);
            let cells = |figures: Option<&Figures>| match figures {
                Some(figures) => [format!("{:.1}", figures.rate), figures.latency(500), figures.latency(990)],
                None => ["–".to_owned(), "–".to_owned(), "–".to_owned()],
            };
            let name = figures.phase.clone();
            std::iter::once(name).chain(cells(Some(&figures))).chain(cells(other)).collect()
        });
        let columns = ["ok/s", "median", "p99"];
        let head =
            [&first, &second].into_iter().flat_map(|run| columns.map(|column| format!("{run} {column}")));
        Table {
            title: "Around faults",
            text: "An operation belongs to the moment in which it was asked.",
            head: std::iter::once(String::new()).chain(head).collect(),
            rows: rows.collect(),
        }
    }

    fn faults(&self) -> Table {
        let (first, second) = self.names();
        let count = self.first.faults.len().max(self.second.faults.len());
        let both = [self.first, self.second].map(|run| (Answers::of(run), &run.faults));
        let rows = (0..count).map(|place| {
            let faults = both.each_ref().map(|(answers, faults)| (answers, faults.get(place)));
            let kind = faults.iter().find_map(|(_, fault)| fault.map(|fault| fault.kind.clone()));
            let mut row = vec![format!("{} {}", place + 1, kind.unwrap_or_default())];
            for (answers, fault) in faults {
                row.extend(match fault {
                    Some(fault) => {
                        let Unavailability { first_success, silence } = answers.unavailability(fault);
                        let leader = if fault.is_on_leader { " (leader)" } else { "" };
                        [
                            format!("{}{leader}", fault.node),
                            first_success.map_or_else(|| "no answer".to_owned(), duration),
                            duration(silence),
                        ]
                    }
                    None => ["–".to_owned(), "–".to_owned(), "–".to_owned()],
                });
            }
            row
        });
        let columns = ["hit", "unavailable", "silence"];
        let head =
            [&first, &second].into_iter().flat_map(|run| columns.map(|column| format!("{run} {column}")));
        Table {
            title: "Every fault",
            text: "Unavailable: from the fault to the first answer to something asked after it. Silence: the longest time without any \
                   answer that began while it lasted.",
            head: std::iter::once(String::new()).chain(head).collect(),
            rows: rows.collect(),
        }
    }
}

impl Table {
    fn html(&self) -> String {
        let head: String = self.head.iter().map(|cell| format!("<th>{}</th>", escape(cell))).collect();
        let mut html = format!(
            "<section>\n<h2>{}</h2>\n<p class=\"hint\">{}</p>\n<div class=\"wide\"><table class=\"numbers\">\n<tr>{head}</tr>\n",
            self.title, self.text
        );
        for row in &self.rows {
            let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            let _ = writeln!(html, "<tr>{cells}</tr>");
        }
        html.push_str("</table></div>\n</section>\n");
        html
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule: String = self.head.iter().map(|_| "|---").collect();
        let text = if self.text.is_empty() { String::new() } else { format!("{}\n\n", self.text) };
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("\n## {}\n\n{text}{}{rule}|\n{rows}", self.title, line(&self.head))
    }
}

fn reproduce(run: &Recorded) -> String {
    format!("<div class=\"reproduce\"><code>{}</code></div>\n", escape(&run.reproduce))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn both_runs_stand_in_every_row_and_table() {
        let first = example::run();
        let mut second = example::run();
        second.reproduce = second.reproduce.replace("/opt/keelson", "/usr/bin/etcd");
        second.faults.pop();
        let comparison = Comparison { first: &first, second: &second };
        let text = comparison.markdown();
        assert!(text.starts_with("# keelson beside etcd\n\nSame workload"));
        assert!(text.contains("| verdict | fail | fail |\n"));
        assert!(text.contains("| 1 flood | n1 (leader) | 946 ms | 946 ms | n1 (leader) | 946 ms | 946 ms |"));
        assert!(text.contains("| 2 kill | n2 |") && text.contains("| – | – | – |"));
        for line in text.lines().filter(|line| line.starts_with('|')) {
            assert!([4, 8].contains(&line.matches('|').count()), "{line}");
        }
        let html = comparison.html();
        assert_eq!(html.matches("<section>").count(), 4);
        assert_eq!(html.matches("class=\"badge fail\"").count(), 2);
        assert!(html.contains("class=\"line a\"") && html.contains("class=\"line b\""));
    }

    #[test]
    fn runs_that_were_asked_for_something_else_are_not_set_against_each_other() {
        let first = example::run();
        let mut second = example::run();
        second.name = "other".to_owned();
        second.reproduce = second.reproduce.replace("--seed 5", "--seed 6");
        let text = Comparison { first: &first, second: &second }.markdown();
        assert!(text.starts_with("# example beside other\n\nThe runs differ in seed:"), "{text}");
    }
}
