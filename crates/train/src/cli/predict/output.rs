//! How predictions are written: a table for people, CSV, JSON lines.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::print::{columns, csv, cut, cut_start, pad, visible, widest};
use crate::run::classifier::top;

/// The class of a picture whose most probable class is below the threshold.
const UNKNOWN: &str = "unknown";

/// Formats of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// RFC 4180, with a header
    Csv,
    /// One JSON object per picture and line
    Jsonl,
}

/// How results are written.
pub struct Output<'a> {
    format: Format,
    classes: &'a [String],
    /// The classes' names in the table.
    shown: Vec<Cow<'a, str>>,
    top: usize,
    threshold: Option<f64>,
    /// Columns for a path; none for a single picture, whose classes stand one below the other.
    path: Option<usize>,
    /// Columns for a class.
    class: usize,
    /// Whether longer paths are cut: on a terminal; elsewhere they push their line to the right.
    cut: bool,
}

impl<'a> Output<'a> {
    /// The widest column of paths.
    const PATH: usize = 48;
    /// The widest column of classes.
    const CLASS: usize = 80;
    /// The least that is left of a path, and of a class, when the terminal is narrow.
    const LEAST: usize = 12;

    /// The `most` probable classes of each of `images`, for a terminal of so many columns. Below a probability of
    /// `threshold` the class is `unknown`.
    pub fn new(
        format: Format,
        most: usize,
        threshold: Option<f64>,
        images: &[PathBuf],
        classes: &'a [String],
        terminal: Option<usize>,
    ) -> Self {
        let top = most.min(classes.len());
        let widths = images.iter().map(|path| columns(&visible(&path.to_string_lossy())));
        let mut path = widths.max().unwrap_or(0).clamp(columns("picture"), Self::PATH);
        let shown: Vec<_> = classes.iter().map(|class| visible(class)).collect();
        let unknown = threshold.map_or(0, |_| columns(UNKNOWN));
        let mut class = widest(shown.iter().map(AsRef::as_ref)).min(Self::CLASS).max(unknown);
        let several = images.len() > 1;
        if let Some(width) = terminal {
            // After a class come its probability and blanks before and after; the decision is a class without them.
            let decision = usize::from(several && threshold.is_some());
            let (columns, before) = if several { (top.max(1) + decision, path.min(Self::LEAST)) } else { (1, 0) };
            class = class.min((width.saturating_sub(before) / columns).saturating_sub(10).max(Self::LEAST));
            path = path.min(width.saturating_sub(columns * (class + 10)).max(Self::LEAST));
        }
        Self { format, classes, shown, top, threshold, path: several.then_some(path), class, cut: terminal.is_some() }
    }

    /// The line above all others, if the format has one.
    pub fn head(&self) -> Option<String> {
        match self.format {
            Format::Jsonl => None,
            Format::Csv => {
                let mut names: Vec<String> = ["file", "class", "probability"].map(String::from).into();
                names.extend(self.threshold.map(|_| "best_class".into()));
                names.extend((2..=self.top).flat_map(|rank| [format!("class_{rank}"), format!("probability_{rank}")]));
                names.push("error".into());
                Some(record(names))
            }
            Format::Table => {
                let mut head = pad("picture", self.path?);
                if self.threshold.is_some() {
                    let _ = write!(head, "  {}", pad("class", self.class));
                }
                for rank in 1..=self.top {
                    let _ = write!(head, "  {}", pad(&format!("{rank}."), self.class + 8));
                }
                Some(head.trim_end().into())
            }
        }
    }

