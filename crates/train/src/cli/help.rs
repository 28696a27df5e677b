//! What the help of all commands has in common: defaults in the first line of a flag, `-h, --help` at the end, examples,
//! environment variables.

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;

/// Longest first line of a flag in `-h`, its default included: at 80 columns it fits below the flag.
pub const FIRST_LINE: usize = 70;

const ENVIRONMENT: &str = "\
Environment:
  ALEXNET_DATA   Folder of CIFAR-10, in place of the user's cache folder
  ALEXNET_CACHE  Folder of compiled GPU kernels and of a fetched NVRTC
  ALEXNET_NVRTC  Folder or file of NVRTC (libnvrtc.so)
  ALEXNET_NCCL   Folder or file of NCCL (libnccl.so.2), or off
  ALEXNET_MPI    MPI library of training on many processes (libmpi.so.…)
  ALEXNET_SIMD   CPU instructions: portable, neon, avx2, avx512 or amx
  ALEXNET_SYNC   1: wait for each GPU kernel, so that an error names its kernel
  ALEXNET_PDL    0: no programmatic dependent launch (compute capability 9.0)
  ALEXNET_CODE   Form in which kernels go to the GPU's driver: cubin or ptx
  ALEXNET_DUMP   cubin or ptx: write each kernel to the folder alexnet-dump, too

Environment of the tests and scripts in the source tree:
  ALEXNET_PYTHON       Python with PyTorch, onnx, onnxruntime and Playwright
  ALEXNET_CHROMIUM     Chromium that opens the pages of serve and report
  ALEXNET_BIN          The binary to test
  ALEXNET_TEST_DRIVER  cuda: test on a real GPU, not on warpcheck
  ALEXNET_MUTATIONS    Mutations of each file format (default 10,000)
  ALEXNET_UNIT         The one kernel file that the compile test compiles";

/// Command, and lines that are a good start with it.
const EXAMPLES: [(&str, &str); 18] = [
    (
        "",
        "alexnet train --data sample --recipe fast    offline, in a minute\n\
         alexnet train --epochs 3                     CIFAR-10 is downloaded once\n\
         alexnet eval runs/cifar-1\n\
         alexnet predict runs/cifar-1 photo.jpg",
    ),
    (
        "train",
        "alexnet train --data sample --recipe fast    offline, in a minute\n\
         alexnet train --recipe strong --device cuda\n\
         alexnet train --data pictures/ --init weights.pth --replace-classifier\n\
         alexnet train --resume runs/cifar-1 --epochs 120",
    ),
    ("eval", "alexnet eval runs/cifar-1\nalexnet eval runs/cifar-1/last.safetensors --tta=shifts --json"),
    (
        "predict",
        "alexnet predict runs/cifar-1 photo.jpg\nalexnet predict runs/cifar-1 photos/ --top 1 --csv > found.csv",
    ),
    (
        "export",
        "alexnet export runs/cifar-1 -o net.onnx --with-preprocess --softmax\n\
         alexnet export runs/cifar-1 -o weights.pth\nalexnet export runs/cifar-1 -o small.onnx --half",
    ),
    (
        "import",
        "alexnet import weights.pth -o net.safetensors\n\
         alexnet import weights.pth -o net.safetensors --classes cat,dog --replace-classifier",
    ),
    ("bench", "alexnet bench\nalexnet bench --arch torchvision --batch-size 32 --precision fp16"),
    (
        "report",
        "alexnet report runs/cifar-1 runs/cifar-2 -o both.html\nalexnet report runs/cifar-1 --no-test --svg plots",
    ),
    (
        "serve",
        "alexnet serve runs/cifar-1\n\
         curl -F file=@photo.jpg http://127.0.0.1:8017/predict",
    ),
    (
        "data",
        "alexnet data fetch\nalexnet data show --data pictures/\nalexnet data augment -o seen.png --rand-augment 2,9",
    ),
    ("data show", "alexnet data show\nalexnet data show --data pictures/"),
    ("data fetch", "alexnet data fetch"),
    ("data verify", "alexnet data verify\nalexnet data verify --data pictures/"),
    ("data augment", "alexnet data augment -o seen.png --augment crop,flip,cutout --jitter 0.4"),
    ("data speed", "alexnet data speed --data pictures/ --resize 224"),
    ("doctor", "alexnet doctor\nalexnet doctor --fetch-nvrtc"),
    ("gradcheck", "alexnet gradcheck\nalexnet gradcheck --layer conv --shape 2x9x3 --elements 0"),
    (
        "completions",
        "alexnet completions bash > ~/.local/share/bash-completion/completions/alexnet\n\
         alexnet completions zsh > ~/.zfunc/_alexnet\n\
         alexnet completions fish > ~/.config/fish/completions/alexnet.fish",
    ),
];

