//! Tips for what people type from habit: flags, commands and values of PyTorch, timm, Ultralytics, fastai and Keras.
//! clap's own guess is by spelling; this one is by meaning.

use std::num::{ParseFloatError, ParseIntError};
use std::path::Path;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// Flags of other programs. The tip is given by commands that have the flag `of`, or by all if it is empty; the first
/// entry that fits counts.
struct Habit {
    words: &'static [&'static str],
    of: &'static str,
    tip: &'static str,
}

const fn habit(words: &'static [&'static str], of: &'static str, tip: &'static str) -> Habit {
    Habit { words, of, tip }
}

const FLAGS: &[Habit] = &[
    habit(
        &["optimizer", "optimiser", "optim", "opt", "adam", "adamw", "sgd", "rmsprop", "betas"],
        "momentum",
        "the optimizer is SGD with momentum; --lr, --momentum, --nesterov and --weight-decay set it",
    ),
    habit(&["wd", "decay", "l2"], "weight-decay", "write --weight-decay"),
    habit(&["learning-rate", "learningrate", "lrate", "lr0", "base-lr"], "lr", "write --lr"),
    habit(&["bs", "b", "batch", "batchsize", "batch-size-train"], "batch-size", "write --batch-size"),
    habit(
        &[
            "grad-accum",
            "accum",
            "accum-steps",
            "gradient-accumulation-steps",
            "accumulation-steps",
            "grad-accum-steps",
        ],
        "accumulate",
        "write --accumulate",
    ),
    habit(
        &["clip-grad", "grad-clip", "clip", "clip-norm", "max-grad-norm", "gradient-clip-val", "clip-grad-norm"],
        "momentum",
        "gradients are not clipped; a smaller --lr or a warm-up (--warmup 1) keeps a run from diverging",
    ),
    habit(
        &["sched", "scheduler", "lr-scheduler", "lr-schedule", "cos-lr", "cosine"],
        "schedule",
        "write --schedule cosine or step",
    ),
    habit(&["warmup-epochs", "lr-warmup-epochs", "warm-up"], "warmup", "write --warmup"),
    habit(&["lr-step-size", "decay-epochs", "step"], "step-size", "write --step-size"),
    habit(&["lr-gamma", "decay-rate"], "gamma", "write --gamma"),
    habit(&["smoothing", "label-smooth"], "label-smoothing", "write --label-smoothing"),
    habit(&["model-ema", "model-ema-decay", "ema-decay"], "ema", "write --ema 0.999"),
    habit(&["drop", "dropout-rate"], "dropout", "write --dropout"),
    habit(
        &["amp", "fp16", "half", "float16", "mixed-precision", "mixed", "autocast", "use-amp", "16"],
        "precision",
        "write --precision fp16 (on a GPU)",
    ),
    habit(&["bf16", "bfloat16"], "precision", "write --precision bf16"),
    habit(&["tf32", "allow-tf32"], "precision", "write --precision tf32 (on a GPU)"),
    habit(&["fp32", "float32"], "precision", "write --precision fp32"),
    habit(&["fp16", "float16", "amp", "keep-fp16"], "half", "write --half"),
    habit(
        &["int8", "quantize", "quantise", "bf16", "bfloat16", "quantization"],
        "half",
        "export writes fp32, or fp16 with --half; onnxruntime's quantize_dynamic makes int8 of the ONNX file",
    ),
    habit(
        &["dynamic", "dynamic-axes", "opset", "simplify", "optimize"],
        "half",
        "leave it out: the batch is always dynamic, the operator set is 17",
    ),
    habit(
        &["amp", "fp16", "half", "float16", "bf16", "bfloat16", "precision", "mixed-precision"],
        "",
        "this command computes in fp32; train and bench take --precision, export takes --half",
    ),
    habit(
        &["gpu", "gpus", "gpu-id", "cuda", "use-cuda", "use-gpu", "accelerator"],
        "device",
        "write --device cuda, or cuda:1 for the second GPU",
    ),
    habit(&["cpu", "no-cuda", "no-gpu", "disable-cuda", "use-cpu"], "device", "write --device cpu"),
    habit(
        &[
            "workers",
            "num-workers",
            "nworkers",
            "n-workers",
            "dataloader-num-workers",
            "jobs",
            "j",
            "nproc",
            "num-threads",
            "n-jobs",
        ],
        "threads",
        "write --threads N, CPU threads that load pictures and compute; all cores by default",
    ),
    habit(
        &["world-size", "distributed", "ddp", "multi-gpu", "local-rank", "dist-url", "multiprocessing-distributed"],
        "",
        "a launcher starts the processes: mpirun -n 4 alexnet train",
    ),
    habit(
        &["compile", "torchcompile", "channels-last", "cudnn-benchmark", "pin-mem", "pin-memory"],
        "",
        "leave it out: there is nothing to choose",
    ),
    habit(
        &["sync-batchnorm", "sync-batch-norm", "syncbn"],
        "sync-bn",
        "write --sync-bn, with several --shards or processes",
    ),
    habit(&["deterministic"], "", "leave it out: the same seed always gives the same bits"),
    habit(
        &["pretrained", "weights", "finetune", "fine-tune", "from-pretrained", "initial-checkpoint", "transfer"],
        "init",
        "write --init FILE, a .pth or .safetensors; no weights are downloaded. Other classes than the file's: add \
         --replace-classifier",
    ),
    habit(
        &[
            "checkpoint",
            "ckpt",
            "load",
            "restore",
            "continue",
            "last-checkpoint",
            "resume-from",
            "resume-from-checkpoint",
            "auto-resume",
        ],
        "resume",
        "--resume RUN continues a run, --init FILE starts a new one from weights",
    ),
    habit(
        &["checkpoint", "ckpt", "weights", "load", "resume", "run", "pretrained"],
        "",
        "give the run folder or the checkpoint as the first argument, without a flag",
    ),
    habit(
        &["model", "net", "network", "variant", "architecture", "model-name", "backbone", "a", "cfg"],
        "arch",
        "write --arch",
    ),
    habit(
        &["model", "net", "network", "m", "arch", "architecture", "model-path"],
        "",
        "give the run folder or the checkpoint as the first argument; it knows its --arch",
    ),
    habit(
        &[
            "dataset",
            "data-dir",
            "data-path",
            "datadir",
            "root",
            "data-root",
            "train-dir",
            "train-data",
            "dataset-path",
            "d",
        ],
        "data",
        "write --data DIR",
    ),
    habit(
        &[
            "img-size",
            "imgsz",
            "image-size",
            "img",
            "input-size",
            "size",
            "imgs",
            "crop-size",
            "train-crop-size",
            "resolution",
        ],
        "resize",
        "write --resize N",
    ),
    habit(
        &["img-size", "imgsz", "image-size", "input-size", "resize"],
        "",
        "the checkpoint knows its image size: leave it out",
    ),
    habit(&["num-classes", "nc", "n-classes"], "", "leave it out: the classes come from the data or the checkpoint"),
    habit(&["early-stopping", "early-stop", "patience-epochs", "earlystopping"], "patience", "write --patience N"),
    habit(&["class-weights", "class-weight", "weighted-sampler", "balanced", "weighted"], "balance", "write --balance"),
    habit(
        &["val-split", "validation-split", "val-ratio", "valid-pct", "valid", "validation", "split"],
        "val",
        "write --val 20% or a number of images",
    ),
    habit(
        &["hflip", "flip", "horizontal-flip", "fliplr", "random-crop", "aug", "augmentation"],
        "augment",
        "write --augment crop,flip or any of them",
    ),
    habit(&["aa", "randaugment", "auto-augment", "rand-aug"], "rand-augment", "write --rand-augment 2,9"),
    habit(&["color-jitter", "colour-jitter"], "jitter", "write --jitter 0.4"),
    habit(&["mixup-alpha"], "mixup", "write --mixup"),
    habit(&["cutmix-alpha"], "cutmix", "write --cutmix"),
    habit(&["random-erasing", "random-erase", "reprob", "erasing"], "cutout", "write --augment crop,flip,cutout"),
    habit(&["random-seed", "manual-seed", "s", "random-state"], "seed", "write --seed"),
    habit(&["epoch", "num-epochs", "n-epochs", "max-epochs", "e", "nb-epochs"], "epochs", "write --epochs"),
    habit(
        &["freeze-features", "freeze-backbone", "feature-extract", "linear-probe"],
        "freeze",
        "write --freeze features",
    ),
    habit(
        &["print-freq", "log-interval", "log-freq", "logging-steps", "log-every-n-steps", "p"],
        "log-every",
        "write --log-every N",
    ),
    habit(
        &["save-freq", "save-period", "save-every", "checkpoint-freq", "save-steps", "save-interval"],
        "checkpoint-every",
        "write --checkpoint-every N for epochs, or a time such as 90s or 10m",
    ),
    habit(&["eval-every", "eval-freq", "val-interval", "eval-interval"], "test-every", "write --test-every N"),
    habit(
        &[
            "output",
            "o",
            "output-dir",
            "save-dir",
            "outdir",
            "log-dir",
            "logdir",
            "project",
            "name",
            "exp",
            "experiment",
            "exp-name",
        ],
        "out",
        "write --out DIR",
    ),
    habit(&["out", "output-path", "save", "outfile"], "output", "write -o FILE"),
    habit(
        &["evaluate", "eval", "test-only", "val-only", "test"],
        "resume",
        "`alexnet eval RUN` evaluates a trained network",
    ),
    habit(&["topk", "top-k", "k", "num-predictions"], "top", "write --top N"),
    habit(
        &["conf", "confidence", "min-confidence", "conf-thres", "conf-threshold", "score-threshold"],
        "threshold",
        "write --threshold P, such as 0.6",
    ),
    habit(
        &["source", "input", "image", "images", "img", "file", "i", "dir", "folder", "data"],
        "threshold",
        "pictures and folders are arguments after the run, without a flag",
    ),
    habit(
        &["output", "o", "out", "save", "save-txt", "project"],
        "threshold",
        "the result goes to standard output: --csv > found.csv",
    ),
    habit(&["p"], "port", "write --port N"),
    habit(&["share", "public", "listen", "bind", "server-name"], "host", "write --host 0.0.0.0 to let others in"),
    habit(&["verbose", "v", "vv", "quiet", "q", "silent", "debug"], "", "leave it out: there is one level of output"),
    habit(&["version", "V"], "", "`alexnet --version` prints the version"),
    habit(
        &["wandb", "tensorboard", "log-wandb"],
        "",
        "leave it out: a run folder always holds TensorBoard events, metrics.jsonl and metrics.csv",
    ),
    habit(&["yes", "y", "overwrite", "f", "exist-ok"], "force", "write --force"),
];

