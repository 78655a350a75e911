//! One figure of every side: a row of a table, with its ratio to the better peer and what is aimed at. Pure.

use super::contestant::{Contestant, Role};

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    More,
    Less,
}

/// With whom a figure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// The better of the peers.
    Peers,
    /// The empty service.
    Limit,
    /// Nobody: the aim is for the figure itself. Tables show its ratio to the better peer.
    Itself,
}

/// What a figure says, and what its ratio (ours to the other's) should be, or the figure itself.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    /// With its unit.
    pub name: &'static str,
    pub decimals: usize,
    pub better: Better,
    pub against: Against,
    /// At least, where more is better; at most, where less is.
    pub aim: Option<f64>,
}

/// One side's value in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Its place in the list of contestants.
    pub side: usize,
    pub kind: &'static Kind,
    pub value: f64,
}

/// Median, smallest and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    /// `None` for no numbers. The median of an even count is the mean of the middle two.
    pub(super) fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (lowest, highest) = (*numbers.first()?, *numbers.last()?);
        let upper = *numbers.get(numbers.len() / 2)?;
        let lower = *numbers.get((numbers.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), lowest, highest })
    }

    pub(super) fn shown(self, decimals: usize) -> String {
        let Self { median, lowest, highest } = self;
        if lowest.total_cmp(&highest).is_eq() {
            return format!("{median:.decimals$}");
        }
        format!("{median:.decimals$} ({lowest:.decimals$}–{highest:.decimals$})")
    }
}

/// What stands in a cell that nobody measured.
pub(super) fn absent() -> String {
    "not measured".to_owned()
}

/// Returns a table with a row for every kind and a column for every side.
pub(super) fn table(title: &str, contestants: &[Contestant], readings: &[Reading]) -> Vec<String> {
    let mut headings = vec!["figure".to_owned()];
    headings.extend(contestants.iter().map(|side| side.name.clone()));
    headings.push("Keelson / better etcd".to_owned());
    let rows = kinds(readings).into_iter().map(|kind| {
        let mut row = vec![kind.name.to_owned()];
        let shown = |side| values(readings, kind, side).map(|spread| spread.shown(kind.decimals));
        row.extend((0..contestants.len()).map(|side| shown(side).unwrap_or_else(absent)));
        row.push(
            ratio(contestants, readings, kind).map_or_else(absent, |(ratio, _)| format!("**{ratio:.2}**")),
        );
        row
    });
    titled(title, &headings, rows.collect())
}

/// Returns a table of all kinds with an aim: what is aimed at and what was reached.
pub(super) fn aims(contestants: &[Contestant], readings: &[Reading]) -> Vec<String> {
    let headings = ["figure", "Keelson", "beside", "ratio", "aim", "reached"].map(str::to_owned);
    let rows = kinds(readings).into_iter().filter_map(|kind| {
        let aim = kind.aim?;
        let ours = values(readings, kind, 0).map_or_else(absent, |spread| spread.shown(kind.decimals));
        let mut row = vec![kind.name.to_owned(), ours];
        let reached = |found: f64| if kind.better.is_reached(found, aim) { "yes" } else { "no" }.to_owned();
        let itself = values(readings, kind, 0).filter(|_| kind.against == Against::Itself);
        if let Some(Spread { median, .. }) = itself {
            row.extend(["itself".to_owned(), String::new(), kind.better.aim(aim), reached(median)]);
            return Some(row);
        }
        match ratio(contestants, readings, kind) {
            Some((ratio, side)) => {
                let other =
                    values(readings, kind, side).map_or_else(absent, |spread| spread.shown(kind.decimals));
                let name = contestants.get(side).map_or("", |side| &side.name);
                row.push(format!("{other}, {name}"));
                row.push(format!("**{ratio:.2}**"));
                row.push(kind.better.aim(aim));
                row.push(reached(ratio));
            }
            None => row.extend([absent(), absent(), kind.better.aim(aim), absent()]),
        }
        Some(row)
    });
    titled("Aims", &headings, rows.collect())
}

impl Better {
    fn aim(self, ratio: f64) -> String {
        let sign = match self {
            Self::More => "≥",
            Self::Less => "≤",
        };
        format!("{sign} {ratio:.2}")
    }

    fn is_reached(self, ratio: f64, aim: f64) -> bool {
        match self {
            Self::More => ratio >= aim,
            Self::Less => ratio <= aim,
        }
    }
}

/// All kinds in the order in which they come.
fn kinds(readings: &[Reading]) -> Vec<&'static Kind> {
    let mut kinds: Vec<&'static Kind> = Vec::new();
    for reading in readings {
        if kinds.iter().all(|kind| *kind != reading.kind) {
            kinds.push(reading.kind);
        }
    }
    kinds
}

