//! What differs between runs: settings, and confusion matrices.

use std::fmt::Write as _;

use super::plot::{self, Cell, escape};
use super::{MOST_CLASSES, Plot, Run};
use crate::run::Config;
use crate::run::evaluate::Evaluation;

/// The settings of a run with all defaults, as keys and values in TOML.
fn settings(run: &Run) -> toml::Table {
    let complete = Config::of_run(&run.config, &run.path).and_then(|config| config.to_toml());
    complete.unwrap_or_else(|_| run.config.clone()).parse().unwrap_or_default()
}

/// A table of the settings that differ, one row per key; those that are equal are folded away.
pub fn settings_table(runs: &[Run]) -> String {
    let tables: Vec<toml::Table> = runs.iter().map(settings).collect();
    let mut keys: Vec<&String> = tables.iter().flat_map(toml::Table::keys).collect();
    keys.sort();
    keys.dedup();
    let text = |table: &toml::Table, key: &str| match table.get(key) {
        None => "–".to_owned(),
        Some(toml::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let (mut rows, mut equal) = (String::new(), String::new());
    let mut row = |key: &str, values: &[String]| {
        let cells: String = values.iter().map(|value| format!("<td>{}</td>", escape(value))).collect();
        let _ = writeln!(rows, "<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(key));
    };
    row("folder", &runs.iter().map(|run| run.path.display().to_string()).collect::<Vec<_>>());
    let inputs: Vec<String> = runs.iter().map(|run| run.input.clone()).collect();
    if inputs.iter().any(|input| *input != inputs[0]) {
        row("input", &inputs);
    }
    let mut same = 0;
    for key in keys {
        if tables.iter().all(|table| table.get(key) == tables[0].get(key)) {
            let _ = writeln!(equal, "{key} = {}", tables[0][key]);
            same += 1;
        } else {
            row(key, &tables.iter().map(|table| text(table, key)).collect::<Vec<_>>());
        }
    }
    let heads: String = runs.iter().map(|run| format!("<th>{}</th>", escape(&run.name))).collect();
    format!(
        "<section><h2>Settings that differ</h2>\n<div class=\"scroll\"><table class=\"settings\"><thead><tr><th></th>{heads}\
         </tr></thead><tbody>\n{rows}</tbody></table></div>\n<details><summary>{same} settings are equal</summary>\n\
         <pre>{}</pre></details></section>\n",
        escape(equal.trim())
    )
}

/// How the confusion of each run differs from that of the first, where both have the same classes.
pub fn confusions(runs: &[Run]) -> Vec<(String, Plot)> {
    let Some((first, base)) = runs.first().and_then(|run| Some((run, run.tested.as_ref()?))) else { return Vec::new() };
    let mut found = Vec::new();
    for run in &runs[1..] {
        let Some(tested) = run.tested.as_ref().filter(|tested| tested.classes == base.classes) else { continue };
        let title = format!("{} against {}", run.name, first.name);
        let changes = changes(&tested.classes, &base.evaluation, &tested.evaluation, [&first.name, &run.name]);
        let svg = match tested.classes.len() {
            0..=MOST_CLASSES => difference(&title, &tested.classes, &base.evaluation, &tested.evaluation),
            _ => String::new(),
        };
        found.push((changes, Plot { file: format!("{}-against-{}", run.name, first.name), svg }));
    }
    found
}

/// The section about confusions; empty for a single run or without tests.
pub fn confusion_section(runs: &[Run]) -> String {
    let found = confusions(runs);
    if found.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<section><h2>Confusions compared</h2>\n<p>Per true class, the change in percentage points of the share that is \
         taken for each class. <b class=\"better\">Better</b>: more on the diagonal, less beside it; <b \
         class=\"worse\">worse</b> the other way round.</p>\n",
    );
    for (changes, Plot { svg, .. }) in found {
        let figure = if svg.is_empty() { String::new() } else { format!("<figure>{svg}</figure>") };
        let _ = writeln!(html, "<div class=\"plots\">{figure}<div>{changes}</div></div>");
    }
    html + "</section>\n"
}

/// Shares of a row in per cent.
fn share(evaluation: &Evaluation, row: usize, column: usize) -> f64 {
    let counts = &evaluation.confusion[row];
    100.0 * counts[column] as f64 / counts.iter().sum::<u64>().max(1) as f64
}

/// The matrix of the changes of shares, rows true, columns predicted.
fn difference(title: &str, names: &[String], from: &Evaluation, to: &Evaluation) -> String {
    plot::matrix(title, names, 3, |row, column| {
        let (before, after) = (share(from, row, column), share(to, row, column));
        let change = after - before;
        let kind = if (change > 0.0) == (row == column) { "right" } else { "wrong" };
        let text = format!("{change:+.0}");
        let is_none = matches!(text.as_str(), "+0" | "-0");
        Cell {
            tooltip: format!("{before:.1}% before, {after:.1}% after"),
            text,
            fill: (!is_none).then(|| (kind, (change.abs() / 60.0).min(1.0).sqrt())),
            dark: change.abs() > 40.0,
        }
    })
}

/// A table of the largest changes.
fn changes(names: &[String], from: &Evaluation, to: &Evaluation, runs: [&String; 2]) -> String {
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for row in 0..names.len() {
        for column in 0..names.len() {
            all.push((share(to, row, column) - share(from, row, column), row, column));
        }
    }
    all.retain(|(change, ..)| change.abs() >= 0.05);
    all.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    if all.is_empty() {
        return "<p>No change.</p>".into();
    }
    let mut html = format!(
        "<div class=\"scroll\"><table><thead><tr><th>true class</th><th>taken for</th><th class=\"n\">{}</th><th \
         class=\"n\">{}</th><th class=\"n\">points</th></tr></thead><tbody>\n",
        escape(runs[0]),
        escape(runs[1])
    );
    for (change, row, column) in all.into_iter().take(10) {
        let class = if (change > 0.0) == (row == column) { "better" } else { "worse" };
        let taken_for = if row == column { "itself".into() } else { escape(&names[column]) };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{taken_for}</td><td class=\"n\">{:.1}%</td><td class=\"n\">{:.1}%</td><td class=\"n {class}\">\
             {change:+.1}</td></tr>",
            escape(&names[row]),
            share(from, row, column),
            share(to, row, column)
        );
    }
    html + "</tbody></table></div>"
}

/// The training loss of logged steps over each other, if any run has them.
pub fn step_curves(runs: &[Run]) -> Option<Plot> {
    let curve = |(colour, run): (usize, &Run)| plot::Curve {
        name: run.name.clone(),
        colour,
        dashed: false,
        points: thin(run.steps.iter().map(|record| (record.step as f64, record.loss)).collect()),
    };
    let curves: Vec<_> = runs.iter().enumerate().filter(|(_, run)| run.steps.len() > 1).map(curve).collect();
    let svg = plot::curves_over("step", "Training loss per step", &curves, false, false);
    (!curves.is_empty()).then(|| Plot { file: "step-loss".into(), svg })
}

/// At most this many points of a curve; more cannot be told apart.
const MOST_POINTS: usize = 300;

/// The means of groups of neighbouring points.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let sum = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::test::Tested;
    use crate::run::metrics::StepRecord;

    fn run(name: &str, config: &str, confusion: &[[u64; 2]; 2]) -> Run {
        let confusion: Vec<Vec<u64>> = confusion.iter().map(|row| row.to_vec()).collect();
        let images = confusion.iter().flatten().sum::<u64>() as usize;
        Run {
            name: name.into(),
            path: format!("runs/{name}").into(),
            records: Vec::new(),
            steps: Vec::new(),
            config: config.into(),
            network: String::new(),
            input: String::new(),
            filters: None,
            tested: Some(Tested {
                dataset: "pets".into(),
                images: "test images".into(),
                classes: vec!["cat".into(), "<dog>".into()],
                evaluation: Evaluation { loss: 1.0, images, confusion, within_five: 0 },
                mistakes: Vec::new(),
            }),
        }
    }

    #[test]
    fn only_what_differs_has_a_row() {
        let one = run("one", "lr = 0.01\nseed = 1\n", &[[1, 0], [0, 1]]);
        let two = run("two", "lr = 0.05\nval = 40\nseed = 1\nepochs = 100\n", &[[1, 0], [0, 1]]);
        let html = settings_table(&[one, two]);
        let (table, equal) = html.split_once("<details>").unwrap();
        assert!(table.contains("<tr><th scope=\"row\">lr</th><td>0.01</td><td>0.05</td></tr>"), "{table}");
        assert!(table.contains("<tr><th scope=\"row\">val</th><td>–</td><td>40</td></tr>"), "{table}");
        assert!(table.contains("<td>runs/one</td><td>runs/two</td>"));
        assert_eq!(table.matches("<tr>").count(), 4, "head, folder, lr, val: {table}");
        // A key that only one file names, with the default's value, is equal.
        assert!(equal.contains("epochs = 100") && equal.contains("seed = 1") && !equal.contains("lr ="), "{equal}");
    }

    #[test]
    fn changes_are_of_shares_and_told_apart() {
        // Twice as many cats in the second test: 50 % → 75 %; dogs 80 % → 40 %.
        let one = run("one", "", &[[5, 5], [2, 8]]);
        let two = run("two", "", &[[15, 5], [6, 4]]);
        let html = confusion_section(&[one, two]);
        for part in [
            "aria-label=\"two against one\"",
            "cat taken for cat: 50.0% before, 75.0% after",
            ">+25</text>",
            ">-40</text>",
            "<td>&lt;dog&gt;</td><td>itself</td><td class=\"n\">80.0%</td><td class=\"n\">40.0%</td><td class=\"n worse\">-40.0",
            "<td>cat</td><td>itself</td><td class=\"n\">50.0%</td><td class=\"n\">75.0%</td><td class=\"n better\">+25.0",
            "<td>cat</td><td>&lt;dog&gt;</td><td class=\"n\">50.0%</td><td class=\"n\">25.0%</td><td class=\"n better\">-25.0",
        ] {
            assert!(html.contains(part), "no `{part}` in {html}");
        }
        assert!(!html.contains("<dog>"));
        let alone = run("one", "", &[[5, 5], [2, 8]]);
        assert!(confusion_section(&[alone]).is_empty());
        let same = [run("one", "", &[[5, 5], [2, 8]]), run("two", "", &[[5, 5], [2, 8]])];
        assert!(confusion_section(&same).contains("No change."));
        let mut other = run("two", "", &[[5, 5], [2, 8]]);
        other.tested.as_mut().unwrap().classes[0] = "cow".into();
        assert!(confusion_section(&[run("one", "", &[[5, 5], [2, 8]]), other]).is_empty());
    }

    #[test]
    fn many_steps_are_thinned() {
        let mut long = run("long", "", &[[1, 0], [0, 1]]);
        long.steps =
            (1..=1000).map(|step| StepRecord { step, epoch: 1, lr: 0.1, loss: 2.0 - step as f64 / 1000.0 }).collect();
        let points = thin(long.steps.iter().map(|record| (record.step as f64, record.loss)).collect());
        assert_eq!((points.len(), points[0].0), (250, 2.5));
        let plot = step_curves(&[run("none", "", &[[1, 0], [0, 1]]), long]).unwrap();
        assert!(
            plot.svg.contains(">step</text>")
                && plot.svg.contains("class=\"c1\"")
                && !plot.svg.contains("class=\"c0\"")
        );
        assert!(step_curves(&[run("none", "", &[[1, 0], [0, 1]])]).is_none());
    }
}
