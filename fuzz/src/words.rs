//! Text: settings, and the records of a run.

use std::path::{Path, PathBuf};

use alexnet_train::report::{self, Run, plot};
use alexnet_train::run::config::{Config, flag};
use alexnet_train::run::metrics::{self, Metrics, Steps};

use super::{Folder, with_file};

/// A run's settings or a recipe. Settings that are valid are written, and read back as they were.
pub fn settings(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let path = Path::new("x.toml");
    let _ = (Config::tta_of_run(text), Config::exif_of_run(text), Config::of_run(text, path));
    let Ok(config) = Config::parse(text, path) else { return 0 };
    if config.validate(&flag).is_err() {
        return 0;
    }
    let written = config.to_toml().expect("valid settings can be written");
    assert_eq!(Config::parse(&written, path).expect("what was written can be read"), config);
    let _ = (config.transforms(), config.mix_config(), config.image_size(), config.model().architecture(10));
    for images in [0, 1, 1000] {
        let _ = config.epoch_steps(images);
        let rate = config.learning_rate(images);
        for step in [0, 1, 99, 1 << 40] {
            // A factor above 1 ends at infinity.
            assert!(rate.at(step) >= 0.0, "the learning rate of step {step} is {}", rate.at(step));
        }
    }
    0
}

/// The records of a run, in either file; the report about it; what a resumed run keeps of them.
pub fn metrics(input: &[u8]) -> usize {
    let (records, steps) = with_file(input, |path| (metrics::read(path), metrics::read_steps(path)));
    let (records, steps) = (records.unwrap_or_default(), steps.unwrap_or_default());
    for record in &records {
        let text = serde_json::to_string(record).expect("a record can be written");
        assert_eq!(serde_json::from_str::<metrics::Record>(&text).expect("what was written can be read"), *record);
    }
    let run = |name: &str| Run {
        name: name.into(),
        path: PathBuf::from("runs/x"),
        records: records.clone(),
        steps: steps.clone(),
        config: "epochs = 3\n".into(),
        network: "cifar, 32×32".into(),
        input: String::new(),
        filters: None,
        tested: None,
    };
    let runs = [run("a"), run("b")];
    let page = report::page(&runs);
    assert!(page.ends_with("</html>\n") || page.ends_with("</html>"), "the page is not whole");
    assert!(!page.contains("<script"), "the page has a script");
    for plot in report::curves(&runs) {
        for word in ["NaN", "inf"] {
            let coordinates = plot.svg.split("points=\"").chain(plot.svg.split(" d=\"")).skip(1);
            for list in coordinates.filter_map(|rest| rest.split('"').next()) {
                assert!(!list.contains(word), "a curve has a point at {word}: {list}");
            }
        }
        assert!(plot::standalone(&plot.svg, &["a", "b"]).trim_end().ends_with("</svg>"));
    }
    // What a resumed run keeps, the next one keeps too.
    thread_local!(static FOLDER: Folder = Folder::new());
    FOLDER.with(|folder| {
        let kept = |open: &dyn Fn(&Path) -> bool| {
            let path = folder.write("metrics.jsonl", input);
            open(&path).then(|| std::fs::read(&path).expect("it was opened"))
        };
        let epochs = |path: &Path| Metrics::open(path, 3).is_ok();
        let updates = |path: &Path| Steps::open(path, 99).is_ok();
        for open in [&epochs as &dyn Fn(&Path) -> bool, &updates] {
            let Some(first) = kept(open) else { continue };
            assert!(input.starts_with(&first), "lines were changed");
            let path = folder.path().join("metrics.jsonl");
            assert!(open(&path), "what was kept is refused");
            assert!(std::fs::read(&path).is_ok_and(|again| again == first), "what was kept is shortened");
        }
    });
    0
}
