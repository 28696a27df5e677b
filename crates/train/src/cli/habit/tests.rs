use super::*;
use crate::cli::help;

/// What clap prints for a command line that is wrong.
fn printed(line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(String::from).collect();
    let cli = help::definition(false);
    let all = std::iter::once("alexnet".to_owned()).chain(words.clone());
    let error = cli.clone().try_get_matches_from(all).unwrap_err();
    with_tip(error, &cli, &words).render().to_string()
}

#[test]
fn every_habit_has_its_tip() {
    let cli = help::definition(false);
    let subcommands = || cli.get_subcommands().filter(|sub| sub.get_name() != "help");
    for habit in FLAGS {
        let has = |sub: &&Command| sub.get_arguments().any(|arg| arg.get_long() == Some(habit.of));
        let command = subcommands().find(|sub| habit.of.is_empty() || has(sub));
        let command = command.unwrap_or_else(|| panic!("no command has --{}", habit.of));
        for word in habit.words {
            let dashes = if word.len() == 1 { "-" } else { "--" };
            let is_own = |sub: &Command| sub.get_arguments().any(|arg| arg.get_long() == Some(word));
            if word.len() > 1 && !is_own(command) {
                assert!(of_flag(&format!("-{word}"), command).is_some(), "{} {dashes}{word}", command.get_name());
            }
        }
    }
    for (words, tip) in COMMANDS {
        for word in *words {
            if cli.find_subcommand(word).is_none() {
                assert!(printed(word).contains(tip), "{word}: {}", printed(word));
            }
        }
    }
}

#[test]
fn flags_from_habit() {
    for (line, tip) in [
        ("train --optimizer adam", "tip: the optimizer is SGD"),
        ("train --adam", "tip: the optimizer is SGD"),
        ("train --amp", "tip: write --precision fp16"),
        ("train --fp16", "tip: write --precision fp16"),
        ("bench --fp16", "tip: write --precision fp16"),
        ("train --bf16", "tip: write --precision bf16"),
        ("predict run a.png --fp16", "tip: this command computes in fp32"),
        ("train --gpu", "tip: write --device cuda"),
        ("predict run a.png --gpu", "tip: write --device cuda"),
        ("train --cuda", "tip: write --device cuda"),
        ("train --workers 4", "tip: write --threads"),
        ("train --num-workers 4", "tip: write --threads"),
        ("train --num_workers=4", "tip: write --threads"),
        ("train -j 4", "tip: write --threads"),
        ("train --pretrained", "tip: write --init FILE"),
        ("train --wd 0.1", "tip: write --weight-decay"),
        ("train --learning-rate 0.1", "tip: write --lr"),
        ("train --batch_size 3", "tip: write --batch-size"),
        ("train --model alexnet", "tip: write --arch"),
        ("predict --model run a.png", "tip: give the run folder or the checkpoint as the first argument"),
        ("train --dataset x", "tip: write --data DIR"),
        ("train --img-size 64", "tip: write --resize"),
        ("train --imgsz 64", "tip: write --resize"),
        ("train --checkpoint x", "tip: --resume RUN continues a run, --init FILE"),
        ("eval --checkpoint x", "tip: give the run folder or the checkpoint as the first argument"),
        ("version", "tip: `alexnet --version`"),
        ("test run", "tip: `alexnet eval RUN`"),
    ] {
        let found = printed(line);
        assert!(found.starts_with("error: ") && found.contains(tip), "{line}: no `{tip}` in {found}");
        assert_eq!(found.matches("tip: ").count(), 1, "{line}: {found}");
    }
    // Without a habit, clap's guess by spelling stays.
    assert!(printed("train --epohcs 3").contains("--epochs"));
    assert!(printed("trian").contains("train"));
}

#[test]
fn words_and_values_from_habit() {
    for (line, tip) in [
        ("train pictures/", "tip: for the pictures in a folder: --data pictures/"),
        ("data pictures/", "tip: for the pictures in a folder: alexnet data --data pictures/ show"),
        ("train net.pth", "tip: to start from these weights: --init net.pth"),
        ("train my.toml", "tip: for settings from a file: --config my.toml"),
        ("eval run pictures", "tip: for the pictures in a folder: --data pictures"),
        ("export run alexnet.onnx", "tip: for the file to write: -o alexnet.onnx"),
        ("import a.pth b.safetensors", "tip: for the file to write: -o b.safetensors"),
        ("train --tta flip", "tip: --tta=mirror"),
        ("train --tta shifts", "tip: a value of this flag comes after `=`: --tta=shifts"),
        ("train --tta=flip", "tip: --tta=mirror"),
        ("train --batch-norm false", "tip: a value of this flag comes after `=`: --batch-norm=false"),
        ("train --nesterov true --lr 1", "tip: a value of this flag comes after `=`: --nesterov=true"),
        ("train --precision half", "tip: --precision fp16"),
        ("train --device gpu", "tip: --device cuda"),
        ("train --arch alexnet", "tip: torchvision is the AlexNet of PyTorch"),
        ("train --resume a --out b", "tip: a resumed run goes on in its own folder"),
        ("train --out b --resume a", "tip: a resumed run goes on in its own folder"),
        ("train --resume a --config b", "tip: a resumed run keeps its settings"),
        ("train --recipe fast --config b", "tip: both give all settings"),
        ("train --resume a --runs 3", "tip: --runs starts new runs"),
    ] {
        let found = printed(line);
        assert!(found.contains(tip), "{line}: no `{tip}` in {found}");
    }
}

#[test]
fn numbers_in_plain_words() {
    for (line, words) in [
        ("train --lr 0,01", "'0,01' for '--lr <RATE>': write 0.01 with a point"),
        ("train --lr 1%", "write 0.01 in place of per cent"),
        ("train --lr fast", "expected a number"),
        ("train --epochs -3", "expected a whole number, not a negative one"),
        ("train --seed -1", "expected a whole number, not a negative one"),
        ("train --epochs 1e3", "write 1000"),
        ("train --epochs 3.0", "write 3"),
        ("train --epochs 2.5", "expected a whole number"),
        ("train --limit-train 50,000", "write 50000 without a comma"),
        ("train --limit-train 50_000", "write 50000"),
        ("train --seed 99999999999999999999", "the number is too large"),
        ("train --runs x", "expected a whole number"),
        ("eval run --threads two", "expected a whole number"),
    ] {
        let found = printed(line);
        assert!(found.contains(words), "{line}: no `{words}` in {found}");
        for rust in ["literal", "digit found", "target type"] {
            assert!(!found.contains(rust), "{line}: {found}");
        }
    }
}