/// The command line. `short` leaves lists of possible values out where they would not fit a flag's line in `-h`.
pub fn definition(short: bool) -> Command {
    finish(Cli::command(), "", short)
}

fn finish(command: Command, path: &str, short: bool) -> Command {
    let heading = command.get_arguments().filter_map(Arg::get_help_heading).last().map(String::from);
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).display_order(1000);
    let help = help.help("Print help: -h in short, --help with details");
    let help = match heading {
        Some(heading) => help.help_heading(heading),
        None => help,
    };
    let mut command = command.disable_help_flag(true).mut_args(|arg| finish_flag(arg, short)).arg(help);
    if let Some((_, lines)) = EXAMPLES.iter().find(|(name, _)| *name == path) {
        let examples = format!("Examples:\n  {}", lines.replace('\n', "\n  "));
        if path.is_empty() {
            command = command.after_long_help(format!("{examples}\n\n{ENVIRONMENT}"));
        }
        command = command.after_help(examples);
    }
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(&name, |sub| finish(sub, &path, short));
    }
    command
}

/// Puts the default at the end of the first line, as the flags of `train` have it, whose defaults depend on the recipe.
fn finish_flag(arg: Arg, short: bool) -> Arg {
    let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let (help, long) = (arg.get_help().map(ToString::to_string), arg.get_long_help().map(ToString::to_string));
    let mut first = help.unwrap_or_default();
    let undocumented = first.len();
    if !default.is_empty() && !arg.is_hide_default_value_set() {
        let at = first.find(" [env: ").unwrap_or(first.len());
        first.insert_str(at, &format!(" [default: {}]", default.join(" ")));
    }
    let values = arg.get_possible_values().iter().map(|value| value.get_name().len() + 2).sum::<usize>();
    let crowded = values > 0 && first.chars().count() + values + 18 > FIRST_LINE;
    let arg = match long {
        Some(long) => arg.long_help(format!("{first}{}", &long[undocumented.min(long.len())..])),
        None => arg,
    };
    let hide = arg.is_hide_possible_values_set() || (short && crowded);
    arg.help(first).hide_default_value(true).hide_possible_values(hide)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command with its path.
    fn all(command: &Command, path: &str) -> Vec<(String, Command)> {
        let mut found = vec![(path.to_owned(), command.clone())];
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            found.extend(all(sub, format!("{path} {}", sub.get_name()).trim()));
        }
        found
    }

    #[test]
    fn every_flag_has_a_short_first_line_and_every_command_an_example() {
        for (path, command) in all(&definition(true), "") {
            for arg in command.get_arguments() {
                let first =
                    arg.get_help().unwrap_or_else(|| panic!("{path}: {} has no help", arg.get_id())).to_string();
                let length = first.chars().count();
                assert!(length <= FIRST_LINE && !first.contains('\n'), "{path} {}: {length}: {first}", arg.get_id());
                assert!(!first.ends_with('.'), "{path} {}: {first}", arg.get_id());
            }
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:\n") || path == "man", "{path}");
            for line in examples.lines().filter_map(|line| line.strip_prefix("  alexnet ")) {
                let line = line.split("   ").next().unwrap().split(" > ").next().unwrap();
                let words = std::iter::once("alexnet").chain(line.split_whitespace());
                definition(false).try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }

    #[test]
    fn help_is_wrapped_and_ends_with_the_flag_for_it() {
        for width in [40, 80, 120] {
            for short in [true, false] {
                for (path, command) in all(&definition(short), "") {
                    let mut command = command.term_width(width).max_term_width(width);
                    let help = if short { command.render_help() } else { command.render_long_help() }.to_string();
                    // clap does not wrap the usage.
                    let long = |line: &&str| line.chars().count() > width && !line.starts_with("Usage:");
                    for line in help.lines().filter(long) {
                        // What has no blank cannot be wrapped.
                        assert!(line.split("  ").all(|part| !part.trim().contains(' ')), "{path} at {width}: {line}");
                    }
                    let end = help.find("-h, --help");
                    for flag in command.get_arguments().filter_map(Arg::get_long).filter(|flag| *flag != "help") {
                        let at = help.find(&format!("    --{flag}")).or_else(|| help.find(&format!(", --{flag}")));
                        assert!(at.is_some() && at < end || flag == "version", "{path}: {flag} in {help}");
                    }
                }
            }
        }
    }
}
