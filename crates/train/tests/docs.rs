//! The pages for users, held against the program: commands parse, flags and variables exist, links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use alexnet_train::cli::Cli;
use clap::CommandFactory;
use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};

/// Flags of cargo, pip, launchers and the scripts in `benches/`, which the pages name too.
const OTHERS: &str = "release workspace package test bench bin example path ignored no-deps no-default-features features \
    data-binary only rounds list alexnet exact nocapture lib dev out-dir index-url open \
    mpi mca signal";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The files below `path` that are text, and what they say.
fn texts(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_dir() {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        return paths.iter().filter(|path| !path.ends_with("target")).flat_map(|path| texts(path)).collect();
    }
    std::fs::read_to_string(path).into_iter().map(|text| (path.to_owned(), text)).collect()
}

/// All pages but those of warpcheck, which has a command line of its own.
fn pages() -> Vec<(PathBuf, String)> {
    let places =
        "README.md README.zh-CN.md CONTRIBUTING.md CHANGELOG.md SECURITY.md docs crates kernels examples".split(' ');
    let all = places.flat_map(|place| texts(&root().join(place)));
    let own =
        |path: &Path| path.extension().is_some_and(|x| x == "md") && !path.starts_with(root().join("crates/warpcheck"));
    all.filter(|(path, _)| own(path)).collect()
}

/// The lines of a page's `sh` blocks, and the rest of it without any block.
fn split(page: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut commands, mut prose, mut block) = (Vec::new(), Vec::new(), None);
    for line in page.lines() {
        match (block, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => block = Some(language),
            (Some(_), Some(_)) => block = None,
            (Some("sh"), None) => commands.push(line),
            (Some(_), None) => {}
            (None, None) => prose.push(line),
        }
    }
    (commands, prose)
}

/// A line's words up to a comment, a pipe or a redirection; quotes are taken off.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars().chain([' ']) {
        match quote {
            Some(mark) if c == mark => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ' ' && word.is_empty() => {}
            None if c == ' ' && matches!(word.as_str(), "|" | ">" | "&&" | "#") => return words,
            None if c == ' ' => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words
}

/// What stands after `start` in a text, each time, as long as `part` says.
fn after<'a>(text: &'a str, start: &'a str, part: fn(char) -> bool) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).map(move |(at, _)| {
        let rest = &text[at + start.len()..];
        &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())]
    })
}

fn flags(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_long().map(String::from));
    own.chain(command.get_subcommands().flat_map(flags)).collect()
}

#[test]
fn every_command_parses() {
    let mut count = 0;
    for (path, page) in pages() {
        for line in split(&page).0 {
            let mut words = words(line);
            let variables = words.iter().take_while(|word| word.starts_with("ALEXNET_")).count();
            words.drain(..variables);
            // A launcher and its own flags.
            if words.first().is_some_and(|word| ["mpirun", "mpiexec", "srun", "torchrun"].contains(&word.as_str())) {
                words.drain(..words.iter().position(|word| word == "alexnet").unwrap_or(0));
            }
            let cargo = ["cargo", "run", "--release", "--"];
            if words.len() > cargo.len() && words[..cargo.len()] == cargo {
                words.splice(..cargo.len(), ["alexnet".to_owned()]);
            }
            if words.first().is_some_and(|word| word == "alexnet") {
                count += 1;
                let parsed = Cli::command().try_get_matches_from(&words);
                let help = |error: &clap::Error| matches!(error.kind(), DisplayHelp | DisplayVersion);
                assert!(parsed.as_ref().err().is_none_or(help), "{}: {line}\n{}", path.display(), parsed.unwrap_err());
            }
        }
    }
    assert!(count > 80, "{count} commands");
}

#[test]
fn every_flag_exists() {
    let mut cli = Cli::command();
    cli.build();
    let mut known = flags(&cli);
    known.extend(OTHERS.split_whitespace().map(String::from));
    for (path, page) in pages() {
        let prose = split(&page).1.join("\n");
        for flag in after(&prose, "`--", |c| c.is_ascii_lowercase() || c == '-').filter(|flag| !flag.is_empty()) {
            assert!(known.contains(flag), "{}: --{flag}", path.display());
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for (path, page) in pages() {
        let prose = split(&page).1.join("\n");
        let targets =
            ["](", "src=\"", "srcset=\"", "href=\""].map(|start| after(&prose, start, |c| !")\" \n".contains(c)));
        for target in targets.into_iter().flatten().filter(|target| !target.contains("://") && !target.starts_with('#'))
        {
            let file = path.with_file_name("").join(target.split('#').next().unwrap());
            assert!(file.exists(), "{}: {target}", path.display());
        }
    }
}

#[test]
fn the_readmes_are_short_and_have_the_same_commands() {
    let commands = ["README.md", "README.zh-CN.md"].map(|name| {
        let page = std::fs::read_to_string(root().join(name)).unwrap();
        assert!(page.lines().count() <= 150, "{name} has {} lines", page.lines().count());
        split(&page).0.iter().map(|line| words(line)).collect::<Vec<_>>()
    });
    assert!(!commands[0].is_empty());
    assert_eq!(commands[0], commands[1]);
}

#[test]
fn the_second_test_command_is_the_same_everywhere() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let command = readme.lines().find(|line| line.contains("-- --ignored")).unwrap();
    for place in [".ci/run", "README.zh-CN.md", "crates/train/tests"] {
        let texts = texts(&root().join(place));
        let named = texts.iter().filter(|(path, text)| !path.ends_with("docs.rs") && text.contains("--test browser"));
        for (path, text) in named.clone() {
            assert!(text.contains(command), "{} has another command than README.md: {command}", path.display());
        }
        assert!(named.count() > 0, "{place} does not name the command");
    }
}

/// `benches/speed-tables` writes them from what `benches/against-pytorch` measured.
#[test]
fn the_tables_of_speed_are_those_of_the_results() {
    let script = root().join("benches/speed-tables");
    let output = std::process::Command::new("python3").arg(script).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_variable_is_in_the_page_of_variables() {
    let variables = |texts: Vec<(PathBuf, String)>| -> BTreeSet<String> {
        let names = |text: &str| -> Vec<String> {
            after(text, "ALEXNET_", |c| c.is_ascii_uppercase() || c == '_').map(String::from).collect()
        };
        texts.iter().flat_map(|(_, text)| names(text)).filter(|name| !name.is_empty()).collect()
    };
    let sources = ["kernels", "crates", "tests", "benches", "examples", ".ci", "build.rs"];
    let used = variables(sources.iter().flat_map(|place| texts(&root().join(place))).collect());
    assert_eq!(used, variables(texts(&root().join("docs/environment.md"))));
}
