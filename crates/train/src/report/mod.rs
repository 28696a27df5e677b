//! The report about runs: one self-contained HTML page, and its plots as SVG.

pub mod compare;
pub mod plot;
pub mod test;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::picture::Picture;
use crate::run::metrics::{Record, StepRecord};
use crate::run::summary::grouped;
use plot::{Curve, escape};
use test::Tested;

const PAGE_STYLE: &str = include_str!("page.css");
/// With more classes there is no confusion matrix, and bars for the worst classes only.
const MOST_CLASSES: usize = 40;

/// Everything the report shows about a run.
pub struct Run {
    /// Name of the folder.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// One record per epoch.
    pub records: Vec<Record>,
    /// The records of logged steps.
    pub steps: Vec<StepRecord>,
    /// The settings, as TOML without their heading.
    pub config: String,
    /// One line about the network.
    pub network: String,
    /// How pictures become its input.
    pub input: String,
    /// First-layer filters.
    pub filters: Option<Picture>,
    /// The evaluation of the test images, unless it was left out.
    pub tested: Option<Tested>,
}

/// `val` or `test`: what the run's epochs are judged by.
fn judged_by(run: &Run) -> &'static str {
    if run.records.iter().any(|record| record.selection_metric().0 == "val") { "val" } else { "test" }
}

/// A plot and its file name without extension.
pub struct Plot {
    /// Such as `loss`.
    pub file: String,
    /// The drawing.
    pub svg: String,
}

/// Plots of the training curves; all runs share each plot.
pub fn curves(runs: &[Run]) -> Vec<Plot> {
    type Value = fn(&Record) -> f64;
    // File, title, per cent, from zero, curves: their names, values and whether they are dashed.
    type Kind = (&'static str, &'static str, bool, bool, &'static [(&'static str, Value, bool)]);
    let kinds: [Kind; 4] = [
        (
            "loss",
            "Loss",
            false,
            false,
            &[("test", |r| r.selection_metric().1, false), ("training", |r| r.train_loss, true)],
        ),
        (
            "accuracy",
            "Accuracy",
            true,
            false,
            &[("test", |r| r.selection_metric().2, false), ("training", |r| r.train_acc, true)],
        ),
        ("learning-rate", "Learning rate", false, true, &[("", |r| r.lr, false)]),
        ("throughput", "Training images per second", false, true, &[("", |r| r.images_per_s, false)]),
    ];
    let mut plots: Vec<Plot> = kinds
        .map(|(file, title, percent, zero, values)| {
            let mut drawn = Vec::new();
            for (colour, run) in runs.iter().enumerate() {
                for &(what, value, dashed) in values {
                    let points = run.records.iter().map(|record| (record.epoch as f64, value(record)));
                    // Epochs without an evaluation are left out, so that the curve has no gaps.
                    let points = points.filter(|(_, value)| !value.is_nan()).collect();
                    // With --val the curve is that of the held-out images.
                    let what = if what == "test" { judged_by(run) } else { what };
                    drawn.push(Curve {
                        name: format!("{} {what}", run.name).trim_end().into(),
                        colour,
                        dashed,
                        points,
                    });
                }
            }
            let solid: BTreeSet<&str> = runs.iter().map(judged_by).collect();
            let solid = solid.into_iter().collect::<Vec<_>>().join(" or ");
            let title =
                if values.len() > 1 { format!("{title} (solid {solid}, dashed training)") } else { title.into() };
            Plot { file: file.into(), svg: plot::curves(&title, &drawn, percent, zero) }
        })
        .into();
    plots.extend(compare::step_curves(runs));
    plots
}

/// Plots of one run's evaluation: accuracy per class, and the confusion matrix unless there are too many classes.
pub fn test_plots(run: &Run) -> Vec<Plot> {
    let Some(tested) = &run.tested else { return Vec::new() };
    let row = |(class, share): (usize, Option<f64>)| {
        let counts = &tested.evaluation.confusion[class];
        (tested.classes[class].clone(), share, format!("{} of {}", counts[class], counts.iter().sum::<u64>()))
    };
    let mut rows: Vec<_> = tested.evaluation.per_class().into_iter().enumerate().map(row).collect();
    let mut title = "Accuracy per class";
    if rows.len() > MOST_CLASSES {
        title = "The classes with the lowest accuracy";
        rows.retain(|(_, share, _)| share.is_some());
        rows.sort_by(|a, b| a.1.unwrap_or(1.0).total_cmp(&b.1.unwrap_or(1.0)));
        rows.truncate(MOST_CLASSES);
    }
    let mut plots = vec![Plot { file: format!("{}-classes", run.name), svg: plot::bars(title, &rows) }];
    if tested.classes.len() <= MOST_CLASSES {
        let svg = plot::confusion("Confusion", &tested.classes, &tested.evaluation.confusion);
        plots.push(Plot { file: format!("{}-confusion", run.name), svg });
    }
    plots
}

