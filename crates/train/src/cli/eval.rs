//! `alexnet eval`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::dataset::{self, Choice, Scored};
use super::model::{DeviceArgs, ExifArgs, LoadedCheckpoint};
use super::{hint, output};
use crate::data::{self, Role};
use crate::print::{cut, pad, pad_start, prefix, terminal, visible, widest};
use crate::run::checkpoint::Metadata;
use crate::run::classifier::architecture_of;
use crate::run::config::{self, Config};
use crate::run::evaluate::Evaluation;
use crate::run::{Tta, summary};

/// Evaluate a network on test images
///
/// Prints loss, accuracy, balanced accuracy, macro-averaged F1, accuracy per class and the confusion matrix. Of folders of
/// pictures only the one that is evaluated is read; classes are matched by name, and some of the network's may have no
/// pictures.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder (its best.safetensors) or checkpoint file
    ///
    /// best.safetensors is the state with the best accuracy on the validation images, or the test images where there are
    /// none; before the first epoch is done, last.safetensors is taken.
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    path: PathBuf,
    /// auto, cifar10, sample or a folder [default: the run's data]
    ///
    /// A folder needs no training pictures: DIR/test/CLASS/, DIR/val/CLASS/, or DIR/CLASS/.
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// Images to evaluate [default: test, else val]
    #[arg(long)]
    split: Option<Role>,
    #[command(flatten)]
    exif: ExifArgs,
    /// Use only N images, spread over the set [default: all]
    #[arg(long, value_name = "N")]
    limit_test: Option<usize>,
    /// Leave broken pictures out, and name them
    #[arg(long)]
    skip_broken: bool,
    /// Images per batch; the results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 128)]
    batch_size: usize,
    /// Average the logits of several views of each image [default: the run's]
    ///
    /// Test-time augmentation; costs one forward pass per view. Plain --tta means --tta=mirror.
    #[arg(long, value_name = "VIEWS", num_args = 0..=1, require_equals = true, default_missing_value = "mirror")]
    tta: Option<Tta>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print one JSON object
    ///
    /// Keys: loss, accuracy, balanced_accuracy, macro_f1, top5_accuracy (null with fewer than 10 classes), per_class,
    /// confusion (rows true, columns predicted), images, classes, dataset, split (train, val, test or null), broken
    /// (number of pictures left out), tta.
    #[arg(long)]
    json: bool,
}