/// Commands of other programs.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["version"], "`alexnet --version` prints the version"),
    (
        &["fit", "learn", "run", "start", "finetune", "fine-tune", "tune"],
        "`alexnet train` trains; --init FILE starts from weights",
    ),
    (&["resume", "continue", "restart"], "`alexnet train --resume RUN` continues a run"),
    (&["test", "val", "validate", "evaluate", "score", "accuracy"], "`alexnet eval RUN` evaluates"),
    (
        &["infer", "inference", "classify", "detect", "recognise", "recognize"],
        "`alexnet predict RUN PICTURE` classifies",
    ),
    (&["convert", "save", "onnx", "quantize", "dump"], "`alexnet export RUN -o net.onnx` writes other formats"),
    (&["load"], "`alexnet import FILE -o net.safetensors` reads weights of other programs"),
    (
        &["download", "fetch", "dataset", "prepare"],
        "`alexnet data fetch` downloads CIFAR-10; `alexnet data --help` lists more",
    ),
    (&["benchmark", "profile", "speed", "time"], "`alexnet bench` times the training step"),
    (
        &["plot", "plots", "graph", "visualize", "visualise", "html", "tensorboard"],
        "`alexnet report RUN` writes a page of curves; `tensorboard --logdir RUN` reads its events",
    ),
    (
        &["ui", "web", "webui", "app", "gui", "server", "api", "demo", "gradio"],
        "`alexnet serve RUN` opens a page and an API",
    ),
    (&["gpu", "cuda", "info", "env", "check", "devices", "nvidia-smi"], "`alexnet doctor` checks the GPU"),
    (&["summary", "layers", "model"], "`alexnet train --epochs 0` prints the table of layers"),
    (&["completion"], "`alexnet completions bash` prints the script"),
];

