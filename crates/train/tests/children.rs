//! The programs that `alexnet` starts, pip and npm: they run no code but their own, and do not outlive it.
#![cfg(unix)]

mod command;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command::{Place, done};

/// Waits until `condition` holds.
#[track_caller]
fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(signal: &str, id: &str) {
    assert!(Command::new("/bin/kill").args([signal, id.trim()]).status().unwrap().success());
}

/// `alexnet doctor --fetch-nvrtc` in a folder of the place, where pip finds packages in the folder `links` alone.
fn fetch_nvrtc(place: &Place, folder: &str) -> Command {
    let mut command = place.command("doctor --fetch-nvrtc");
    command.current_dir(place.path(folder)).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("ALEXNET_CACHE", place.path("cache")).env("XDG_CACHE_HOME", place.path("other-cache"));
    command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", place.path("links")).env_remove("ALEXNET_NVRTC");
    command
}

#[test]
fn fetching_nvrtc_runs_no_module_of_the_current_folder() {
    let place = Place::new();
    let mark = place.path("mark");
    for folder in ["here", "path", "links"] {
        fs::create_dir(place.path(folder)).unwrap();
    }
    for module in ["pip", "zipfile", "site", "sitecustomize", "usercustomize"] {
        let text = format!("open({:?}, 'w').write('ran')\n", mark.to_str().unwrap());
        fs::write(place.path("here").join(format!("{module}.py")), &text).unwrap();
        fs::write(place.path("path").join(format!("{module}.py")), &text).unwrap();
    }
    let mut command = fetch_nvrtc(&place, "here");
    command.env("PYTHONPATH", place.path("path")).env("PYTHONSTARTUP", place.path("path/pip.py"));
    let fetched = done(command.output().unwrap());
    assert!(fetched.code == 1 && fetched.error.contains("cannot fetch NVRTC"), "{fetched:?}");
    assert!(!mark.exists(), "{fetched:?}");
    // Nothing stays, and what a killed process left goes; what is not ours stays.
    for name in [".nvrtc.aB3xY9", ".nvrtc.mine", ".nvrtc.aB3xY9z"] {
        fs::create_dir(place.path("cache").join(name)).unwrap();
    }
    fetch_nvrtc(&place, "here").output().unwrap();
    assert_eq!(place.names("cache"), [".nvrtc.aB3xY9z", ".nvrtc.mine", "nvrtc.lock"]);
}

#[test]
fn fetching_nvrtc_runs_no_setup_of_a_package() {
    let place = Place::new();
    let mark = place.path("mark");
    fs::create_dir_all(place.path("links/nvidia-cuda-nvrtc-cu12-12.9.86")).unwrap();
    fs::create_dir(place.path("here")).unwrap();
    let setup = format!(
        "open({:?}, 'w').write('ran')\nfrom setuptools import setup\n\
         setup(name='nvidia-cuda-nvrtc-cu12', version='12.9.86')\n",
        mark.to_str().unwrap()
    );
    fs::write(place.path("links/nvidia-cuda-nvrtc-cu12-12.9.86/setup.py"), setup).unwrap();
    let name = "Metadata-Version: 2.1\nName: nvidia-cuda-nvrtc-cu12\nVersion: 12.9.86\n";
    fs::write(place.path("links/nvidia-cuda-nvrtc-cu12-12.9.86/PKG-INFO"), name).unwrap();
    let packed = Command::new("tar")
        .args(["-czf", "nvidia-cuda-nvrtc-cu12-12.9.86.tar.gz", "nvidia-cuda-nvrtc-cu12-12.9.86"])
        .current_dir(place.path("links"))
        .status();
    assert!(packed.unwrap().success());
    let mut command = fetch_nvrtc(&place, "here");
    // Built in this environment, which has setuptools, in place of a fresh one, for which there is no network.
    command.env("PIP_NO_BUILD_ISOLATION", "0").env("PIP_NO_BINARY", ":all:");
    let fetched = done(command.output().unwrap());
    assert!(fetched.code == 1 && fetched.error.contains("cannot fetch NVRTC"), "{fetched:?}");
    assert!(!mark.exists(), "{fetched:?}");
}