fn values(readings: &[Reading], kind: &Kind, side: usize) -> Option<Spread> {
    let of_side = readings.iter().filter(|reading| reading.side == side && reading.kind == kind);
    Spread::of(of_side.map(|reading| reading.value).collect())
}

/// Ours to the other's, and who that is: of several peers the better one.
fn ratio(contestants: &[Contestant], readings: &[Reading], kind: &Kind) -> Option<(f64, usize)> {
    let ours = values(readings, kind, 0)?.median;
    let role = match kind.against {
        Against::Peers | Against::Itself => Role::Peer,
        Against::Limit => Role::Limit,
    };
    let others = contestants.iter().enumerate().filter(|(_, side)| side.role == role);
    let others = others.filter_map(|(side, _)| Some((values(readings, kind, side)?.median, side)));
    let best = match kind.better {
        Better::More => others.max_by(|one, other| one.0.total_cmp(&other.0)),
        Better::Less => others.min_by(|one, other| one.0.total_cmp(&other.0)),
    };
    best.map(|(other, side)| (ours / other, side))
}

/// A table under a heading.
pub(super) fn titled(title: &str, headings: &[String], rows: Vec<Vec<String>>) -> Vec<String> {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut lines = vec![format!("### {title}"), String::new(), line(headings)];
    lines.push(format!("|{}", "---|".repeat(headings.len())));
    lines.extend(rows.iter().map(|row| line(row)));
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Program;

    const RATE: Kind =
        Kind { name: "puts/s", decimals: 0, better: Better::More, against: Against::Peers, aim: Some(2.5) };
    const TIME: Kind =
        Kind { name: "start, s", decimals: 1, better: Better::Less, against: Against::Peers, aim: Some(0.5) };

    fn sides() -> Vec<Contestant> {
        let side = |name: &str, role| {
            let program = Program::new(std::path::Path::new("/usr/bin/etcd"));
            Contestant { name: name.to_owned(), role, program }
        };
        vec![side("Keelson", Role::Ours), side("etcd 1", Role::Peer), side("etcd 2", Role::Peer)]
    }

    fn reading(side: usize, kind: &'static Kind, value: f64) -> Reading {
        Reading { side, kind, value }
    }

    #[test]
    fn the_median_of_an_even_count_is_between_the_middle_two() {
        let seen = Spread::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(seen, Some(Spread { median: 2.5, lowest: 1.0, highest: 4.0 }));
        assert_eq!(Spread::of(vec![7.0]).map(|spread| spread.shown(1)), Some("7.0".to_owned()));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn the_better_peer_is_the_one_that_counts() {
        let readings = [
            reading(0, &RATE, 100.0),
            reading(1, &RATE, 20.0),
            reading(2, &RATE, 50.0),
            reading(0, &TIME, 1.0),
            reading(1, &TIME, 2.5),
            reading(2, &TIME, 4.0),
        ];
        let aims = aims(&sides(), &readings);
        assert_eq!(aims[4], "| puts/s | 100 | 50, etcd 2 | **2.00** | ≥ 2.50 | no |");
        assert_eq!(aims[5], "| start, s | 1.0 | 2.5, etcd 1 | **0.40** | ≤ 0.50 | yes |");
        let table = table("Figures", &sides(), &readings);
        assert_eq!(table[4], "| puts/s | 100 | 20 | 50 | **2.00** |");
    }

    #[test]
    fn a_figure_that_is_aimed_at_itself_needs_nobody_beside_it() {
        const GAP: Kind = Kind { against: Against::Itself, aim: Some(600.0), decimals: 0, ..TIME };
        let aims_for = |ours| aims(&sides(), &[reading(0, &GAP, ours), reading(1, &GAP, 1.0)])[4].clone();
        assert_eq!(aims_for(28.0), "| start, s | 28 | itself |  | ≤ 600.00 | yes |");
        assert_eq!(aims_for(700.0), "| start, s | 700 | itself |  | ≤ 600.00 | no |");
        let table = table("Figures", &sides(), &[reading(0, &GAP, 28.0), reading(1, &GAP, 14.0)]);
        assert_eq!(table[4], "| start, s | 28 | 14 | not measured | **2.00** |");
    }

    #[test]
    fn a_side_that_was_not_measured_is_not_shown_as_zero() {
        let readings = [reading(0, &RATE, 100.0), reading(1, &RATE, 50.0), reading(0, &RATE, 300.0)];
        assert_eq!(
            table("Figures", &sides(), &readings)[4],
            "| puts/s | 200 (100–300) | 50 | not measured | **4.00** |"
        );
    }
}