/// Values of other programs.
const VALUES: &[(&str, &[&str], &str)] = &[
    (
        "tta",
        &["flip", "hflip", "horizontal", "true", "yes", "tencrop"],
        "--tta=mirror averages an image and its mirror",
    ),
    ("tta", &["false", "no", "off"], "--tta=none"),
    ("precision", &["half", "float16", "amp", "mixed", "16", "16-mixed", "true"], "--precision fp16"),
    ("precision", &["bfloat16", "bf16-mixed"], "--precision bf16"),
    ("precision", &["float32", "full", "32", "float", "single"], "--precision fp32"),
    (
        "arch",
        &["alexnet", "alex", "default"],
        "torchvision is the AlexNet of PyTorch, original that of 2012, cifar the one for 32x32 images",
    ),
    ("schedule", &["steplr", "multistep", "multisteplr", "drop"], "--schedule step"),
    (
        "schedule",
        &["cosineannealing", "cosineannealinglr", "cos", "cosine-annealing"],
        "--schedule cosine; --warmup for a warm-up",
    ),
    ("schedule", &["none", "off", "fixed", "flat"], "--schedule constant"),
    ("schedule", &["onecycle", "onecyclelr", "1cycle"], "--schedule one-cycle"),
    (
        "schedule",
        &["linear", "poly", "polynomial"],
        "--schedule triangle falls in a straight line; --warmup for the rise",
    ),
    ("device", &["gpu", "nvidia", "0"], "--device cuda, or cuda:1 for the second GPU"),
    (
        "device",
        &["mps", "metal", "tpu", "rocm", "xpu", "hip"],
        "only NVIDIA GPUs are supported; --device cpu runs everywhere",
    ),
    ("format", &["torch", "pth", "state-dict", "state_dict"], "--format pytorch"),
    ("format", &["pt", "jit", "script", "libtorch"], "--format torchscript"),
    ("format", &["json", "ndjson"], "--format jsonl prints one JSON object per line"),
    ("format", &["text", "human", "pretty"], "--format table"),
];