/// The whole page.
pub fn page(runs: &[Run]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let title = escape(&names.join(", "));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} – alexnet report</title>\n<style>\n{}{PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        plot::STYLE
    );
    html += &table(runs);
    if runs.len() > 1 {
        html += &compare::settings_table(runs);
    }
    html += "<section><h2>Training</h2>\n";
    if runs.len() > 1 {
        html += "<p class=\"legend\">";
        for (colour, run) in runs.iter().enumerate() {
            let colour = colour % plot::COLOURS;
            let _ = write!(html, "<span><i style=\"background:var(--c{colour})\"></i>{}</span> ", escape(&run.name));
        }
        html += "</p>\n";
    }
    html += "<div class=\"plots\">\n";
    for plot in curves(runs) {
        let _ = writeln!(html, "<figure>{}</figure>", plot.svg);
    }
    html += "</div></section>\n";
    // Of several runs, each kind of section side by side where the window is wide enough.
    let of = |run: &Run| if runs.len() > 1 { format!(" of {}", escape(&run.name)) } else { String::new() };
    html += &beside(runs.iter().map(|run| tested_section(run, &of(run))));
    html += &compare::confusion_section(runs);
    html += &beside(runs.iter().map(|run| mistakes_section(run, &of(run))));
    html += &beside(runs.iter().map(|run| filters_section(run, &of(run))));
    if let [run] = runs {
        let _ = writeln!(
            html,
            "<section><h2>Configuration</h2>\n<p>{}</p>\n<p>Input: {}</p>\n<pre>{}</pre></section>",
            escape(&run.path.display().to_string()),
            escape(&run.input),
            escape(run.config.trim())
        );
    }
    html + "</main>\n</body>\n</html>\n"
}

/// One row per run: accuracy, loss, epochs, speed.
fn table(runs: &[Run]) -> String {
    let mut html = String::from(
        "<div class=\"scroll\"><table><thead><tr><th>run</th><th class=\"n\">best accuracy</th>\
         <th class=\"n\">lowest loss</th><th>on</th><th class=\"n\">epochs</th><th class=\"n\">img/s</th><th>network</th>\
         <th>data</th></tr></thead><tbody>\n",
    );
    for run in runs {
        let best = run.records.iter().map(|r| r.selection_metric().2).fold(f64::NAN, f64::max);
        let loss = run.records.iter().map(|r| r.selection_metric().1).fold(f64::NAN, f64::min);
        let mut rates: Vec<f64> = run.records.iter().map(|r| r.images_per_s).collect();
        rates.sort_by(f64::total_cmp);
        let known = |value: f64, text: String| if value.is_finite() { text } else { "-".into() };
        let rate = rates.get(rates.len() / 2).map_or("-".into(), |rate| format!("{rate:.0}"));
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{rate}</td>\
             <td>{}</td><td>{}</td></tr>",
            escape(&run.name),
            known(best, format!("{:.2}%", best * 100.0)),
            known(loss, format!("{loss:.4}")),
            judged_by(run),
            run.records.len(),
            escape(&run.network),
            escape(run.records.last().map_or("-", |record| &record.dataset)),
        );
    }
    html + "</tbody></table></div>\n"
}

/// Sections in columns, or one below the other on a narrow screen.
fn beside(sections: impl Iterator<Item = String>) -> String {
    let all: String = sections.collect();
    if all.is_empty() { all } else { format!("<div class=\"runs\">\n{all}</div>\n") }
}

fn tested_section(run: &Run, of: &str) -> String {
    let mut html = String::new();
    if let Some(tested) = &run.tested {
        let _ = writeln!(
            html,
            "<section><h2>Test{of}</h2>\n<p>{} {} of {}: {:.2}% correct, loss {:.4}; balanced accuracy {:.2}%, macro F1 {:.4}{}.</p>\n<div class=\"plots\">",
            grouped(tested.evaluation.images as u64),
            tested.images,
            escape(&tested.dataset),
            tested.evaluation.accuracy() * 100.0,
            tested.evaluation.loss,
            tested.evaluation.balanced_accuracy() * 100.0,
            tested.evaluation.macro_f1(),
            tested
                .evaluation
                .top5()
                .map_or_else(String::new, |share| format!(", top-5 accuracy {:.2}%", share * 100.0)),
        );
        for plot in test_plots(run) {
            let _ = writeln!(html, "<figure>{}</figure>", plot.svg);
        }
        html += "</div>\n";
        if tested.classes.len() > MOST_CLASSES {
            html += &pairs(tested);
        }
        html += "</section>\n";
    }
    html
}

fn mistakes_section(run: &Run, of: &str) -> String {
    let mut html = String::new();
    if let Some(tested) = run.tested.as_ref().filter(|tested| !tested.mistakes.is_empty()) {
        let _ = writeln!(
            html,
            "<section><h2>Most confident mistakes{of}</h2>\n<p>Misclassified {}, the most \
                 confident first.</p>\n<ul class=\"mistakes\">",
            tested.images
        );
        for mistake in &tested.mistakes {
            let _ = writeln!(
                html,
                "<li><img alt=\"{0}\" src=\"{2}\"><b>{1} {3:.1}%</b><span>is {0} ({4:.1}%)</span></li>",
                escape(&tested.classes[mistake.class]),
                escape(&tested.classes[mistake.taken_for]),
                mistake.picture.url(),
                mistake.confidence * 100.0,
                mistake.own * 100.0
            );
        }
        html += "</ul></section>\n";
    }
    html
}

fn filters_section(run: &Run, of: &str) -> String {
    let mut html = String::new();
    if let Some(filters) = &run.filters {
        let _ = writeln!(
            html,
            "<section><h2>First-layer filters{of}</h2>\n<p>The weights of the first convolution as RGB, each filter \
             scaled to its own range.</p>\n<img class=\"filters\" width=\"{}\" alt=\"first-layer filters\" src=\"{}\"></section>",
            filters.width(),
            filters.url()
        );
    }
    html
}

/// The pairs of classes that are confused most, in place of a matrix.
fn pairs(tested: &Tested) -> String {
    let mut html = String::from(
        "<table><thead><tr><th class=\"n\">images</th><th>are</th><th>taken for</th></tr></thead><tbody>\n",
    );
    for (count, class, other) in tested.evaluation.pairs().into_iter().take(20) {
        let (class, other) = (escape(&tested.classes[class]), escape(&tested.classes[other]));
        let _ = writeln!(html, "<tr><td class=\"n\">{count}</td><td>{class}</td><td>{other}</td></tr>");
    }
    html + "</tbody></table>\n"
}