/// A stand-in for npm in the folder `bin`.
fn npm(place: &Place, script: &str) {
    fs::create_dir_all(place.path("bin")).unwrap();
    let path = place.path("bin/npm");
    fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn fetch(place: &Place) -> Command {
    let mut command = place.command("data fetch");
    command.env("PATH", place.path("bin")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// An npm that starts another process and does not end; the ids of both.
fn start(place: &Place) -> (Child, [String; 2]) {
    npm(place, "sleep 1000 &\necho $! > ../../child\necho $$ > ../../npm.tmp\nmv ../../npm.tmp ../../npm\nwait");
    let _ = fs::remove_file(place.path("npm"));
    let running = fetch(place).spawn().unwrap();
    wait("npm starts", || place.path("npm").exists());
    (running, ["npm", "child"].map(|name| String::from_utf8(place.read(name)).unwrap().trim().to_owned()))
}

fn runs(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

#[cfg(target_os = "linux")]
#[test]
fn a_stopped_fetch_ends_npm_and_removes_its_folder() {
    use std::os::unix::process::ExitStatusExt as _;

    let place = Place::new();
    for (signal, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        let (mut running, ids) = start(&place);
        kill(signal, &running.id().to_string());
        assert_eq!(running.wait().unwrap().signal(), Some(number));
        wait("npm ends", || !ids.iter().any(|id| runs(id)));
        assert_eq!(place.names("cache"), [".lock"], "{signal}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_next_fetch_removes_what_a_killed_one_left() {
    let place = Place::new();
    let (mut running, ids) = start(&place);
    kill("-KILL", &running.id().to_string());
    running.wait().unwrap();
    // npm still runs: its folder stays until it ends.
    npm(&place, "exit 1");
    let folders =
        |place: &Place| place.names("cache").into_iter().filter(|name| name.starts_with(".npm.")).collect::<Vec<_>>();
    for name in [".npm.mine", ".npm.aB3xY9z", ".npm.aB3xY9"] {
        fs::create_dir(place.path("cache").join(name)).unwrap();
    }
    fetch(&place).output().unwrap();
    assert_eq!(folders(&place).len(), 3, "{:?}", folders(&place));
    ids.iter().for_each(|id| kill("-KILL", id));
    wait("npm ends", || !ids.iter().any(|id| runs(id)));
    fetch(&place).output().unwrap();
    assert_eq!(folders(&place), [".npm.aB3xY9z", ".npm.mine"]);
}

#[test]
fn npm_runs_no_code_of_the_folders_above_or_the_environment() {
    let place = Place::new();
    npm(&place, "env > ../../environment\ncp package.json ../../package.json\necho \"$@\" > ../../arguments\nexit 1");
    let mut command = fetch(&place);
    let set = [
        ("NODE_OPTIONS", "--require /evil.js"),
        ("npm_config_script_shell", "/evil"),
        ("NPM_CONFIG_NODE_OPTIONS", "--require /evil.js"),
        ("npm_config_git", "/evil"),
        ("npm_config_registry", "https://registry.example"),
        ("NPM_CONFIG_HTTPS-PROXY", "http://proxy.example"),
        ("HTTPS_PROXY", "http://proxy.example"),
    ];
    command.envs(set).output().unwrap();
    let environment = String::from_utf8(place.read("environment")).unwrap();
    assert!(!environment.contains("evil"), "{environment}");
    for kept in ["npm_config_registry=https://registry.example", "HTTPS_PROXY=http://proxy.example"] {
        assert!(environment.lines().any(|line| line == kept), "{environment}");
    }
    // With a package.json of its own, npm looks for .npmrc in no folder above.
    assert_eq!(place.read("package.json"), b"{}");
    assert!(String::from_utf8(place.read("arguments")).unwrap().contains("--ignore-scripts"));
    assert!(!Path::new("/evil").exists());
}