/// Flags that exclude each other, and why.
const CONFLICTS: &[([&str; 2], &str)] = &[
    (
        ["resume", "out"],
        "a resumed run goes on in its own folder: leave --out out. A new run from its weights: --init \
         RUN/best.safetensors --out DIR",
    ),
    (["resume", "config"], "a resumed run keeps its settings: leave --config out, or start a new run with it"),
    (["resume", "recipe"], "a resumed run keeps its settings: leave --recipe out, or start a new run with it"),
    (["resume", "runs"], "--runs starts new runs; the same --runs command with the same --out does what is left"),
    (
        ["recipe", "config"],
        "both give all settings: choose one. `alexnet train --recipe NAME --epochs 0 --out DIR` writes the recipe's to \
         DIR/config.toml",
    ),
    (["json", "csv"], "they are two formats of the output: choose one"),
    (["json", "format"], "--json is --format jsonl: choose one"),
    (["csv", "format"], "--csv is --format csv: choose one"),
];

/// The error with a tip, if there is one for what was typed; `words` are the program's arguments without its name.
pub fn with_tip(mut error: Error, cli: &Command, words: &[String]) -> Error {
    if let Some(message) = no_number(&error) {
        return Error::raw(ErrorKind::ValueValidation, message).format(&mut command(cli, words).1.clone());
    }
    let Some(tip) = tip(&error, cli, words) else { return error };
    use ContextKind::{Suggested, SuggestedArg, SuggestedSubcommand, SuggestedValue};
    for guess in [Suggested, SuggestedArg, SuggestedSubcommand, SuggestedValue] {
        error.remove(guess);
    }
    error.insert(Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    error
}

fn tip(error: &Error, cli: &Command, words: &[String]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (path, command) = command(cli, words);
    let argument = text(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let typed = text(ContextKind::InvalidSubcommand)?;
            if path == "data" {
                return Some(format!("for the pictures in a folder: alexnet data --data {typed} show"));
            }
            let word = typed.to_lowercase();
            COMMANDS.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, tip)| (*tip).into())
        }
        ErrorKind::UnknownArgument => match argument?.strip_prefix('-') {
            Some(flag) => of_flag(flag, command),
            None => of_word(argument?, &path, command, words),
        },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (flag, value) = (flag_name(argument?), text(ContextKind::InvalidValue)?.to_lowercase());
            let known = VALUES.iter().find(|(of, values, _)| *of == flag && values.contains(&value.as_str()));
            known.map(|(.., tip)| (*tip).into())
        }
        ErrorKind::ArgumentConflict => {
            let prior = match error.get(ContextKind::PriorArg)? {
                ContextValue::String(text) => vec![text.as_str()],
                ContextValue::Strings(texts) => texts.iter().map(String::as_str).collect(),
                _ => return None,
            };
            let first = flag_name(argument?);
            let both = |pair: &[&str; 2]| {
                prior.iter().map(|text| flag_name(text)).any(|second| pair.contains(&first) && pair.contains(&second))
            };
            CONFLICTS.iter().find(|(pair, _)| both(pair)).map(|(_, tip)| (*tip).into())
        }
        _ => None,
    }
}

/// `lr` of `--lr <RATE>`.
fn flag_name(shown: &str) -> &str {
    shown.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default()
}

