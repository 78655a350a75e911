//! Plots as SVG text: lines over two logarithmic axes. Pure.

/// Points of one line.
pub(super) struct Line {
    pub name: &'static str,
    /// Both positive.
    pub points: Vec<(f64, f64)>,
}

/// What the plot is called and what its axes show.
pub(super) struct Titles {
    pub title: &'static str,
    pub horizontal: &'static str,
    pub vertical: &'static str,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Room for the axes' numbers on the left and below, and for the lines' names on the right.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart by people who do not see all colours (Okabe and Ito, 2008).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// Powers of ten that hold all numbers, at least one decade.
#[derive(Clone, Copy)]
struct Axis {
    lowest: f64,
    highest: f64,
}

impl Axis {
    fn over(numbers: impl Iterator<Item = f64> + Clone) -> Self {
        let lowest = numbers.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let highest = numbers.fold(0.0, f64::max).log10().ceil();
        Self { lowest, highest: highest.max(lowest + 1.0) }
    }

    /// 0 for the lowest number, 1 for the highest.
    fn place(self, number: f64) -> f64 {
        (number.log10() - self.lowest) / (self.highest - self.lowest)
    }

    /// Every power of ten.
    fn marks(self) -> impl Iterator<Item = f64> {
        let mut exponent = self.lowest;
        std::iter::from_fn(move || {
            let mark = (exponent <= self.highest).then(|| 10_f64.powf(exponent));
            exponent += 1.0;
            mark
        })
    }
}

/// Returns a whole SVG document; `None` without any point.
pub(super) fn svg(titles: &Titles, lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    points().next()?;
    let (across, up) =
        (Axis::over(points().map(|(across, _)| across)), Axis::over(points().map(|(_, up)| up)));
    let x = |number: f64| LEFT + across.place(number) * (WIDTH - LEFT - RIGHT);
    let y = |number: f64| HEIGHT - BOTTOM - up.place(number) * (HEIGHT - TOP - BOTTOM);
    let mut parts = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">"
        ),
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>".to_owned(),
        format!("<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>", titles.title),
        format!("<text x=\"{LEFT}\" y=\"{}\">{}</text>", HEIGHT - 12.0, titles.horizontal),
        format!(
            "<text transform=\"translate(16 {}) rotate(-90)\">{}</text>",
            HEIGHT - BOTTOM,
            titles.vertical
        ),
    ];
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for mark in across.marks() {
        let x = x(mark);
        parts.push(format!("<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>"));
        parts.push(format!(
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            shown(mark)
        ));
    }
    for mark in up.marks() {
        let y = y(mark);
        parts.push(format!("<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>"));
        parts.push(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            shown(mark)
        ));
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let places: Vec<String> =
            line.points.iter().map(|(across, up)| format!("{:.1},{:.1}", x(*across), y(*up))).collect();
        parts.push(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            places.join(" ")
        ));
        for (across, up) in &line.points {
            parts.push(format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*across),
                y(*up)
            ));
        }
        if let Some((_, last)) = line.points.last() {
            parts.push(format!(
                "<text x=\"{}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
                right + 8.0,
                y(*last) + 4.0,
                line.name
            ));
        }
    }
    parts.push("</svg>\n".to_owned());
    Some(parts.join("\n"))
}

/// A power of ten as people write it.
fn shown(mark: f64) -> String {
    match mark {
        mark if mark >= 1e6 => format!("{:.0} M", mark / 1e6),
        mark if mark >= 1e3 => format!("{:.0} k", mark / 1e3),
        mark if mark >= 1.0 => format!("{mark:.0}"),
        mark => format!("{mark}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_factors_are_equal_distances() {
        let axis = Axis::over([20.0, 90_000.0].into_iter());
        assert_eq!((axis.lowest, axis.highest), (1.0, 5.0));
        assert!((axis.place(1000.0) - 0.5).abs() < 1e-9);
        assert_eq!(axis.marks().map(shown).collect::<Vec<_>>(), ["10", "100", "1 k", "10 k", "100 k"]);
    }

    #[test]
    fn every_line_has_its_points_and_its_name() {
        let titles = Titles { title: "t", horizontal: "h", vertical: "v" };
        let line = |name| Line { name, points: vec![(10.0, 1.0), (100.0, 10.0)] };
        let svg = svg(&titles, &[line("put"), line("get")]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains(">put</text>") && svg.contains(">get</text>"));
        assert!(super::svg(&titles, &[]).is_none());
    }
}
