//! Plots as SVG: curves, bars, a confusion matrix. Colours are CSS variables of `plot.css`, so that they follow the
//! browser's light or dark theme.

use std::fmt::Write as _;

use crate::print::{cut, widest};

/// The style sheet of all plots, in the page and in SVG files.
pub const STYLE: &str = include_str!("plot.css");
/// Number of colours in `plot.css`.
pub const COLOURS: usize = 8;

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Name in the tooltip.
    pub name: String,
    /// Index of the colour, modulo [`COLOURS`].
    pub colour: usize,
    /// Whether it is drawn dashed.
    pub dashed: bool,
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

/// Escapes `text` for HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // XML forbids control characters.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A plot as an SVG file; below curves of several runs stands a legend of their `names`.
pub fn standalone(svg: &str, names: &[&str]) -> String {
    let (open, rest) = svg.split_once('>').unwrap_or((svg, ""));
    let (mut open, mut rest) = (open.to_owned(), rest.trim_end().to_owned());
    if names.len() > 1 {
        let below = HEIGHT + 22.0 * names.len() as f64;
        open = open.replace(&format!(" {HEIGHT:.0}\""), &format!(" {below:.0}\""));
        rest.truncate(rest.strip_suffix("</svg>").map_or(rest.len(), str::len));
        for (colour, name) in names.iter().enumerate() {
            let y = HEIGHT + 22.0 * colour as f64;
            let _ = writeln!(
                rest,
                "<rect class=\"c{}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"12\" height=\"12\"/><text class=\"tick\" \
                 x=\"{:.0}\" y=\"{:.0}\">{}</text>",
                colour % COLOURS,
                LEFT + 20.0,
                y + 11.0,
                escape(name)
            );
        }
        rest += "</svg>";
    }
    format!(
        "{open} xmlns=\"http://www.w3.org/2000/svg\">\n<style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" \
         height=\"100%\"/>\n{rest}\n"
    )
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 310.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 40.0;

fn open(width: f64, height: f64, title: &str) -> String {
    let title = escape(title);
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <text class=\"title\" x=\"8\" y=\"20\">{title}</text>\n"
    )
}

/// Curves over epochs. `percent`: label the y axis in per cent; `zero`: start it at 0.
pub fn curves(title: &str, curves: &[Curve], percent: bool, zero: bool) -> String {
    curves_over("epoch", title, curves, percent, zero)
}

/// Curves over `axis`: epochs or steps.
pub fn curves_over(axis: &str, title: &str, curves: &[Curve], percent: bool, zero: bool) -> String {
    let mut svg = open(WIDTH, HEIGHT, title);
    let points = || curves.iter().flat_map(|curve| &curve.points).filter(|(x, y)| drawn(*x) && drawn(*y));
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        points().map(value).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
    };
    let ((x0, x1), (y0, y1)) = (bounds(|p| p.0), bounds(|p| p.1));
    if x0 > x1 {
        return svg + "<text class=\"tick\" x=\"240\" y=\"160\" text-anchor=\"middle\">no epochs yet</text>\n</svg>";
    }
    let ys = ticks(if zero { y0.min(0.0) } else { y0 }, y1, 5);
    let xs: Vec<f64> = ticks(x0, x1, 7).into_iter().filter(|x| x.fract() == 0.0 && (x0..=x1).contains(x)).collect();
    let (low, high) = (ys[0].min(y0), ys[ys.len() - 1].max(y1));
    let x = |value: f64| {
        if x1 > x0 { LEFT + (value - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT) } else { (LEFT + WIDTH - RIGHT) / 2.0 }
    };
    let y =
        |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low).max(f64::MIN_POSITIVE) * (HEIGHT - BOTTOM - TOP);
    for &tick in &ys {
        let (at, label) = (y(tick), if percent { format!("{}%", number(tick * 100.0)) } else { number(tick) });
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.0}\"/><text class=\"tick\" x=\"{:.0}\" y=\"{:.1}\" \
             text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 5.0
        );
    }
    for &tick in &xs {
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(tick),
            HEIGHT - BOTTOM + 18.0,
            number(tick)
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = writeln!(svg, "<text class=\"tick\" x=\"{middle}\" y=\"304\" text-anchor=\"middle\">{axis}</text>");
    for curve in curves {
        let class = format!("c{}{}", curve.colour % COLOURS, if curve.dashed { " dashed" } else { "" });
        let mut path = String::new();
        let mut pen = 'M';
        for &(px, py) in &curve.points {
            if drawn(px) && drawn(py) {
                let _ = write!(path, "{pen}{:.1} {:.1}", x(px), y(py));
                pen = 'L';
            } else {
                pen = 'M';
            }
        }
        let name = escape(&curve.name);
        let _ = writeln!(svg, "<g class=\"{class}\"><title>{name}</title><path class=\"line\" d=\"{path}\"/>");
        // Dots mark the values and carry the tooltips.
        if curve.points.len() <= 60 {
            for &(px, py) in curve.points.iter().filter(|(x, y)| drawn(*x) && drawn(*y)) {
                let value = if percent { format!("{:.2}%", py * 100.0) } else { number(py) };
                let _ = writeln!(
                    svg,
                    "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>{name}, {axis} {}: {value}</title></circle>",
                    x(px),
                    y(py),
                    number(px)
                );
            }
        }
        svg += "</g>\n";
    }
    svg + "</svg>"
}