    /// The line of a picture with the probabilities of all classes.
    pub fn line(&self, image: &Path, probabilities: &[f64]) -> String {
        let best = top(probabilities, self.top);
        let (first, share) = best.first().map_or(("", 0.0), |&(index, share)| (self.classes[index].as_str(), share));
        let class = if self.threshold.is_some_and(|least| share < least) { UNKNOWN } else { first };
        let image = image.to_string_lossy();
        match self.format {
            Format::Csv => {
                let mut fields = vec![image.into_owned(), class.into(), share.to_string()];
                fields.extend(self.threshold.map(|_| first.into()));
                fields.extend(best.iter().skip(1).flat_map(|&(i, share)| [self.classes[i].clone(), share.to_string()]));
                fields.push(String::new());
                record(fields)
            }
            Format::Jsonl => {
                let prediction = |&(index, probability): &(usize, f64)| json!({ "class": self.classes[index], "index": index, "probability": probability });
                let predictions: Vec<_> = best.iter().map(prediction).collect();
                json!({ "image": image, "class": class, "probability": share, "predictions": predictions }).to_string()
            }
            Format::Table => {
                let row = |&(index, share): &(usize, f64)| {
                    format!("{} {:6.2}%", pad(&cut(&self.shown[index], self.class), self.class), share * 100.0)
                };
                let mut rows: Vec<String> = best.iter().map(row).collect();
                let Some(width) = self.path else {
                    if let Some(least) = self.threshold.filter(|_| class == UNKNOWN) {
                        rows.insert(0, format!("{UNKNOWN}, below {}%; the most probable:", least * 100.0));
                    }
                    return rows.join("\n");
                };
                if self.threshold.is_some() {
                    rows.insert(0, pad(&cut(&visible(class), self.class), self.class));
                }
                let image = visible(&image);
                let name = if self.cut { cut_start(&image, width) } else { image.into_owned() };
                format!("{}  {}", pad(&name, width), rows.join("  "))
            }
        }
    }

    /// The line for a picture without a prediction: on standard output for tools, else (`Err`) on standard error.
    pub fn broken(&self, image: &Path, error: &dyn std::error::Error) -> Result<String, String> {
        let image = image.to_string_lossy();
        match self.format {
            Format::Jsonl => Ok(json!({ "image": image, "error": error.to_string() }).to_string()),
            Format::Csv => {
                let pairs = 2 + 2 * self.top.saturating_sub(1) + usize::from(self.threshold.is_some());
                let mut fields = vec![image.into_owned()];
                fields.extend(std::iter::repeat_n(String::new(), pairs));
                fields.push(error.to_string());
                Ok(record(fields))
            }
            Format::Table => Err(format!("error: {}", visible(&error.to_string()))),
        }
    }
}

/// A record of CSV without the end of its line.
fn record(fields: Vec<String>) -> String {
    csv([fields]).trim_end_matches('\n').into()
}

