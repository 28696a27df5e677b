//! `recipes/results`: what whole runs of the recipes reached. The runs take hours, so that only their records are kept
//! here; this holds them against the recipes of today and against what docs/recipes.md says of them.

use std::path::{Path, PathBuf};

use alexnet_train::run::{Config, Recipe};
use clap::ValueEnum;

/// The folders in a folder, sorted; none if it does not exist.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn the_page_of_recipes_states_what_the_last_epochs_reached() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../../docs/recipes.md")).unwrap();
    let results = folders(&root.join("recipes/results"));
    assert!(!results.is_empty());
    for result in results {
        let recipe = Recipe::from_str(name(&result), false).unwrap();
        let mut accuracies = Vec::new();
        for run in folders(&result) {
            let seed = name(&run).strip_prefix("seed-").unwrap().parse().unwrap();
            let found = Config::read(&run.join("config.toml")).unwrap();
            // The image size is always written; when it is tested and saved does not change what is trained.
            let Config { resize, test_every, checkpoint_every, .. } = found;
            let expected = Config { seed, resize, test_every, checkpoint_every, ..recipe.config().unwrap() };
            assert_eq!(found, expected, "{}", run.display());
            let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
            assert_eq!(last["epoch"], found.epochs, "{} was not ended", run.display());
            assert_eq!(last["dataset"], "cifar10", "{}", run.display());
            accuracies.push(100.0 * last["test_acc"].as_f64().unwrap());
        }
        let n = accuracies.len() as f64;
        let mean = accuracies.iter().sum::<f64>() / n;
        let deviation = (accuracies.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let stated = match accuracies.len() {
            1 => format!("{mean:.2} % (n = 1)"),
            n => format!("{mean:.2} ± {deviation:.2} % (n = {n})"),
        };
        let start = format!("| `{}` |", name(&result));
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(&start)).collect();
        assert!(rows.iter().any(|row| row.contains(&stated)), "no `{stated}` in {rows:?}");
    }
}