/// Evaluates.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let limits = Config { limit_test: args.limit_test, ..args.device.limits(args.batch_size)? };
    limits.validate(&config::flag)?;
    let loaded = LoadedCheckpoint::new(&args.path)?;
    let (metadata, path) = (loaded.metadata(), &loaded.path);
    let (image_size, resize) = (architecture_of(metadata, path)?.image_size, metadata.preprocess.resize);
    let exif = args.exif.of(metadata);
    let options = data::Options { image_size, resize, exif, ..hint::data_options() };
    let choice =
        Choice { data: args.data.as_deref(), role: args.split, limit: args.limit_test, skip_broken: args.skip_broken };
    let scored = dataset::scored(&choice, &loaded, &options)?;

    let mut classifier = loaded.classifier(&args.device, args.batch_size)?;
    let tta = args.tta.unwrap_or(classifier.tta);
    classifier.tta = tta;
    let evaluation = classifier.evaluate(&scored.split, limits.thread_count(), &mut |_| ())?;
    match args.json {
        true => output::print(json(&evaluation, &scored, metadata, tta)?.as_bytes())?,
        false => {
            output::print_text(&text(&evaluation, path, metadata, &scored, tta, terminal().unwrap_or(100)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(evaluation: &Evaluation, scored: &Scored, metadata: &Metadata, tta: Tta) -> anyhow::Result<String> {
    let object = serde_json::json!({
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy(),
        "balanced_accuracy": evaluation.balanced_accuracy(),
        "macro_f1": evaluation.macro_f1(),
        "top5_accuracy": evaluation.top5(),
        "per_class": evaluation.per_class(),
        "confusion": evaluation.confusion,
        "images": evaluation.images,
        "classes": metadata.classes,
        "dataset": scored.name,
        "split": scored.role.map(Role::word),
        "broken": scored.broken.len(),
        "tta": tta,
    });
    Ok(format!("{object}\n"))
}

/// The result for people, in lines of up to `width` columns.
fn text(evaluation: &Evaluation, path: &Path, metadata: &Metadata, scored: &Scored, tta: Tta, width: usize) -> String {
    let mut out = String::new();
    let progress = &metadata.progress;
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "{}: {}, after {} and {}",
        visible(&path.to_string_lossy()),
        metadata.model.variant,
        summary::count(progress.epoch, "epoch"),
        summary::count(progress.step as usize, "step")
    );
    let _ = writeln!(
        out,
        "{} {} of {}{}: Loss={:.4}, Acc={:.2}%",
        evaluation.images,
        scored.images(),
        visible(&scored.name),
        tta.label(),
        evaluation.loss,
        evaluation.accuracy() * 100.0
    );
    let top5 = evaluation.top5().map_or_else(String::new, |share| format!(", Top-5 Acc={:.2}%", share * 100.0));
    let (balanced, f1) = (evaluation.balanced_accuracy() * 100.0, evaluation.macro_f1());
    let _ = writeln!(out, "Balanced Acc={balanced:.2}%, Macro F1={f1:.4}{top5}\n");
    let names: Vec<String> = metadata.classes.iter().map(|name| visible(name).into_owned()).collect();
    let label = widest(names.iter().map(String::as_str)).min(20);
    for ((name, row), (class, share)) in
        names.iter().zip(&evaluation.confusion).zip(evaluation.per_class().into_iter().enumerate())
    {
        let share = share.map_or("    -  ".into(), |share| format!("{:6.2}%", share * 100.0));
        let _ =
            writeln!(out, "{}  {share}  {} of {}", pad(&cut(name, label), label), row[class], row.iter().sum::<u64>());
    }
    out.push('\n');
    out += &confusion(evaluation, &names, label, width);
    out
}

/// The matrix if it fits, else the pairs of classes that are confused most.
fn confusion(evaluation: &Evaluation, names: &[String], label: usize, width: usize) -> String {
    let matrix = &evaluation.confusion;
    let digits = matrix.iter().flatten().max().map_or(1, |most| most.to_string().len());
    let cell = digits.max(4);
    let mut out = String::new();
    if label + names.len() * (cell + 1) <= width {
        out += "Confusion (rows true, columns predicted)\n";
        let _ = write!(out, "{:label$}", "");
        for name in names {
            let _ = write!(out, " {}", pad_start(prefix(name, cell), cell));
        }
        out.push('\n');
        for (name, row) in names.iter().zip(matrix) {
            out += &pad(&cut(name, label), label);
            for count in row {
                let _ = write!(out, " {count:>cell$}");
            }
            out.push('\n');
        }
        return out;
    }
    out += "Most frequent confusions (--json has the whole matrix)\n";
    for (count, class, other) in evaluation.pairs().into_iter().take(20) {
        let _ =
            writeln!(out, "{count:>digits$} × {} taken for {}", cut(&names[class], label), cut(&names[other], label));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::columns;

    fn evaluation(classes: usize) -> Evaluation {
        let confusion = (0..classes).map(|i| (0..classes).map(|j| ((i * 7 + j * 3) % 11) as u64).collect()).collect();
        Evaluation { loss: 1.5, images: 9, confusion, within_five: 3 }
    }

    #[test]
    fn the_matrix_fits_or_gives_way() {
        let names: Vec<String> = (0..10).map(|i| format!("class number {i}")).collect();
        let wide = confusion(&evaluation(10), &names, 14, 100);
        assert!(wide.starts_with("Confusion") && wide.lines().count() == 12, "{wide}");
        assert!(wide.lines().all(|line| line.chars().count() <= 100));
        let narrow = confusion(&evaluation(10), &names, 14, 40);
        assert!(narrow.starts_with("Most frequent") && narrow.lines().count() == 21, "{narrow}");
        assert_eq!(narrow.lines().nth(1).unwrap(), "10 × class number 0 taken for class number 7");
        let fruit = confusion(&evaluation(3), &["apfel", "my pear", "橙子"].map(String::from), 7, 80);
        let ends: Vec<usize> = fruit.lines().skip(1).map(columns).collect();
        assert_eq!(ends, [22; 4], "{fruit}");
    }
}
