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

#[test]
fn every_flag_is_completed_and_described() {
    let place = Place::new();
    let out = place.succeed("man pages");
    let help = place.succeed("--help");
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 9 && commands.contains(&"predict"), "{commands:?}");
    assert!(out.contains(&format!("wrote {} pages", commands.len() + 1)), "{out}");
    let scripts =
        ["bash", "zsh", "fish", "powershell", "elvish"].map(|shell| place.succeed(&format!("completions {shell}")));
    for command in commands {
        let page = String::from_utf8(place.read(&format!("pages/alexnet-{command}.1"))).unwrap();
        assert!(
            page.contains(&format!("alexnet-{}", command)) || page.contains(&format!("alexnet\\-{command}")),
            "{page}"
        );
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
