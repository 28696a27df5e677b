//! Completions and manual pages have every command and every flag.

mod command;

use command::Place;

/// The long flags that a command's help lists.
fn flags(help: &str) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    for word in help.split(|c: char| !(c.is_ascii_lowercase() || c == '-')) {
        if let Some(flag) = word.strip_prefix("--")
            && help.lines().any(|line| {
                let line = line.trim_start();
                line.starts_with(&format!("--{flag}")) || line.contains(&format!(", --{flag}"))
            })
            && !flag.is_empty()
        {
            flags.push(flag.into());
        }
    }
    flags.sort();
    flags.dedup();
    flags
}

/// The names of the commands in a help text.
fn commands(help: &str) -> Vec<String> {
    let rows = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let rows = rows.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    rows.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(String::from).collect()
}

#[test]
fn every_flag_is_completed_and_described() {
    let place = Place::new();
    let out = place.succeed("man pages");
    let mut commands = commands(&place.succeed("--help"));
    assert!(commands.len() >= 9 && commands.contains(&"predict".into()), "{commands:?}");
    let within = self::commands(&place.succeed("data --help"));
    assert_eq!(within, ["show", "fetch", "verify", "augment", "speed"]);
    commands.extend(within.iter().map(|name| format!("data {name}")));
    assert!(out.contains(&format!("wrote {} pages", commands.len() + 1)), "{out}");
    let scripts =
        ["bash", "zsh", "fish", "powershell", "elvish"].map(|shell| place.succeed(&format!("completions {shell}")));
    for command in commands {
        let name = command.replace(' ', "-");
        let page = String::from_utf8(place.read(&format!("pages/alexnet-{name}.1"))).unwrap();
        let escaped = name.replace('-', "\\-");
        assert!(page.contains(&format!("alexnet-{name}")) || page.contains(&format!("alexnet\\-{escaped}")), "{page}");
        let flags = flags(&place.succeed(&format!("{command} --help")));
        assert!(flags.contains(&"help".to_string()), "{command}: {flags:?}");
        for flag in flags {
            let escaped = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(page.contains(&escaped), "{command}: no {flag} in its page");
            assert!(scripts.iter().all(|script| script.contains(&flag)), "{command}: no {flag}");
        }
    }
    place.fail("man pages", 1, &["already exists", "--force"]);
    place.succeed("man pages --force");
}

#[test]
fn every_page_that_a_page_names_is_there() {
    let place = Place::new();
    place.succeed("man pages");
    let pages = place.names("pages");
    for page in &pages {
        let text = String::from_utf8(place.read(&format!("pages/{page}"))).unwrap().replace('\\', "");
        for name in text.split("(1)").filter_map(|before| before.split_whitespace().last()) {
            if name.starts_with("alexnet") {
                assert!(pages.contains(&format!("{name}.1")), "{page} names {name}(1): {pages:?}");
            }
        }
    }
}

#[test]
fn the_help_names_every_environment_variable() {
    fn variables(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() && !matches!(entry.file_name().to_str(), Some("target" | ".git")) {
                variables(&path, found);
            } else if kind.is_file()
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                for rest in text.split("ALEXNET_").skip(1) {
                    let name: String = rest.chars().take_while(|&c| c.is_ascii_uppercase() || c == '_').collect();
                    found.push(name);
                }
            }
        }
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["crates", "kernels", "tests", "benches", ".ci"] {
        variables(&root.join(folder), &mut found);
    }
    found.sort();
    found.dedup();
    assert!(found.len() >= 12, "{found:?}");
    let help = Place::new().succeed("--help");
    for name in found.iter().filter(|name| !name.is_empty()) {
        assert!(help.contains(&format!("ALEXNET_{name} ")), "no ALEXNET_{name} in the help");
    }
}
