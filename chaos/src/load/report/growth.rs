//! The section on growth, and its plot.

use super::PLOT;
use super::plot::{Line, Titles, svg};
use crate::load::figure::titled;
use crate::load::growth::{Look, Question};
use crate::load::sample::float;

pub(super) fn lines(looks: &[Look]) -> Vec<String> {
    let mut lines = vec![
        "## Growth".to_owned(),
        String::new(),
        "One member of Keelson's store, filled with more and more keys of 64 bytes with values of 64 bytes, asked by 16 clients: \
         processor time of the member for one operation. Memory is without pages of files."
            .to_owned(),
        String::new(),
        format!("![Processor time of one operation as the store grows]({PLOT})"),
        String::new(),
    ];
    let mut headings = vec!["keys".to_owned()];
    headings.extend(Question::ALL.map(|question| format!("{}, µs", question.name())));
    headings.extend(["memory, MB".to_owned(), "bytes of memory per key".to_owned()]);
    let rows = looks.iter().map(|look| {
        let mut row = vec![look.keys.to_string()];
        row.extend(look.cpu_us.iter().map(|cpu| format!("{cpu:.0}")));
        row.push(format!("{:.0}", float(look.memory_bytes) / 1e6));
        row.push(format!("{:.0}", float(look.memory_bytes) / float(look.keys)));
        row
    });
    lines.extend(titled("Processor time per operation", &headings, rows.collect()));
    lines
}

pub(super) fn plot(looks: &[Look]) -> Option<String> {
    let titles = Titles {
        title: "Processor time of one operation as the store grows",
        horizontal: "keys in the store",
        vertical: "microseconds",
    };
    let line = |(number, question): (usize, Question)| Line {
        name: question.name(),
        points: looks
            .iter()
            .filter_map(|look| Some((float(look.keys), *look.cpu_us.get(number)?)))
            .filter(|(_, cpu)| *cpu > 0.0)
            .collect(),
    };
    svg(&titles, &Question::ALL.into_iter().enumerate().map(line).collect::<Vec<_>>())
}