/// Whether a coordinate has a place: neither NaN nor so large that the range of an axis is infinite.
fn drawn(value: f64) -> bool {
    value.abs() < 1e300
}

/// About `count` round numbers whose first and last enclose the range.
fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1e-6) };
    let raw = span / count as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&s| s >= raw).unwrap_or(raw);
    let first = (low / step).floor();
    let last = (high / step).ceil().max(first + 1.0);
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// Four significant digits without trailing zeros.
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if value.abs() < 1e-4 {
        let text = format!("{value:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let digits = (3 - value.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// Accuracy per class as bars: (name, accuracy, tooltip).
pub fn bars(title: &str, rows: &[(String, Option<f64>, String)]) -> String {
    const ROW: f64 = 26.0;
    let label = label_width(rows.iter().map(|(name, ..)| name.as_str()), 150.0);
    let height = 34.0 + rows.len() as f64 * ROW + 6.0;
    let mut svg = open(WIDTH, height, title);
    let most = WIDTH - label - 78.0;
    for (index, (name, share, of)) in rows.iter().enumerate() {
        let y = 34.0 + index as f64 * ROW;
        let share_text = share.map_or("-".into(), |share| format!("{:.1}%", share * 100.0));
        let width = most * share.unwrap_or(0.0);
        let _ = writeln!(
            svg,
            "<g><title>{}: {share_text}, {}</title><text class=\"tick\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}\
             </text><rect class=\"rail\" x=\"{label:.0}\" y=\"{:.0}\" width=\"{most:.0}\" height=\"16\" rx=\"3\"/>\
             <rect class=\"bar\" x=\"{label:.0}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"16\" rx=\"3\"/>\
             <text class=\"tick\" x=\"{:.0}\" y=\"{:.0}\">{share_text}</text></g>",
            escape(name),
            escape(of),
            label - 8.0,
            y + 16.0,
            escape(&cut(name, 18)),
            y + 3.0,
            y + 3.0,
            label + most + 8.0,
            y + 16.0
        );
    }
    svg + "</svg>"
}

/// A confusion matrix: rows true, columns predicted, coloured by share of the row.
pub fn confusion(title: &str, names: &[String], matrix: &[Vec<u64>]) -> String {
    self::matrix(title, names, 2, |row, column| {
        let (count, sum) = (matrix[row][column], matrix[row].iter().sum::<u64>().max(1));
        let share = count as f64 / sum as f64;
        Cell {
            tooltip: format!("{count} of {sum}"),
            text: count.to_string(),
            fill: Some((if row == column { "right" } else { "wrong" }, share.sqrt())),
            dark: share > 0.55,
        }
    })
}

/// A cell of a [`matrix`].
pub(super) struct Cell {
    /// What follows the names of the two classes in the tooltip.
    pub tooltip: String,
    /// The number in it, where cells are large enough.
    pub text: String,
    /// Class of its colour and opacity; none for an empty cell, which has no text either.
    pub fill: Option<(&'static str, f64)>,
    /// Whether the colour is so dark that the text is light.
    pub dark: bool,
}

/// A matrix over classes, rows true, columns predicted; cells have room for `digits` characters at least.
pub(super) fn matrix(title: &str, names: &[String], digits: usize, cell_of: impl Fn(usize, usize) -> Cell) -> String {
    let label = label_width(names.iter().map(String::as_str), 110.0);
    let n = names.len().max(1) as f64;
    let cell = ((WIDTH - label - 34.0) / n).min(60.0);
    let (left, top) = (label, 30.0 + label * 0.72);
    let mut svg = open(WIDTH, top + n * cell + 34.0, title);
    let small = if cell < 30.0 { " small" } else { "" };
    for row in 0..names.len() {
        let y = top + row as f64 * cell;
        let name = escape(&cut(&names[row], 13));
        let _ = writeln!(
            svg,
            "<text class=\"tick{small}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
             <text class=\"tick{small}\" transform=\"translate({:.1} {:.1}) rotate(-45)\">{name}</text>",
            left - 6.0,
            y + cell / 2.0 + 5.0,
            left + row as f64 * cell + cell / 2.0 + 4.0,
            top - 6.0
        );
        for column in 0..names.len() {
            let Cell { tooltip, text, fill, dark } = cell_of(row, column);
            let (x, over) = (left + column as f64 * cell, if dark { " over" } else { "" });
            let _ = write!(
                svg,
                "<g><title>{} taken for {}: {tooltip}</title><rect class=\"cell\" x=\"{x:.1}\" y=\"{y:.1}\" \
                 width=\"{cell:.1}\" height=\"{cell:.1}\"/>",
                escape(&names[row]),
                escape(&names[column])
            );
            if let Some((kind, opacity)) = fill {
                let _ = write!(
                    svg,
                    "<rect class=\"{kind}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell:.1}\" height=\"{cell:.1}\" \
                     fill-opacity=\"{opacity:.3}\"/>"
                );
                if names.len() <= 20 {
                    let size = (cell * 0.9 / text.len().max(digits) as f64 * 1.5).min(14.0);
                    let _ = write!(
                        svg,
                        "<text class=\"count{over}\" font-size=\"{size:.1}\" x=\"{:.1}\" y=\"{:.1}\" \
                         text-anchor=\"middle\">{text}</text>",
                        x + cell / 2.0,
                        y + cell / 2.0 + size * 0.35
                    );
                }
            }
            svg += "</g>\n";
        }
    }
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">rows: true class; columns: predicted</text>",
        left + n * cell / 2.0,
        top + n * cell + 24.0
    );
    svg + "</svg>"
}

fn label_width<'a>(names: impl Iterator<Item = &'a str>, most: f64) -> f64 {
    (widest(names) as f64 * 8.4 + 16.0).clamp(40.0, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_enclose_and_are_round() {
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        for (low, high) in [(0.3, 2.3), (0.01, 0.01), (0.0, 0.0), (-5.0, 1e6), (99.0, 101.0)] {
            let found = ticks(low, high, 5);
            assert!(found[0] <= low && *found.last().unwrap() >= high && found.len() < 12, "{low} {high}: {found:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.6000000000000001, 1200.0, 1.5e-7, 0.01, 38.214, 1e6].map(number);
        assert_eq!(texts, ["0", "0.6", "1200", "1.5e-7", "0.01", "38.21", "1000000"]);
    }

    #[test]
    fn values_beyond_the_range_of_an_axis_are_left_out() {
        let points = vec![(0.0, -1e308), (1.0, 2.0), (2.0, 1e308), (1e308, 1.0)];
        let svg = curves("range", &[Curve { name: "a".into(), colour: 0, dashed: false, points }], false, true);
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.matches("<circle").count() == 1, "{svg}");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let name = "</svg><script>\"'&\u{1}".to_string();
        let curve = Curve { name: name.clone(), colour: 9, dashed: true, points: vec![(1.0, f64::NAN), (2.0, 3.0)] };
        let matrix = vec![vec![1, 2], vec![0, 0]];
        for svg in [
            curves(&name, std::slice::from_ref(&curve), true, true),
            curves("none", &[], false, false),
            bars("b", &[(name.clone(), None, name.clone()), ("x".into(), Some(1.0), String::new())]),
            confusion("c", &[name.clone(), "b".into()], &matrix),
        ] {
            assert!(!svg.contains("<script") && !svg.contains("NaN") && !svg.contains('\u{1}'), "{svg}");
            assert_eq!((svg.matches("<svg").count(), svg.matches("</svg>").count()), (1, 1));
            let file = standalone(&svg, &[]);
            assert!(file.contains("xmlns=") && file.contains("<style>"));
        }
    }
}