/// The subcommand that the words name, and its path.
fn command<'a>(cli: &'a Command, words: &[String]) -> (String, &'a Command) {
    let (mut path, mut found) = (String::new(), cli);
    for word in words.iter().filter(|word| !word.starts_with('-')) {
        let Some(sub) = found.find_subcommand(word) else { break };
        path = format!("{path} {word}").trim_start().into();
        found = sub;
    }
    (path, found)
}

fn of_flag(flag: &str, command: &Command) -> Option<String> {
    let name = flag.trim_start_matches('-').replace('_', "-").to_lowercase();
    let has = |of: &str| command.get_arguments().any(|arg| arg.get_long() == Some(of));
    // `--batch_size`: the flag itself, spelt otherwise.
    if has(&name) {
        return Some(format!("write --{name}"));
    }
    let fits = |habit: &&Habit| habit.words.contains(&name.as_str()) && (habit.of.is_empty() || has(habit.of));
    FLAGS.iter().find(fits).map(|habit| habit.tip.into())
}

/// For a word where none is expected.
fn of_word(word: &str, path: &str, command: &Command, words: &[String]) -> Option<String> {
    let before = words.iter().position(|other| other == word).and_then(|at| words.get(at.checked_sub(1)?));
    let flag = before.and_then(|before| before.strip_prefix("--"));
    let optional = |arg: &&Arg| arg.is_require_equals_set() && arg.get_long() == flag;
    if let Some(arg) = command.get_arguments().find(optional) {
        let flag = flag.unwrap_or_default();
        let known = VALUES.iter().find(|(of, values, _)| *of == flag && values.contains(&word.to_lowercase().as_str()));
        return Some(match known {
            Some((.., tip)) => (*tip).into(),
            None => {
                let values: Vec<_> = arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
                let fits = values.is_empty() || values.iter().any(|value| value == word);
                format!("a value of this flag comes after `=`: --{flag}={}", if fits { word } else { &values[0] })
            }
        });
    }
    let file = Path::new(word);
    let ends = |endings: &[&str]| file.extension().is_some_and(|found| endings.iter().any(|end| found == *end));
    match path {
        "train" if file.join("last.safetensors").is_file() => Some(format!("to continue this run: --resume {word}")),
        "train" if ends(&["toml"]) => Some(format!("for settings from a file: --config {word}")),
        "train" if ends(&["safetensors", "pth", "pt", "tar"]) => {
            Some(format!("to start from these weights: --init {word}"))
        }
        "train" | "data show" | "data verify" | "data speed" | "eval" | "bench"
            if command.get_arguments().any(|arg| arg.get_long() == Some("data")) || path.starts_with("data ") =>
        {
            Some(format!("for the pictures in a folder: --data {word}"))
        }
        "export" | "import" | "report" => Some(format!("for the file to write: -o {word}")),
        _ => None,
    }
}

/// A number that cannot be parsed, in plain words in place of Rust's.
fn no_number(error: &Error) -> Option<String> {
    let (Some(ContextValue::String(argument)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let source = std::error::Error::source(error)?;
    let whole = source.is::<ParseIntError>();
    (whole || source.is::<ParseFloatError>())
        .then(|| format!("invalid value '{value}' for '{argument}': {}", why_no_number(value, whole)))
}

fn why_no_number(text: &str, whole: bool) -> String {
    let expected = if whole { "a whole number" } else { "a number" };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse::<f64>().ok();
    if let Some((left, right)) = text.split_once(',').filter(|(left, right)| digits(left) && digits(right)) {
        return match whole && right.len() == 3 {
            true => format!("write {left}{right} without a comma"),
            false if whole => format!("expected {expected}"),
            false => format!("write {left}.{right} with a point"),
        };
    }
    if let Some(share) = text.strip_suffix('%').and_then(|share| share.parse::<f64>().ok()).filter(|_| !whole) {
        return format!("write {} in place of per cent", share / 100.0);
    }
    if whole && text.strip_prefix('-').is_some_and(digits) {
        return format!("expected {expected}, not a negative one");
    }
    if whole && digits(text) {
        return "the number is too large".into();
    }
    if whole && value.is_some_and(|value| value >= 0.0 && value.fract() == 0.0 && value < 1e15) {
        return format!("write {}", value.unwrap_or_default());
    }
    let separators = |c: char| matches!(c, '_' | '\'' | ' ');
    let plain: String = text.chars().filter(|c| !separators(*c)).collect();
    if plain != text && digits(&plain) {
        return format!("write {plain}");
    }
    format!("expected {expected}")
}

#[cfg(test)]
mod tests;