/// A probability, such as 0.6 or 60%.
pub fn probability(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(share) => share.trim().parse::<f64>().map(|share| share / 100.0),
        None => text.replacen(',', ".", 1).parse::<f64>(),
    };
    match value {
        Ok(value) if (0.0..=1.0).contains(&value) && !text.contains(',') => Ok(value),
        Ok(value) if (0.0..=1.0).contains(&value) => Err(format!("write {value} with a point")),
        Ok(value) if value > 1.0 && value <= 100.0 && !text.contains('%') => {
            Err(format!("expected a probability from 0 to 1, such as {} or {value}%", value / 100.0))
        }
        _ => Err("expected a probability from 0 to 1, such as 0.6 or 60%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataError;

    fn classes() -> [String; 4] {
        ["apfel", "my pear", "橙子", "a class with a very long name"].map(String::from)
    }

    #[test]
    fn the_table_lines_up_and_fits_the_terminal() {
        let classes = classes();
        let images = ["a.png", "橙子/b.png", "photos/of/a/long/walk/through/the/mountains/c.png"].map(PathBuf::from);
        for threshold in [None, Some(0.7)] {
            for terminal in [None, Some(40), Some(80), Some(120)] {
                let output = Output::new(Format::Table, 3, threshold, &images, &classes, terminal);
                let lines = images.each_ref().map(|image| output.line(image, &[0.2, 0.1, 0.6, 0.1]));
                let short: Vec<_> = lines[..2].iter().map(|line| columns(line)).collect();
                assert_eq!(short[0], short[1], "{lines:?}");
                if let Some(width) = terminal.filter(|&width| width >= 100 || width >= 80 && threshold.is_none()) {
                    assert!(lines.iter().all(|line| columns(line) <= width), "{width}: {lines:#?}");
                    assert!(columns(&output.head().unwrap()) <= width);
                }
                assert_eq!(lines[2].contains("photos/of"), terminal.is_none(), "{lines:#?}");
                assert!(lines[2].contains("c.png"));
                assert_eq!(lines[0].contains("unknown"), threshold.is_some(), "{lines:#?}");
                // Columns begin below their heading, as a terminal counts them.
                let (head, line) = (output.head().unwrap(), &lines[1]);
                let at = |text: &str, part: &str| columns(&text[..text.find(part).unwrap()]);
                assert_eq!(at(&head, "1."), at(line, "  橙子  ") + 2, "{head}\n{line}");
            }
        }
        // A short path is no narrower than its heading.
        let output = Output::new(Format::Table, 1, None, &images[..2], &classes, None);
        let (head, line) = (output.head().unwrap(), output.line(&images[0], &[0.7, 0.1, 0.1, 0.1]));
        assert_eq!(head.find("1."), line.find("apfel"), "{head}\n{line}");
    }

    #[test]
    fn csv_is_read_back_as_it_was() {
        let classes = ["a,b", "say \"hi\"", "two\nlines", "橙子"].map(String::from);
        let images = ["x,1.png", "y \"2\".png", "new\nline.png"].map(PathBuf::from);
        for (threshold, header) in [
            (None, "file,class,probability,class_2,probability_2,class_3,probability_3,error"),
            (Some(0.5), "file,class,probability,best_class,class_2,probability_2,class_3,probability_3,error"),
        ] {
            let output = Output::new(Format::Csv, 3, threshold, &images, &classes, None);
            let shares = [[0.1, 0.2, 0.3, 0.4], [0.625, 0.125, 0.125, 0.125], [0.0625, 0.0625, 0.75, 0.125]];
            let mut text = output.head().unwrap() + "\n";
            assert_eq!(text.trim_end(), header);
            for (image, shares) in images.iter().zip(&shares) {
                text += &(output.line(image, shares) + "\n");
            }
            let error = DataError::Decode { path: "no, \"good\".png".into(), reason: "x".into() };
            text += &(output.broken(Path::new("no, \"good\".png"), &error).unwrap() + "\n");
            let mut reader = ::csv::Reader::from_reader(text.as_bytes());
            let rows: Vec<std::collections::HashMap<String, String>> =
                reader.deserialize().collect::<Result<_, _>>().unwrap();
            assert_eq!(rows.len(), 4);
            let unknown = threshold.is_some();
            for (row, (file, class)) in
                rows.iter().zip([("x,1.png", "橙子"), ("y \"2\".png", "a,b"), ("new\nline.png", "two\nlines")])
            {
                assert_eq!(row["file"], file);
                let expected = if unknown && file == "x,1.png" { "unknown" } else { class };
                assert_eq!((row["class"].as_str(), row["error"].as_str()), (expected, ""));
                assert_eq!(row.get("best_class").map(String::as_str), unknown.then_some(class));
            }
            assert_eq!((rows[0]["probability"].as_str(), rows[0]["class_2"].as_str()), ("0.4", "two\nlines"));
            assert!(rows[3]["class"].is_empty() && rows[3]["error"].contains("no, \"good\".png"));
        }
    }

    #[test]
    fn below_the_threshold_the_class_is_unknown() {
        let classes = classes();
        let one = [PathBuf::from("a.png")];
        let json = |threshold, shares: &[f64]| -> serde_json::Value {
            let output = Output::new(Format::Jsonl, 2, threshold, &one, &classes, None);
            serde_json::from_str(&output.line(&one[0], shares)).unwrap()
        };
        let shares = [0.25, 0.0, 0.75, 0.0];
        for (threshold, class) in
            [(None, "橙子"), (Some(0.75), "橙子"), (Some(0.76), "unknown"), (Some(1.0), "unknown")]
        {
            let found = json(threshold, &shares);
            assert_eq!((&found["class"], &found["probability"]), (&class.into(), &0.75.into()));
            assert_eq!(found["predictions"][0]["class"], "橙子");
        }
        let table = Output::new(Format::Table, 2, Some(0.8), &one, &classes, None).line(&one[0], &shares);
        assert!(table.starts_with("unknown, below 80%; the most probable:\n橙子") && table.lines().count() == 3);
        assert_eq!(probability("60%"), Ok(0.6));
        assert_eq!(probability("0.6"), Ok(0.6));
        assert!(probability("0,6").unwrap_err().contains("write 0.6 with a point"));
        assert!(probability("60").unwrap_err().contains("0.6 or 60%"));
        for wrong in ["-1", "x", "nan", "101%", "", "1e9"] {
            assert!(probability(wrong).unwrap_err().contains("from 0 to 1"), "{wrong}");
        }
    }
}
