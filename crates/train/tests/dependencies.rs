//! The dependencies are those that `deny.toml` allows, and those that `docs/design.md` gives a reason for. `cargo deny` checks
//! the former too; here it needs no program besides cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What cargo knows of the packages that are built for this platform.
fn metadata() -> Value {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn packages(metadata: &Value) -> Vec<&Value> {
    let built: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| text(node, "id")).collect();
    metadata["packages"].as_array().unwrap().iter().filter(|package| built.contains(text(package, "id"))).collect()
}

/// Whether a licence expression can be met: of each alternative one is allowed.
fn allowed(expression: &str, allow: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" AND ").all(|part| part.split(" OR ").any(|one| allow.contains(&one.trim())))
}

#[test]
fn licences_sources_and_duplicates_are_those_of_deny_toml() {
    let deny: toml::Table = std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let allow: Vec<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages(&metadata) {
        let name = text(package, "name");
        assert!(allowed(text(package, "license"), &allow), "{name}: {}", package["license"]);
        let source = package["source"].as_str();
        assert!(
            source.is_none_or(|from| from == "registry+https://github.com/rust-lang/crates.io-index"),
            "{name}: {source:?}"
        );
        versions.entry(name).or_default().insert(text(package, "version"));
    }
    // Without the older versions that are listed, one of each is left.
    for skipped in deny["bans"]["skip"].as_array().unwrap() {
        let (name, start) = skipped["crate"].as_str().unwrap().split_once('@').unwrap();
        let found = versions.get_mut(name).unwrap_or_else(|| panic!("deny.toml lists {name}, which is not used"));
        let before = found.len();
        found.retain(|version| !version.starts_with(&format!("{start}.")));
        assert!(
            before > 1 && found.len() < before,
            "deny.toml lists {name}@{start}, of which there is no second version"
        );
    }
    let double: Vec<_> = versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
    assert!(double.is_empty(), "two versions of a crate that deny.toml does not list: {double:?}");
}

#[test]
fn every_direct_dependency_has_its_reason_in_the_design() {
    let metadata = metadata();
    let members: Vec<&Value> =
        metadata["packages"].as_array().unwrap().iter().filter(|p| p["source"].is_null()).collect();
    let direct = members.iter().flat_map(|member| member["dependencies"].as_array().unwrap());
    let used: BTreeSet<&str> =
        direct.filter(|one| one["kind"].is_null() && !one["source"].is_null()).map(|one| text(one, "name")).collect();
    let page = std::fs::read_to_string(root().join("docs/design.md")).unwrap();
    let section = page.split("## Dependencies").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let stated: BTreeSet<&str> = rows.flat_map(|row| row.split(", ")).map(|name| name.trim_matches('`')).collect();
    assert_eq!(used, stated);
}
