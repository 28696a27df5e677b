//! Which epoch is the best: the one with the highest accuracy, of equals the one with the lowest loss.

mod small;

use std::path::Path;
use std::sync::Arc;

use alexnet_core::device::cpu::Cpu;
use alexnet_train::run::metrics::Record;
use alexnet_train::run::trainer::Step;
use alexnet_train::run::{Config, Stop, checkpoint};

use small::{Watch, config, records};

/// Starts or resumes the run in `path`.
fn go(path: &Path, config: &Config, stop: &Stop, watch: &mut Watch) {
    small::go(Arc::new(Cpu::new(1).unwrap()), path, config, stop, watch).unwrap();
}

#[test]
fn of_epochs_with_the_same_accuracy_the_one_with_the_lower_loss_is_the_best() {
    // Few test images and a low rate: most epochs tie.
    let key = |r: &Record| (r.test_acc.unwrap(), -r.test_loss.unwrap());
    let best_of =
        |all: &[Record]| all.iter().fold(all[0].clone(), |best, r| if key(r) > key(&best) { r.clone() } else { best });
    let ties = |seed| {
        let config = Config { limit_test: Some(10), epochs: 4, lr: 0.002, seed, ..config() };
        let reference = tempfile::tempdir().unwrap();
        let run = reference.path().join("run");
        go(&run, &config, &Stop::default(), &mut Watch::default());
        let all = records(&run);
        let best = best_of(&all);
        let first = all.iter().find(|r| r.test_acc == best.test_acc).unwrap().epoch;
        (first < best.epoch).then_some((config, reference, all, best))
    };
    let (config, reference, all, best) = (0..20).find_map(ties).expect("a tie to decide");
    let epoch = |run: &Path| checkpoint::open(&run.join("best.safetensors")).unwrap().metadata().progress.epoch;
    assert_eq!(epoch(&reference.path().join("run")), best.epoch);
    // Stopped after every epoch: the best one's loss is kept. The schedule is that of the whole run.
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for _ in 0..config.epochs {
        let (stop, mut steps) = (Stop::default(), 0);
        let step = Box::new(|_: Step| {
            steps += 1;
            if steps == 5 {
                stop.request();
            }
        });
        go(&run, &config, &stop, &mut Watch { step: Some(step), ..Watch::default() });
    }
    go(&run, &config, &Stop::default(), &mut Watch::default());
    assert_eq!((epoch(&run), records(&run)), (best.epoch, all.clone()));
}
